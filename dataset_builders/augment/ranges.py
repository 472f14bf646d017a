"""Ranges that transforms draw from: (low, high)."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Pair", "ordered"]

Pair = tuple[float, float]


def ordered(least: float, most: float) -> Callable[[Pair], Pair]:
    """A validator for pydantic: low <= high, both within ``least`` to ``most``."""

    def check(pair: Pair) -> Pair:
        if not least <= pair[0] <= pair[1] <= most:
            raise ValueError(f"expected (low, high) with {least} <= low <= high <= {most}, got {pair}")
        return pair

    return check
