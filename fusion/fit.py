"""Fits temperatures, coefficient and decision offsets on labelled rows, with cross-fitted predictions beside them.

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
    apply_temperature,
    fit_temperature,
    fit_temperature_and_prior,
    measure,
    prior_weights,
    renormalise,
)
from fusion.coefficient import log_coefficient, multiply
from fusion.coefficient_fit import CAPS, EXPONENTS, choose_coefficient, family
from fusion.cross_fit import assign_folds, gains_more_than_its_error
from fusion.decision import fit_offsets
from fusion.systems import SYSTEMS, Parameters, apply_parameters

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
        decision: ``auto`` takes the decision rule where its cross-fitted gain over argmax exceeds one standard error.
        resamples: Bootstrap resamples behind that standard error.
        seed: Seed of folds and resamples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exponents: tuple[Annotated[float, Field(gt=0)], ...] = EXPONENTS
    caps: tuple[Annotated[float, Field(gt=1)], ...] = CAPS
    folds: Annotated[int, Field(ge=2)] = 5
    decision: Literal["auto", "argmax", "rule"] = "auto"
    resamples: Annotated[int, Field(ge=2)] = 2000
    seed: Annotated[int, Field(ge=0)] = 0


class Calibration(BaseModel):
    """Reliability of one model on the rows that it was calibrated on, before and after."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: Reliability
    after: Reliability


@dataclass(frozen=True)
class Target:
    """What is fitted for: the classes of the specialist, the score's weights, the specialist's training prior.

    Attributes:
        target_K: True for the specialist's targets.
        weights_K: Weight of every class's F1.
        prior: Share of positives that the specialist was trained with; fitted when None.
    """

    target_K: NDArray[np.bool_]
    weights_K: Floats
    prior: float | None = None


@dataclass(frozen=True)
class FitRows:
    """N labelled rows that the base model answered.

    Attributes:
        keys: One text a row; rows with the same key (near-duplicates) share a fold. With ``sample_ids`` as the
            tie-breaker, keys make the result independent of the order of rows.
        sample_ids: Unique texts.
        labels_N: True class indices.
        base_logps_NK: Natural log-probabilities of the base model, no NaN.
        specialist_logps_N2: Those of the specialist, the positive answer first; NaN without a second look.
    """

    keys: Sequence[str]
    sample_ids: Sequence[str]
    labels_N: Ints
    base_logps_NK: Floats
    specialist_logps_N2: Floats

    def take(self, index: NDArray) -> FitRows:
        """The rows at these positions, or where a mask is True."""
        return FitRows(
            keys=np.asarray(self.keys)[index].tolist(),
            sample_ids=np.asarray(self.sample_ids)[index].tolist(),
            labels_N=self.labels_N[index],
            base_logps_NK=self.base_logps_NK[index],
            specialist_logps_N2=self.specialist_logps_N2[index],
        )


@dataclass(frozen=True)
class Fit:
    """What came out.

    Attributes:
        parameters: Fitted on all rows.
        decisions: Chosen decision of ``base`` and of ``fused``.
        cross_fitted: Class index of every row by system, from parameters fitted without the row's fold; in the order
            of the rows that were given.
        calibration: Reliability by model, ``base`` and ``specialist`` (weighted to the training prior; absent without
            second looks).
        notes: What the user should know about the fit.
    """

    parameters: Parameters
    decisions: dict[str, Decision]
    cross_fitted: dict[str, Ints]
    calibration: dict[str, Calibration]
    notes: tuple[str, ...]


