"""Uncertainty of the calibration error: a bootstrap whose cost does not grow with the number of rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.bootstrap import LEVEL, interval
from fusion.calibration import ECE_BINS, expected_calibration_error

__all__ = ["calibration_error_interval"]

SLICES = 64  # of a bin: rows of one slice differ in confidence by less than 1/960

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def calibration_error_interval(
    logps_NK: Floats, labels_N: Ints, *, resamples: int, rng: np.random.Generator, level: float = LEVEL
) -> tuple[float, float]:
    """Bootstrap interval of the expected calibration error, within [0, 1].

    Rows are drawn as in ``fusion.bootstrap``: counted by cells, here thin slices of confidence x right or wrong, whose
    rows count with their mean confidence. The error is a mean of absolute values, so a resample shows more of it than
    its sample did, as the sample shows more than the truth; the basic interval (Davison and Hinkley, Bootstrap Methods
    and their Application, 1997, section 5.2) reflects the resamples at the sample's value and takes that back.

    Args:
        logps_NK: Calibrated log-probabilities, rows sum to 1; at least one row.
        labels_N: Index of the right answer.
        resamples: Number of draws.
        rng: Source of randomness.
        level: Share of the distribution inside.
    """
    confidence = np.exp(logps_NK.max(axis=1))
    right = logps_NK.argmax(axis=1) == labels_N
    slices = ECE_BINS * SLICES
    cell_N = 2 * np.minimum((confidence * slices).astype(np.int64), slices - 1) + right
    counts = np.bincount(cell_N, minlength=2 * slices)
    gaps = np.bincount(cell_N, weights=right - confidence, minlength=2 * slices)
    here = np.flatnonzero(counts)
    drawn_RC = rng.multinomial(len(labels_N), counts[here] / len(labels_N), size=resamples)
    bin_CB = (here // (2 * SLICES))[:, None] == np.arange(ECE_BINS)
    gap_RB = (drawn_RC * (gaps[here] / counts[here])) @ bin_CB.astype(np.float64)
    found = expected_calibration_error(logps_NK, labels_N)
    low, high = interval(np.abs(gap_RB).sum(axis=1) / len(labels_N), level)
    return max(0.0, 2 * found - high), min(1.0, max(0.0, 2 * found - low))
