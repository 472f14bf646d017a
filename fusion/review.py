"""The review of a fusion: calibrated fused probabilities, prediction sets, their coverage where labels are known.

Decisions do not depend on it: they come from the fused probabilities as they are. The calibrator here makes those
probabilities say what they mean, for the sets, the expected costs and the person who reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from dataset_builders.task_card import TaskCard
from fusion.calibration import measure
from fusion.calibrators import Calibrator, Kind, choose_calibrator, cross_calibrate
from fusion.conformal import PredictionSets, fit_prediction_sets
from fusion.coverage import coverage, format_coverage
from fusion.cross_fit import assign_folds
from fusion.label_errors import ladder_errors
from fusion.reliability import calibration_error_interval
from fusion.review_queue import queued_for_review, write_review_queue
from fusion.rows import UNLABELLED, Rows
from fusion.systems import UNDECIDED, Applied

__all__ = ["Review", "ReviewModel", "fit_review", "format_review", "review_rows", "write_review"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class ReviewModel(BaseModel):
    """What the review is fitted to.

    Attributes:
        calibrator: Of the fused probabilities.
        log_losses: Cross-validated log-loss of each kind of calibrator; empty when there were too few rows to choose.
        prediction_sets: Thresholds of the labels that a photo may have.
        label_errors: Share of the written labels on the ladder that were taken to be a rung off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    calibrator: Calibrator
    log_losses: dict[Kind, float]
    prediction_sets: PredictionSets
    label_errors: float = 0.0


@dataclass(frozen=True)
class Review:
    """What a person should look at among N photos.

    Attributes:
        logps_NK: Calibrated fused log-probabilities; NaN where the base model has no answer.
        decided_N: Class index that is submitted; ``UNDECIDED`` where the base model has no answer.
        sets_NK: Prediction sets.
        figures: As JSON values: ``alpha``, ``label_errors``, ``calibrator`` (its kind), ``thresholds`` by label,
            ``queued`` (photos) by source; where labels are known ``coverage`` and ``reliability`` by source.
    """

    logps_NK: Floats
    decided_N: Ints
    sets_NK: Bools
    figures: dict[str, Any]


def fit_review(
    card: TaskCard,
    logps_NK: Floats,
    labels_N: Ints,
    keys: Sequence[str],
    target_K: Bools,
    *,
    alpha: float,
    label_errors: float = 0.0,
    folds: int,
    seed: int,
) -> ReviewModel:
    """Choose and fit the calibrator, and take the thresholds from rows that it was not fitted on.

    Args:
        card: Knows the ladder.
        logps_NK: Cross-fitted fused log-probabilities, no NaN.
        labels_N: Class indices as they were written.
        keys: One text a row, the same for rows that must not be separated.
        target_K: True for labels that are a target of any specialist.
        alpha: Share of true labels that the sets may leave out, in (0, 1).
        label_errors: Share of the written labels on the ladder that are a rung off, in [0, 0.5).
        folds: Folds of the cross-fitting, >= 2.
        seed: Seed of the folds.
    """
    written_KK = ladder_errors(card, label_errors)
    choice = choose_calibrator(logps_NK, labels_N, keys, folds=folds, seed=seed, written_KK=written_KK)
    fold_N = assign_folds(keys, labels_N, folds=folds, seed=seed)
    calibrated = cross_calibrate(choice.calibrator.kind, logps_NK, labels_N, fold_N, written_KK=written_KK)
    return ReviewModel(
        calibrator=choice.calibrator,
        log_losses=choice.log_losses,
        prediction_sets=fit_prediction_sets(
            calibrated,
            labels_N,
            target_K,
            alpha=alpha,
            written_KK=written_KK,
            label_ids=card.label_ids,
        ),
        label_errors=label_errors,
    )


def review_rows(
    card: TaskCard, model: ReviewModel, rows: Rows, applied: Applied, system: str, *, resamples: int, seed: int
) -> Review:
    """Make the prediction sets of ``rows`` and count what they hold.

    Args:
        card: Knows the labels.
        model: The fitted review.
        rows: N photos.
        applied: What the systems make of them.
        system: The one that is submitted.
        resamples: Bootstrap resamples of the calibration error's interval.
        seed: Their seed.
    """
    fused = applied.fused_logps_NK
    logps = model.calibrator.apply(fused)
    decided_N = applied.labels[system]
    sets_NK = model.prediction_sets.sets(logps)
    queued_N = queued_for_review(decided_N, sets_NK)
    of_source = rows.column("source")
    queued, covered, reliable = {}, {}, {}
    for source in dict.fromkeys(of_source.tolist()):
        here = of_source == source
        queued[source] = int(queued_N[here].sum())
        known = here & (rows.labels_N != UNLABELLED) & (decided_N != UNDECIDED)
        if known.any():
            labels = rows.labels_N[known]
            covered[source] = coverage(sets_NK[known], labels, card.label_ids)
            reliable[source] = {
                "before": _reliability(fused[known], labels, resamples, seed),
                "after": _reliability(logps[known], labels, resamples, seed),
            }
    thresholds = zip(card.label_ids, model.prediction_sets.thresholds, strict=True)
    figures = {
        "alpha": model.prediction_sets.alpha,
        "label_errors": model.label_errors,
        "calibrator": model.calibrator.kind,
        "thresholds": {label: json.loads(threshold.model_dump_json()) for label, threshold in thresholds},
        "queued": queued,
        "coverage": covered,
        "reliability": reliable,
    }
    return Review(logps, decided_N, sets_NK, figures)


def format_review(figures: dict[str, Any]) -> str:
    """Coverage and calibration error of every source with labels, then how many photos of each are in the queue."""
    wanted = f"{100 * (1 - figures['alpha']):g} %"
    parts = []
    for source, found in figures["coverage"].items():
        title = (
            f"prediction sets, test source {source}: {wanted} asked, {found['mean_size']:.2f} labels a photo, "
            f"{100 * found['one_label']:.1f} % of the sets hold one label"
        )
        before, after = (figures["reliability"][source][when] for when in ("before", "after"))
        low, high = after["ece_interval"]
        parts.append(
            f"{format_coverage(title, found)}\n  calibration error of the fused probabilities: {before['ece']:.4f}, "
            f"after {figures['calibrator']} calibration {after['ece']:.4f} [{low:.3f}, {high:.3f}]"
        )
    queued = ", ".join(f"{count} of {source}" for source, count in figures["queued"].items())
    return "\n\n".join([*parts, f"photos to review (review.csv): {queued}"])


def write_review(out: Path, card: TaskCard, review: Review, rows: Rows, applied: Applied, names: Sequence[str]) -> None:
    """Write ``review.csv``; ``names`` are the specialists of ``applied``."""
    confidences = {card.stages[0]: np.exp(applied.base_logps_NK.max(axis=1))}
    confidences |= dict(zip(names, applied.positive_SN, strict=True))
    write_review_queue(
        out,
        card,
        rows,
        logps_NK=review.logps_NK,
        decided_N=review.decided_N,
        sets_NK=review.sets_NK,
        confidences=confidences,
    )


def _reliability(logps_NK: Floats, labels_N: Ints, resamples: int, seed: int) -> dict[str, Any]:
    span = calibration_error_interval(logps_NK, labels_N, resamples=resamples, rng=np.random.default_rng(seed))
    return measure(logps_NK, labels_N).model_dump() | {"ece_interval": list(span)}
