"""Fits calibrators, coefficients and decision offsets on labelled rows, with cross-fitted predictions beside them.

Parameters are fitted on all rows. Cross-fitted predictions come from parameters that were fitted without the row's own
fold; they give the honest estimate on the same rows and decide whether the decision rule pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fusion.calibration import (
    Reliability,
    fit_temperature_and_prior,
    measure,
    prior_weights,
    renormalise,
)
from fusion.calibrators import Calibrator, TemperatureCalibrator, choose_calibrator, fit_calibrator
from fusion.coefficient import log_coefficient, multiply_all
from fusion.coefficient_fit import CAPS, EXPONENTS, choose_coefficients, family, fit_pool
from fusion.cross_fit import assign_folds, gains_more_than_its_error
from fusion.decision import fit_offsets
from fusion.guard import GUARD_LEVEL, Guard, judge_fusion
from fusion.systems import SYSTEMS, Parameters, SpecialistParameters, apply_parameters

__all__ = ["Calibration", "Decision", "Fit", "FitRows", "FitSettings", "Target", "fit", "fit_parameters"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Decision = Literal["argmax", "rule"]


class FitSettings(BaseModel):
    """How to fit.

    Attributes:
        exponents: Exponents gamma that are tried beside 0 and infinity.
        caps: Caps that are tried.
        folds: Folds of the cross-fitting, >= 2.
        calibrator: ``temperature`` for every stage, or ``auto``: isotonic or matrix calibration for those where it
            wins by cross-validated log-loss, see ``fusion.calibrators``.
        decision: ``auto`` takes the decision rule where its cross-fitted gain over argmax exceeds one standard error.
        guard_level: Two-sided level of the interval by which the guard holds fusion back, see ``fusion.guard``.
        force_fusion: Submit fused whatever the guard says.
        resamples: Bootstrap resamples behind standard errors and intervals.
        seed: Seed of folds and resamples.
        alpha: Share of photos whose true label the prediction sets may leave out, in (0, 1).
        label_errors: Share of the written labels on the ladder that are known to be a rung off, in [0, 0.5): the
            prediction sets are made for the true ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exponents: tuple[Annotated[float, Field(gt=0)], ...] = EXPONENTS
    caps: tuple[Annotated[float, Field(gt=1)], ...] = CAPS
    folds: Annotated[int, Field(ge=2)] = 5
    calibrator: Literal["auto", "temperature"] = "temperature"
    decision: Literal["auto", "argmax", "rule"] = "auto"
    guard_level: Annotated[float, Field(gt=0, lt=1)] = GUARD_LEVEL
    force_fusion: bool = False
    resamples: Annotated[int, Field(ge=2)] = 2000
    seed: Annotated[int, Field(ge=0)] = 0
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    label_errors: Annotated[float, Field(ge=0, lt=0.5)] = 0.0


class Calibration(BaseModel):
    """Reliability of one model on the rows of the fit, before and after calibration.

    Attributes:
        before: As the model said it.
        after: Each row calibrated by parameters of the other folds; in-sample where nothing could be cross-fitted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class Target:
    """What is fitted for: the score's weights, and the classes and training priors of S specialists.

    Attributes:
        names: Names of the specialists, in the task card's order.
        targets_SK: True for a specialist's targets.
        priors: Share of positives that each specialist was trained with; fitted where None.
        weights_K: Weight of every class's F1.
    """

    names: tuple[str, ...]
    targets_SK: NDArray[np.bool_]
    priors: tuple[float | None, ...]
    weights_K: Floats


@dataclass(frozen=True)
class FitRows:
    """N labelled rows that the base model answered.

    Attributes:
        keys: One text a row; rows with the same key (near-duplicates) share a fold. With ``sample_ids`` as the
            tie-breaker, keys make the result independent of the order of rows.
        sample_ids: Unique texts.
        labels_N: True class indices.
        base_logps_NK: Natural log-probabilities of the base model, no NaN.
        looks_SN2: Those of the specialists, the positive answer first; NaN without a second look.
    """

    keys: Sequence[str]
    sample_ids: Sequence[str]
    labels_N: Ints
    base_logps_NK: Floats
    looks_SN2: Floats

    @property
    def group_N(self) -> Ints:  # noqa: N802 - an array's name carries its axes
        """Number of every row's key."""
        return np.unique(np.asarray(self.keys), return_inverse=True)[1]

    def take(self, index: NDArray) -> FitRows:
        """The rows at these positions, or where a mask is True."""
        return FitRows(
            keys=np.asarray(self.keys)[index].tolist(),
            sample_ids=np.asarray(self.sample_ids)[index].tolist(),
            labels_N=self.labels_N[index],
            base_logps_NK=self.base_logps_NK[index],
            looks_SN2=self.looks_SN2[:, index],
        )


