"""Ways to calibrate one model's answers, and the choice among them by cross-validated log-loss.

Temperature scaling has one parameter and keeps every ranking (Guo et al., On Calibration of Modern Neural Networks,
ICML 2017). Isotonic regression maps each answer's probability by a rising step function (Zadrozny and Elkan,
Transforming classifier scores into accurate multiclass probability estimates, KDD 2002). The matrix is a multinomial
logistic regression on log-probabilities, which is Dirichlet calibration (Kull et al., Beyond temperature scaling,
NeurIPS 2019). The last two can learn more and need more rows, so temperature stays unless another one clearly wins.

Where a known share of the labels was written down wrongly, a calibrator of the written labels is not one of the true
ones: it takes the errors for doubt. The likelihood is then that of the written labels given the calibrated truth, and
its maximum is found by expectation and maximisation, which needs nothing but weights for rows (Mnih and Hinton,
Learning to label aerial images from noisy data, ICML 2012).

A calibrator is a small model of plain numbers: it is saved as JSON and applied with NumPy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fusion.calibration import LOG_FLOOR, apply_temperature, fit_temperature, renormalise
from fusion.cross_fit import assign_folds

__all__ = [
    "CALIBRATORS",
    "Calibrator",
    "CalibratorChoice",
    "IsotonicCalibrator",
    "Kind",
    "MatrixCalibrator",
    "TemperatureCalibrator",
    "choose_calibrator",
    "cross_calibrate",
    "fit_calibrator",
]

Kind = Literal["temperature", "isotonic", "matrix"]
CALIBRATORS: tuple[Kind, ...] = get_args(Kind)
MIN_CLASS_ROWS = 10  # of every answer, for the calibrators that have parameters of their own for each
MATRIX_FLOOR = float(np.log(1e-6))  # below, differences of log-probabilities are noise, and one row would steer the fit
ROUNDS = 20  # of expectation and maximisation; where labels are wrong by a few per cent, five reach 1e-4
SETTLED = 1e-4  # no row's share of a true label moves by more
MATRIX_STRENGTH = 1.0  # scikit-learn's C: inverse of the L2 penalty on the matrix; its own default

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class TemperatureCalibrator(BaseModel):
    """Divides log-probabilities by ``temperature`` > 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["temperature"] = "temperature"
    temperature: Annotated[float, Field(gt=0)]

    def apply(self, logps_NK: Floats) -> Floats:
        """Calibrated log-probabilities, rows sum to 1; a row of NaN stays NaN."""
        return apply_temperature(logps_NK, self.temperature)


class IsotonicCalibrator(BaseModel):
    """Maps the probability of each answer by a rising piecewise linear function, then renormalises.

    Attributes:
        inputs: Corners of each answer's function, probabilities in rising order.
        outputs: Value at each corner, in (0, 1): never 0, because no number of rows shows that something is impossible.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["isotonic"] = "isotonic"
    inputs: tuple[tuple[float, ...], ...]
    outputs: tuple[tuple[float, ...], ...]

    def apply(self, logps_NK: Floats) -> Floats:
        """Calibrated log-probabilities, rows sum to 1; a row of NaN stays NaN."""
        probs = np.exp(renormalise(logps_NK))
        corners = zip(probs.T, self.inputs, self.outputs, strict=True)
        return renormalise(np.log(np.column_stack([np.interp(column, x, y) for column, x, y in corners])))


class MatrixCalibrator(BaseModel):
    """Softmax of ``matrix`` @ log-probabilities + ``offsets``.

    Attributes:
        matrix: Shape (K, K), one row an answer.
        offsets: Shape (K,).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["matrix"] = "matrix"
    matrix: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]

    def apply(self, logps_NK: Floats) -> Floats:
        """Calibrated log-probabilities, rows sum to 1; a row of NaN stays NaN."""
        mixed = _matrix_inputs(logps_NK) @ np.array(self.matrix).T
        mixed += np.array(self.offsets)
        return renormalise(mixed)


