"""Reliability diagrams: how often an answer is right, by how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.calibration import expected_calibration_error
from fusion.calibrators import Calibrator
from fusion.coverage import binomial_interval
from fusion.rows import UNLABELLED
from launch.report.decisions import Decisions

__all__ = ["Bin", "Diagram", "reliability_diagrams"]

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Photos whose best label has a probability in one range.

    Attributes:
        low: Lower end of the range.
        high: Upper end.
        photos: How many.
        confidence: Their mean probability.
        accuracy: Share that is right.
        interval: Exact 95 % interval of that share.
    """

    low: float
    high: float
    photos: int
    confidence: float
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Diagram:
    """One diagram.

    Attributes:
        name: ``base``, ``fused``, or ``review``: fused and calibrated once more for the review queue.
        photos: How many it rests on.
        error: Expected calibration error, 0 to 1.
        bins: Those that hold photos.
    """

    name: str
    photos: int
    error: float
    bins: tuple[Bin, ...]


def reliability_diagrams(decisions: Decisions, source: str, calibrator: Calibrator) -> list[Diagram]:
    """Diagrams of a test source with labels; none when no labelled photo of it has an answer.

    Args:
        decisions: The test photos.
        source: The test source.
        calibrator: Of the fused probabilities, for the review queue.
    """
    known = decisions.of_source(source) & (decisions.labels_N != UNLABELLED) & np.isfinite(decisions.p_base_NK[:, 0])
    if not known.any():
        return []
    labels_N = decisions.labels_N[known]
    with np.errstate(divide="ignore"):  # a probability of 0 is minus infinity
        base, fused = np.log(decisions.p_base_NK[known]), np.log(decisions.p_fused_NK[known])
    found = {"base": base, "fused": fused, "review": calibrator.apply(fused)}
    return [
        Diagram(name, len(labels_N), expected_calibration_error(logps, labels_N), tuple(_bins(logps, labels_N)))
        for name, logps in found.items()
    ]


def _bins(logps_NK: np.ndarray, labels_N: np.ndarray) -> Sequence[Bin]:
    confidence_N = np.exp(logps_NK.max(axis=1))
    right_N = logps_NK.argmax(axis=1) == labels_N
    bin_N = np.minimum((confidence_N * BINS).astype(np.int64), BINS - 1)
    found = []
    for number in range(BINS):
        here = bin_N == number
        photos, hits = int(here.sum()), int(right_N[here].sum())
        if photos:
            ends = (number / BINS, (number + 1) / BINS)
            mean = float(confidence_N[here].mean())
            found.append(Bin(*ends, photos, mean, hits / photos, binomial_interval(hits, photos)))
    return found