@dataclass(frozen=True)
class Fit:
    """What came out.

    Attributes:
        parameters: Fitted on all rows.
        decisions: Chosen decision of ``base`` and of ``fused``.
        cross_fitted: Class index of every row by system, from parameters fitted without the row's fold; in the order
            of the rows that were given.
        fused_logps_NK: The fused log-probabilities behind them.
        guard: Whether fusion pays on the cross-fitted rows.
        calibration: Reliability by stage (a specialist's is weighted to its training prior; absent without second
            looks).
        notes: What the user should know about the fit.
    """

    parameters: Parameters
    decisions: dict[str, Decision]
    cross_fitted: dict[str, Ints]
    fused_logps_NK: Floats
    guard: Guard
    calibration: dict[str, Calibration]
    notes: tuple[str, ...]


def fit(rows: FitRows, target: Target, settings: FitSettings = FitSettings()) -> Fit:  # noqa: B008 - frozen
    """Fit on labelled rows.

    The order of rows has no influence: they are sorted by sample id first.

    Args:
        rows: At least one labelled row.
        target: Classes, priors and weights.
        settings: Grids, folds and seed.
    """
    order = np.argsort(np.asarray(rows.sample_ids), kind="stable")
    ordered = rows.take(order)
    parameters = fit_parameters(ordered, target, settings)
    fold_N = assign_folds(ordered.keys, ordered.labels_N, folds=settings.folds, seed=settings.seed)
    folds = int(fold_N.max()) + 1
    notes = []
    cross_fitted = {name: np.empty(len(order), dtype=np.int64) for name in SYSTEMS}
    base_logps_NK, fused_logps_NK = np.empty((2, *ordered.base_logps_NK.shape))
    positive_SN = np.empty(ordered.looks_SN2.shape[:2])
    if folds < 2:
        notes.append("too few validation photos for cross-fitting: its figures are in-sample, the decision is argmax")
    for fold in range(folds):
        held_out = fold_N == fold
        without = parameters if folds < 2 else fit_parameters(ordered.take(~held_out), target, settings)
        part = ordered.take(held_out)
        applied = apply_parameters(without, part.base_logps_NK, part.looks_SN2, target.targets_SK)
        base_logps_NK[held_out], fused_logps_NK[held_out] = applied.base_logps_NK, applied.fused_logps_NK
        positive_SN[:, held_out] = applied.positive_SN
        for name in SYSTEMS:
            cross_fitted[name][held_out] = applied.labels[name]
    decisions = _choose_decisions(ordered, cross_fitted, target, settings, honest=folds >= 2)
    guard = judge_fusion(
        ordered.labels_N,
        cross_fitted,
        target.weights_K,
        decisions=decisions,
        group_N=ordered.group_N,
        honest=folds >= 2,
        level=settings.guard_level,
        forced=settings.force_fusion,
        resamples=settings.resamples,
        rng=np.random.default_rng([settings.seed, len(decisions)]),
    )
    back = np.argsort(order, kind="stable")
    return Fit(
        parameters=parameters,
        decisions=decisions,
        cross_fitted={name: labels[back] for name, labels in cross_fitted.items()},
        fused_logps_NK=fused_logps_NK[back],
        guard=guard,
        calibration=_calibration(ordered, target, parameters, base_logps_NK, positive_SN),
        notes=tuple(notes),
    )


