"""Vehicles of a pair, how their counts are written as an answer, and how an answer is read back."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dataset_builders.errors import DataError

__all__ = ["ANSWER_FORMAT", "VEHICLES", "parse_counts", "render_counts"]

# The five classes of DroneVehicle, in the order of the answer.
VEHICLES = ("car", "truck", "bus", "van", "freight car")
ANSWER_FORMAT = ", ".join(f"{name} N" for name in VEHICLES)

_ANSWER = re.compile(", ".join(rf"{name} (0|[1-9][0-9]*)" for name in VEHICLES), re.ASCII)


def render_counts(counts: Mapping[str, int]) -> str:
    """Write counts as an answer: ``car 12, truck 0, bus 1, van 3, freight car 0``.

    All classes stand in the answer, always in this order, so that equal counts are equal texts and every number has
    its place.
    """
    return ", ".join(f"{name} {counts.get(name, 0)}" for name in VEHICLES)


def parse_counts(answer: str) -> dict[str, int]:
    """Read an answer back; the inverse of ``render_counts``.

    Returns:
        One count a class, in the order of ``VEHICLES``.

    Raises:
        DataError: The answer is not of that form. White space around it is allowed, nothing else.
    """
    match = _ANSWER.fullmatch(answer.strip())
    if not match:
        raise DataError(f"no counts of vehicles: {answer!r}; expected '{ANSWER_FORMAT}'")
    return dict(zip(VEHICLES, map(int, match.groups()), strict=True))
