"""The order of an out-of-fold run: write the sets, train the folds, score each with its own model, marker last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builders.errors import FingerprintMismatch
from dataset_builders.files import write_json
from dataset_builders.fold_sets import write_fold_sets
from launch.out_of_fold.config import OutOfFoldConfig
from launch.out_of_fold.plan import FoldPlan, OutOfFoldPlan, plan_folds
from launch.pipeline.runner import run_steps
from launch.pipeline.step import read_marker
from launch.predict.run import MARKER_NAME as PREDICTIONS_MARKER

__all__ = ["MARKER_NAME", "OutOfFoldReport", "run_out_of_fold"]

MARKER_NAME = "out_of_fold.json"


@dataclass(frozen=True)
class OutOfFoldReport:
    """What a run left behind.

    Attributes:
        marker: The content of ``out_of_fold.json``: what all complete folds together hold.
        failed_rows: ``{"sample_id", "error"}`` of photos that could not be read, in the folds that the run did.
        left_out: Folds of the data set without predictions.
    """

    marker: dict[str, Any]
    failed_rows: list[dict[str, str]]
    left_out: tuple[int, ...]


def run_out_of_fold(config: OutOfFoldConfig) -> OutOfFoldReport:
    """Train a model for every fold and score each photo with the one that was trained without it.

    What is complete for the same inputs is kept, what was interrupted goes on, what is stale is made anew; the rules
    are the pipeline's (``docs/pipeline.md``).

    Raises:
        ConfigError: As ``plan_folds``.
        DataError: As ``plan_folds``.
        FingerprintMismatch: An adapter lies where a fold's training writes but was not made by it; or ``out`` holds
            a fold that is not asked for now and was scored by another recipe, other data or other photos.
        StepError: A training or a prediction failed; the message holds the end of its log.
    """
    plan = plan_folds(config)
    _refuse_mixture(plan)
    write_fold_sets(config.data, plan.card, [fold.sets for fold in plan.chosen])
    run_steps([fold.training for fold in plan.chosen], config.saves)
    (config.out / MARKER_NAME).unlink(missing_ok=True)
    run_steps([fold.prediction for fold in plan.chosen], config.out)
    return _finish(plan)


def _refuse_mixture(plan: OutOfFoldPlan) -> None:
    """All folds in ``out`` must belong together, since they are read together."""
    out = plan.config.out
    if (stage := _stage_there(out)) not in (None, plan.config.stage):
        raise FingerprintMismatch(
            f"{out / MARKER_NAME}: holds the folds of stage {stage}, and not of {plan.config.stage}; give each stage "
            "its own --out and --saves"
        )
    fitting = {fold.out for fold in plan.folds if fold in plan.chosen or _is_alike(fold, out)}
    if strange := [path.as_posix() for path in sorted(out.glob("fold-*")) if path not in fitting]:
        raise FingerprintMismatch(
            f"{', '.join(strange)}: not asked for now, and not made with this recipe, data set and list of photos, but "
            "read together with what this run makes; do all folds (leave out --folds), remove these directories, or "
            "name another --out"
        )


def _stage_there(out: Path) -> str | None:
    """The stage whose folds are there, as far as a finished run tells."""
    path = out / MARKER_NAME
    return json.loads(path.read_text(encoding="utf-8"))["stage"] if path.is_file() else None


def _is_alike(fold: FoldPlan, out: Path) -> bool:
    """Whether what lies there was scored by the same recipe, trained on the same rows, for the same photos."""
    marker = read_marker(out / "steps" / f"{fold.prediction.name}.json")
    return marker is not None and marker.settings == json.loads(json.dumps(fold.prediction.settings))


def _finish(plan: OutOfFoldPlan) -> OutOfFoldReport:
    config = plan.config
    done = [fold for fold in plan.folds if (fold.out / PREDICTIONS_MARKER).is_file()]
    predictions = {fold.fold: json.loads((fold.out / PREDICTIONS_MARKER).read_text(encoding="utf-8")) for fold in done}
    marker = {
        "task": plan.card.task,
        "stage": config.stage,
        "folds": {str(fold.fold): fold.out.name for fold in done},
        # Which predictions these are: what lies there later may have been made by another model.
        "predictions": {str(fold.fold): predictions[fold.fold]["fingerprint"] for fold in done},
        "folds_of_data_set": len(plan.folds),
        "photos": sum(fold.photos for fold in done),
        "photos_of_data_set": sum(fold.photos for fold in plan.folds),
        "copies": sum(fold.copies for fold in done),
        "copies_of_data_set": sum(fold.copies for fold in plan.folds),
        "trained_with_copies": config.with_copies,
        "training_sets": {str(fold.fold): fold.sets.fingerprint for fold in done},
    }
    write_json(config.out / MARKER_NAME, marker)
    failed = [row for fold in plan.chosen for row in predictions[fold.fold]["failed_rows"]]
    return OutOfFoldReport(
        marker=marker,
        failed_rows=failed,
        left_out=tuple(fold.fold for fold in plan.folds if fold not in done),
    )