Calibrator = Annotated[
    TemperatureCalibrator | IsotonicCalibrator | MatrixCalibrator,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class CalibratorChoice:
    """What was chosen, and by what.

    Attributes:
        calibrator: Fitted on all rows.
        log_losses: Cross-validated log-loss by kind; empty when these rows are too few for a choice.
    """

    calibrator: Calibrator
    log_losses: dict[Kind, float]


def fit_calibrator(
    kind: Kind,
    logps_NK: Floats,
    labels_N: Ints,
    weights_N: Floats | None = None,
    written_KK: Floats | None = None,
) -> Calibrator:
    """Fit one kind of calibrator on labelled rows.

    Args:
        kind: Which one.
        logps_NK: Natural log-probabilities of the answers, no NaN.
        labels_N: Index of the written answer; for ``isotonic`` and ``matrix``, every answer must occur; of no rows at
            all a ``temperature`` is 1.
        weights_N: Weight of every row, >= 0; equal when None.
        written_KK: Probability of a written answer (column) given the true one (row); None: all are right.
    """
    if written_KK is None or not len(labels_N) or np.array_equal(written_KK, np.eye(len(written_KK))):
        return _fit(kind, logps_NK, labels_N, weights_N)
    weights = np.ones(len(labels_N)) if weights_N is None else np.asarray(weights_N, dtype=np.float64)
    truth_NK = _truth(renormalise(logps_NK), labels_N, written_KK)
    for _ in range(ROUNDS):
        row, true = np.nonzero(truth_NK)
        calibrator = _fit(kind, logps_NK[row], true, weights[row] * truth_NK[row, true])
        before, truth_NK = truth_NK, _truth(calibrator.apply(logps_NK), labels_N, written_KK)
        if np.abs(truth_NK - before).max() < SETTLED:
            break
    return calibrator


def _truth(logps_NK: Floats, labels_N: Ints, written_KK: Floats) -> Floats:
    """Probability that each answer is the true one, given the calibrated answers and the written one."""
    joint_NK = np.exp(logps_NK) * written_KK[:, labels_N].T
    total_N = joint_NK.sum(axis=1)
    joint_NK[total_N == 0, labels_N[total_N == 0]] = 1.0  # the model rules out all that could have been written so
    return joint_NK / joint_NK.sum(axis=1, keepdims=True)


def _fit(kind: Kind, logps_NK: Floats, labels_N: Ints, weights_N: Floats | None) -> Calibrator:
    if kind == "temperature":
        return TemperatureCalibrator(temperature=fit_temperature(logps_NK, labels_N, weights_N))
    if kind == "isotonic":
        return _fit_isotonic(logps_NK, labels_N, weights_N)
    return _fit_matrix(logps_NK, labels_N, weights_N)


def choose_calibrator(
    logps_NK: Floats,
    labels_N: Ints,
    keys: Sequence[str],
    *,
    folds: int,
    seed: int,
    weights_N: Floats | None = None,
    written_KK: Floats | None = None,
) -> CalibratorChoice:
    """The calibrator with the least cross-validated log-loss, but temperature unless another wins clearly.

    Clearly: by more than one standard error of the paired difference (the rule of Breiman et al., Classification and
    Regression Trees, 1984, section 3.4.3). Rows with the same key share a fold and count as one draw.

    Args:
        logps_NK: Natural log-probabilities of the answers, no NaN.
        labels_N: Index of the written answer.
        keys: One text a row, the same for rows that must not be separated, as in ``fusion.cross_fit.assign_folds``.
        folds: Folds of the cross-validation, >= 2.
        seed: Seed of the folds.
        weights_N: Weight of every row, >= 0; equal when None.
        written_KK: As in ``fit_calibrator``; the log-loss is that of the written answers.
    """
    weights = np.ones(len(labels_N)) if weights_N is None else np.asarray(weights_N, dtype=np.float64)
    fold_N = assign_folds(keys, labels_N, folds=folds, seed=seed) if len(labels_N) else np.empty(0, np.int64)
    losses: dict[Kind, Floats] = {}
    for kind in CALIBRATORS if _can_fit_all(labels_N, fold_N, logps_NK.shape[1]) else ():
        calibrated = cross_calibrate(kind, logps_NK, labels_N, fold_N, weights, written_KK)
        losses[kind] = _losses(calibrated, labels_N, written_KK)
    chosen: Kind = "temperature"
    mean = {kind: float(np.average(loss_N, weights=weights)) for kind, loss_N in losses.items()}
    for kind in losses:
        clear = kind != "temperature" and _gains_more_than_its_error(
            losses["temperature"] - losses[kind], weights, keys
        )
        if clear and mean[kind] < mean[chosen]:
            chosen = kind
    return CalibratorChoice(fit_calibrator(chosen, logps_NK, labels_N, weights, written_KK), mean)


def _losses(logps_NK: Floats, labels_N: Ints, written_KK: Floats | None) -> Floats:
    """Minus the log-probability of each written answer."""
    if written_KK is None:
        return -np.maximum(logps_NK[np.arange(len(labels_N)), labels_N], LOG_FLOOR)
    written_N = (np.exp(logps_NK) * written_KK[:, labels_N].T).sum(axis=1)
    return -np.log(np.maximum(written_N, np.exp(LOG_FLOOR)))


def cross_calibrate(
    kind: Kind,
    logps_NK: Floats,
    labels_N: Ints,
    fold_N: Ints,
    weights_N: Floats | None = None,
    written_KK: Floats | None = None,
) -> Floats:
    """Calibrated log-probabilities of every row by a calibrator that was fitted without the row's fold.

    Arguments are as in ``fit_calibrator``; ``fold_N`` holds each row's fold.
    """
    found = np.empty(logps_NK.shape)
    for fold in np.unique(fold_N):
        rest = fold_N != fold
        weights = None if weights_N is None else weights_N[rest]
        fitted = fit_calibrator(kind, logps_NK[rest], labels_N[rest], weights, written_KK)
        found[~rest] = fitted.apply(logps_NK[~rest])
    return found


def _can_fit_all(labels_N: Ints, fold_N: Ints, classes: int) -> bool:
    """Whether every answer has enough rows, and some of them outside of every fold."""
    counts_FK = np.zeros((int(fold_N.max(initial=0)) + 1, classes), dtype=np.int64)
    np.add.at(counts_FK, (fold_N, labels_N), 1)
    total_K = counts_FK.sum(axis=0)
    return len(counts_FK) > 1 and bool((total_K >= MIN_CLASS_ROWS).all() and (total_K > counts_FK).all())


def _gains_more_than_its_error(gain_N: Floats, weights_N: Floats, keys: Sequence[str]) -> bool:
    """Whether the weighted mean gain exceeds its standard error, with rows of one key as one draw."""
    _, group_N = np.unique(np.asarray(keys), return_inverse=True)
    mean = float(np.average(gain_N, weights=weights_N))
    deviation_G = np.bincount(group_N, weights=weights_N * (gain_N - mean))
    return mean > float(np.sqrt((deviation_G**2).sum())) / float(weights_N.sum())


def _fit_isotonic(logps_NK: Floats, labels_N: Ints, weights_N: Floats | None) -> IsotonicCalibrator:
    from sklearn.isotonic import IsotonicRegression

    probs = np.exp(renormalise(logps_NK))
    floor = 0.5 / (len(labels_N) if weights_N is None else float(weights_N.sum()))  # half a row
    inputs, outputs = [], []
    for k in range(probs.shape[1]):
        fitted = IsotonicRegression(y_min=floor, y_max=1 - floor, out_of_bounds="clip")
        fitted.fit(probs[:, k], labels_N == k, sample_weight=weights_N)
        inputs.append(tuple(fitted.X_thresholds_.tolist()))
        outputs.append(tuple(fitted.y_thresholds_.tolist()))
    return IsotonicCalibrator(inputs=tuple(inputs), outputs=tuple(outputs))


def _fit_matrix(logps_NK: Floats, labels_N: Ints, weights_N: Floats | None) -> MatrixCalibrator:
    from sklearn.linear_model import LogisticRegression

    # Log-probabilities of one row go together, which makes gradient methods slow; Newton's needs some ten steps.
    fitted = LogisticRegression(C=MATRIX_STRENGTH, solver="newton-cholesky", tol=1e-6)
    fitted.fit(_matrix_inputs(logps_NK), labels_N, sample_weight=weights_N)
    matrix, offsets = fitted.coef_, fitted.intercept_
    if len(matrix) == 1:  # of two answers scikit-learn keeps the second one's log-odds alone
        matrix, offsets = np.vstack([np.zeros_like(matrix), matrix]), np.append(0.0, offsets)
    return MatrixCalibrator(matrix=tuple(map(tuple, matrix.tolist())), offsets=tuple(offsets.tolist()))


def _matrix_inputs(logps_NK: Floats) -> Floats:
    inputs = renormalise(logps_NK)
    return np.maximum(inputs, MATRIX_FLOOR, out=inputs)