def fit(rows: FitRows, target: Target, settings: FitSettings = FitSettings()) -> Fit:  # noqa: B008 - frozen
    """Fit on labelled rows.

    The order of rows has no influence: they are sorted by sample id first.

    Args:
        rows: At least one labelled row.
        target: Classes, weights and prior.
        settings: Grids, folds and seed.
    """
    order = np.argsort(np.asarray(rows.sample_ids), kind="stable")
    ordered = rows.take(order)
    parameters = fit_parameters(ordered, target, settings)
    fold_N = assign_folds(ordered.keys, ordered.labels_N, folds=settings.folds, seed=settings.seed)
    folds = int(fold_N.max()) + 1
    notes = []
    cross_fitted = {name: np.empty(len(order), dtype=np.int64) for name in SYSTEMS}
    if folds < 2:
        notes.append("too few validation photos for cross-fitting: its figures are in-sample, the decision is argmax")
    for fold in range(folds):
        held_out = fold_N == fold
        without = parameters if folds < 2 else fit_parameters(ordered.take(~held_out), target, settings)
        part = ordered.take(held_out)
        applied = apply_parameters(without, part.base_logps_NK, part.specialist_logps_N2, target.target_K)
        for name in SYSTEMS:
            cross_fitted[name][held_out] = applied.labels[name]
    decisions = _choose_decisions(ordered.labels_N, cross_fitted, target, settings, honest=folds >= 2)
    back = np.argsort(order, kind="stable")
    return Fit(
        parameters=parameters,
        decisions=decisions,
        cross_fitted={name: labels[back] for name, labels in cross_fitted.items()},
        calibration=_calibration(ordered, target, parameters),
        notes=tuple(notes),
    )


def fit_parameters(rows: FitRows, target: Target, settings: FitSettings) -> Parameters:
    """Fit every parameter on these rows, in sequence: temperatures, coefficient, offsets of both decision rules."""
    base_temperature = fit_temperature(rows.base_logps_NK, rows.labels_N)
    base = apply_temperature(rows.base_logps_NK, base_temperature)
    seen, positive, looks = _second_looks(rows, target)
    if target.prior is None:
        specialist_temperature, prior = fit_temperature_and_prior(looks, positive)
    else:
        prior = target.prior
        answers = np.where(positive, 0, 1)
        specialist_temperature = fit_temperature(looks, answers, prior_weights(positive, prior))
    log_odds = np.full(len(rows.labels_N), np.nan)
    calibrated = apply_temperature(looks, specialist_temperature)
    log_odds[seen] = calibrated[:, 0] - calibrated[:, 1]
    coefficient = choose_coefficient(
        base,
        log_odds,
        rows.labels_N,
        target_K=target.target_K,
        weights_K=target.weights_K,
        members=family(prior, settings.exponents, settings.caps),
    )
    fused = multiply(base, target.target_K, log_coefficient(log_odds, coefficient))
    return Parameters(
        base_temperature=base_temperature,
        specialist_temperature=specialist_temperature,
        coefficient=coefficient,
        base_offsets=fit_offsets(base, rows.labels_N, target.weights_K),
        fused_offsets=fit_offsets(fused, rows.labels_N, target.weights_K),
    )


def _second_looks(rows: FitRows, target: Target) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats]:
    """Which rows the specialist saw; of those, whether a target is right, and the specialist's log-probabilities."""
    seen = np.isfinite(rows.specialist_logps_N2.max(axis=1))
    return seen, target.target_K[rows.labels_N[seen]], rows.specialist_logps_N2[seen]


def _choose_decisions(
    labels_N: Ints, cross_fitted: dict[str, Ints], target: Target, settings: FitSettings, *, honest: bool
) -> dict[str, Decision]:
    """Argmax or rule, for base and for fused by the same test; argmax where there is nothing honest to test on."""
    chosen: dict[str, Decision] = {}
    for number, system in enumerate(("base", "fused")):
        if settings.decision != "auto":
            chosen[system] = settings.decision
            continue
        pays = honest and gains_more_than_its_error(
            labels_N,
            cross_fitted[f"{system}_argmax"],
            cross_fitted[f"{system}_rule"],
            target.weights_K,
            resamples=settings.resamples,
            rng=np.random.default_rng([settings.seed, number]),
        )
        chosen[system] = "rule" if pays else "argmax"
    return chosen


def _calibration(rows: FitRows, target: Target, parameters: Parameters) -> dict[str, Calibration]:
    base = rows.base_logps_NK
    found = {
        "base": Calibration(
            before=measure(renormalise(base), rows.labels_N),
            after=measure(apply_temperature(base, parameters.base_temperature), rows.labels_N),
        )
    }
    _, positive, looks = _second_looks(rows, target)
    if len(looks):
        answers = np.where(positive, 0, 1)
        weights = None if target.prior is None else prior_weights(positive, target.prior)
        found["specialist"] = Calibration(
            before=measure(renormalise(looks), answers, weights),
            after=measure(apply_temperature(looks, parameters.specialist_temperature), answers, weights),
        )
    return found
