"""Temperature scaling of one model's answers, and how far its confidences can be trusted.

Log-probabilities come over all texts; they are first renormalised over the answers. Temperature scaling and the
expected calibration error: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

__all__ = [
    "TEMPERATURE_BOUNDS",
    "Reliability",
    "apply_temperature",
    "brier_score",
    "expected_calibration_error",
    "fit_temperature",
    "fit_temperature_and_prior",
    "log_loss",
    "measure",
    "prior_weights",
    "renormalise",
]

TEMPERATURE_BOUNDS = (0.05, 20.0)
LOG_FLOOR = -69.0  # natural log of about 1e-30: an answer of probability 0 stays comparable
MIN_ROWS = 10  # below, a temperature says more about luck than about the model
PRIOR_BOUNDS = (1e-4, 1 - 1e-4)
ECE_BINS = 15

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Reliability(BaseModel):
    """How good probabilities are: each figure is better when lower.

    Attributes:
        log_loss: Mean negative natural log-probability of the right answer, >= 0.
        brier: Mean squared distance to the one-hot right answer, summed over the answers, 0 to 2.
        ece: Expected calibration error of the top answer, 15 bins of equal width, 0 to 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    log_loss: float
    brier: float
    ece: float


def renormalise(logps_NK: Floats) -> Floats:
    """Log-probabilities over the answers alone: rows sum to 1, no answer falls below about 1e-30.

    Args:
        logps_NK: Natural log-probabilities; -inf is allowed, a row of nothing but -inf becomes uniform. NaN stays.
    """
    logps = np.asarray(logps_NK, dtype=np.float64)
    top = logps.max(axis=1, keepdims=True)
    shifted = logps - np.where(np.isneginf(top), 0.0, top)
    np.maximum(shifted, LOG_FLOOR, out=shifted)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # in place: of a million rows each copy counts
    return shifted


def apply_temperature(logps_NK: Floats, temperature: float) -> Floats:
    """Divide renormalised log-probabilities by a temperature > 0 and renormalise; above 1 is less confident."""
    scaled = renormalise(logps_NK)
    scaled /= temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    scaled -= np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return scaled


def fit_temperature(logps_NK: Floats, labels_N: Ints, weights_N: Floats | None = None) -> float:
    """The temperature with the least log-loss on labelled rows, within ``TEMPERATURE_BOUNDS``.

    The log-loss is convex in 1/T, so a bounded line search finds its minimum; where it falls without end (every
    row right: be ever surer; every row wrong: be ever less sure) the bound is the answer. Fewer than 10 rows leave
    the model as it is.

    Args:
        logps_NK: Natural log-probabilities of the answers, no NaN.
        labels_N: Index of the right answer.
        weights_N: Weight of every row, >= 0; equal when None.
    """
    from scipy.optimize import minimize_scalar

    rows = len(labels_N) if weights_N is None else round(float(weights_N.sum()), 6)  # shares of a row count as such
    if rows < MIN_ROWS:
        return 1.0
    low, high = np.log(TEMPERATURE_BOUNDS)

    def loss(log_temperature: float) -> float:
        return log_loss(apply_temperature(logps_NK, float(np.exp(log_temperature))), labels_N, weights_N)

    found = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4}).x)
    # The search never touches its bounds; where nothing is gained by any temperature (flat), 1 stays.
    best = min((0.0, found, low, high), key=lambda x: (round(loss(x), 12), abs(x)))
    return float(np.clip(np.exp(best), *TEMPERATURE_BOUNDS))


def fit_temperature_and_prior(logps_N2: Floats, positive_N: NDArray[np.bool_]) -> tuple[float, float]:
    """Temperature and training prior of a two-answer model whose training prior nobody wrote down.

    Logistic regression of the truth on the model's log-odds (Platt 1999), log-odds / T + c, where c is what the
    shift from the training prior to the rows' own share of positives explains (Saerens et al. 2002).

    Args:
        logps_N2: Natural log-probabilities, the positive answer first.
        positive_N: Whether the positive answer is right.

    Returns:
        Temperature within ``TEMPERATURE_BOUNDS`` and prior of positives in (0, 1).
    """
    from scipy.optimize import minimize

    share = float(np.mean(positive_N)) if len(positive_N) else 0.5
    if len(positive_N) < MIN_ROWS or not 0 < share < 1:
        return 1.0, float(np.clip(share, *PRIOR_BOUNDS))
    logps = renormalise(logps_N2)
    odds_N = logps[:, 0] - logps[:, 1]
    sign_N = np.where(positive_N, 1.0, -1.0)
    log_share = np.log(share) - np.log1p(-share)
    bounds = [tuple(np.log(TEMPERATURE_BOUNDS)), tuple(np.log(PRIOR_BOUNDS) - np.log1p(-np.array(PRIOR_BOUNDS)))]

    def loss(x: Floats) -> float:
        return float(np.logaddexp(0.0, -sign_N * (odds_N / np.exp(x[0]) + log_share - x[1])).mean())

    found = minimize(loss, x0=np.array([0.0, log_share]), method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(found[0])), float(1 / (1 + np.exp(-found[1])))


def prior_weights(positive_N: NDArray[np.bool_], prior: float) -> Floats:
    """Row weights (mean 1) that give positives the share ``prior``: calibration then holds at the training prior.

    A two-answer model trained at one share of positives is calibrated at that share; unweighted rows of another share
    would read the difference as over-confidence. All ones when one of the classes has no row.
    """
    share = float(np.mean(positive_N)) if len(positive_N) else 0.0
    if not 0 < share < 1:
        return np.ones(len(positive_N))
    return np.where(positive_N, prior / share, (1 - prior) / (1 - share))


def log_loss(logps_NK: Floats, labels_N: Ints, weights_N: Floats | None = None) -> float:
    """Weighted mean of minus the log-probability of the right answer; no single row counts more than 69 (1e-30)."""
    picked = logps_NK[np.arange(len(labels_N)), labels_N]
    return float(np.average(-np.maximum(picked, LOG_FLOOR), weights=weights_N))


def brier_score(logps_NK: Floats, labels_N: Ints, weights_N: Floats | None = None) -> float:
    """Weighted mean of the squared distance of the probabilities to the one-hot truth (Brier 1950), 0 to 2."""
    errors = np.exp(logps_NK)
    errors[np.arange(len(labels_N)), labels_N] -= 1.0
    return float(np.average((errors**2).sum(axis=1), weights=weights_N))


def expected_calibration_error(
    logps_NK: Floats, labels_N: Ints, weights_N: Floats | None = None, bins: int = ECE_BINS
) -> float:
    """Weighted mean gap between confidence and accuracy of the top answer over bins of equal width, 0 to 1."""
    confidence = np.exp(logps_NK.max(axis=1))
    right = (logps_NK.argmax(axis=1) == labels_N).astype(np.float64)
    weights = np.ones(len(labels_N)) if weights_N is None else np.asarray(weights_N, dtype=np.float64)
    bin_N = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(bin_N, weights=weights * (right - confidence), minlength=bins)
    return float(np.abs(gaps).sum() / weights.sum())


def measure(logps_NK: Floats, labels_N: Ints, weights_N: Floats | None = None) -> Reliability:
    """All figures of ``Reliability`` for rows that are already renormalised; at least one row."""
    return Reliability(
        log_loss=log_loss(logps_NK, labels_N, weights_N),
        brier=brier_score(logps_NK, labels_N, weights_N),
        ece=expected_calibration_error(logps_NK, labels_N, weights_N),
    )