def fit_parameters(rows: FitRows, target: Target, settings: FitSettings) -> Parameters:
    """Fit every parameter on these rows, in sequence: calibrators, coefficients, offsets of both decision rules."""
    base_calibrator = _fit_calibrator(rows.base_logps_NK, rows.labels_N, rows.keys, settings)
    base = base_calibrator.apply(rows.base_logps_NK)
    log_odds_SN = np.full(rows.looks_SN2.shape[:2], np.nan)
    calibrators, priors = [], []
    for s, prior in enumerate(target.priors):
        seen, positive, looks = _second_looks(rows, target, s)
        calibrator, prior = _fit_specialist(looks, positive, prior, np.asarray(rows.keys)[seen].tolist(), settings)
        calibrated = calibrator.apply(looks)
        log_odds_SN[s, seen] = calibrated[:, 0] - calibrated[:, 1]
        calibrators.append(calibrator)
        priors.append(prior)
    group_N = rows.group_N
    pool = fit_pool(base, log_odds_SN, rows.labels_N, target.targets_SK, group_N=group_N)
    families = [family(p, settings.exponents, settings.caps, found) for p, found in zip(priors, pool, strict=True)]
    coefficients = choose_coefficients(
        base,
        log_odds_SN,
        rows.labels_N,
        targets_SK=target.targets_SK,
        weights_K=target.weights_K,
        families=families,
        group_N=group_N,
    )
    factors = [log_coefficient(odds, member) for odds, member in zip(log_odds_SN, coefficients, strict=True)]
    fused = multiply_all(base, target.targets_SK, factors)
    return Parameters(
        base_calibrator=base_calibrator,
        specialists=tuple(
            SpecialistParameters(name=name, calibrator=calibrator, prior=prior, coefficient=coefficient)
            for name, calibrator, prior, coefficient in zip(
                target.names, calibrators, priors, coefficients, strict=True
            )
        ),
        base_offsets=fit_offsets(base, rows.labels_N, target.weights_K),
        fused_offsets=fit_offsets(fused, rows.labels_N, target.weights_K),
    )


def _fit_specialist(
    looks_N2: Floats, positive_N: NDArray[np.bool_], prior: float | None, keys: Sequence[str], settings: FitSettings
) -> tuple[Calibrator, float]:
    """Calibrator and training prior of one specialist; where nobody wrote down the prior, it takes the temperature."""
    if prior is None:
        temperature, prior = fit_temperature_and_prior(looks_N2, positive_N)
        return TemperatureCalibrator(temperature=temperature), prior
    answers_N = np.where(positive_N, 0, 1)
    return _fit_calibrator(looks_N2, answers_N, keys, settings, prior_weights(positive_N, prior)), prior


def _fit_calibrator(
    logps_NK: Floats, answers_N: Ints, keys: Sequence[str], settings: FitSettings, weights_N: Floats | None = None
) -> Calibrator:
    if settings.calibrator == "temperature":
        return fit_calibrator("temperature", logps_NK, answers_N, weights_N)
    choice = choose_calibrator(logps_NK, answers_N, keys, folds=settings.folds, seed=settings.seed, weights_N=weights_N)
    return choice.calibrator


def _second_looks(rows: FitRows, target: Target, s: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats]:
    """Which rows specialist ``s`` saw; of those, whether a target is right, and its log-probabilities."""
    looks_N2 = rows.looks_SN2[s]
    seen = np.isfinite(looks_N2.max(axis=1))
    return seen, target.targets_SK[s, rows.labels_N[seen]], looks_N2[seen]


def _choose_decisions(
    rows: FitRows, cross_fitted: dict[str, Ints], target: Target, settings: FitSettings, *, honest: bool
) -> dict[str, Decision]:
    """Argmax or rule, for base and for fused by the same test; argmax where there is nothing honest to test on."""
    chosen: dict[str, Decision] = {}
    for number, system in enumerate(("base", "fused")):
        if settings.decision != "auto":
            chosen[system] = settings.decision
            continue
        pays = honest and gains_more_than_its_error(
            rows.labels_N,
            cross_fitted[f"{system}_argmax"],
            cross_fitted[f"{system}_rule"],
            target.weights_K,
            group_N=rows.group_N,
            resamples=settings.resamples,
            rng=np.random.default_rng([settings.seed, number]),
        )
        chosen[system] = "rule" if pays else "argmax"
    return chosen


def _calibration(
    rows: FitRows, target: Target, parameters: Parameters, base_logps_NK: Floats, positive_SN: Floats
) -> dict[str, Calibration]:
    """Reliability of every stage; ``base_logps_NK`` and ``positive_SN`` were calibrated without the row's fold."""
    found = {
        "base": Calibration(
            before=measure(renormalise(rows.base_logps_NK), rows.labels_N), after=measure(base_logps_NK, rows.labels_N)
        )
    }
    for s, specialist in enumerate(parameters.specialists):
        seen, positive, looks = _second_looks(rows, target, s)
        if not len(looks):
            continue
        answers = np.where(positive, 0, 1)
        weights = prior_weights(positive, specialist.prior)
        positive_N = positive_SN[s, seen]
        with np.errstate(divide="ignore"):
            calibrated = renormalise(np.log(np.column_stack([positive_N, 1 - positive_N])))
        found[specialist.name] = Calibration(
            before=measure(renormalise(looks), answers, weights), after=measure(calibrated, answers, weights)
        )
    return found
