"""What each fold trains on, by which recipe, and which photos its model scores; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builders.dataset_dir import FOLDS
from dataset_builders.errors import ConfigError, DataError
from dataset_builders.findings import Findings
from dataset_builders.fold_sets import FoldSet, plan_fold_sets
from dataset_builders.manifest import ManifestRow, read_manifest
from dataset_builders.task_card import TaskCard, load_task_card
from launch.out_of_fold.config import OutOfFoldConfig
from launch.out_of_fold.steps import fold_prediction_step, fold_training_step
from launch.pipeline.step import Step
from launch.preflight.datasets import dataset_names_of
from launch.recipe import TrainingRecipe, load_recipe

__all__ = ["SCORED_SPLITS", "FoldPlan", "OutOfFoldPlan", "fold_name", "plan_folds"]

SCORED_SPLITS = ("train", "val")

# Keys by which the photos that a fold holds out would decide its model.
_LEAKS = {
    "tokenized_path": "every fold would train on the photos that were tokenized there",
    "adapter_name_or_path": "that adapter may have been trained on the photos that a fold holds out",
    "resume_from_checkpoint": "that run may have been trained on the photos that a fold holds out",
    "load_best_model_at_end": "the photos that a fold holds out, its validation set, would choose the checkpoint",
    "early_stopping_steps": "the photos that a fold holds out, its validation set, would choose the last step",
}


@dataclass(frozen=True)
class FoldPlan:
    """One fold.

    Attributes:
        fold: Its number in the manifest.
        sets: What is trained on.
        photos: Original photos that are scored.
        copies: Augmented copies that are scored.
        out: Its predictions directory.
        training: Trains it; resumable.
        prediction: Scores it; resumable.
    """

    fold: int
    sets: FoldSet
    photos: int
    copies: int
    out: Path
    training: Step
    prediction: Step


@dataclass(frozen=True)
class OutOfFoldPlan:
    """All folds of the data set.

    Attributes:
        config: The run.
        card: Its task card.
        folds: Every fold of the manifest, in ascending order.
        chosen: Those that the run does.
    """

    config: OutOfFoldConfig
    card: TaskCard
    folds: tuple[FoldPlan, ...]
    chosen: tuple[FoldPlan, ...]


def fold_name(fold: int) -> str:
    """Directory of a fold, below adapters and below predictions."""
    return f"fold-{fold}"


def plan_folds(config: OutOfFoldConfig) -> OutOfFoldPlan:
    """Plan an out-of-fold run.

    Raises:
        ConfigError: Recipe or task card are missing or wrong, the card has no such stage, or the recipe lets the photos
            that a fold holds out decide its model.
        DataError: The data set has no folds, or not the ones that were asked for, or they cannot be trained apart; or
            the photos that are scored are not the data set's own, fold by fold.
    """
    card = load_task_card(config.task)
    recipe = load_recipe(config.recipe)
    _refuse_leaks(recipe, config.overrides)
    sets = plan_fold_sets(config.data, card, with_copies=config.with_copies, choice=config.choice)
    numbers = [fold_set.fold for fold_set in sets]
    if unknown := [str(fold) for fold in config.folds or () if fold not in numbers]:
        raise DataError(
            f"{config.data}: no fold {', '.join(unknown)}; it has {', '.join(map(str, numbers))}; mend --folds"
        )
    wanted = numbers if config.folds is None else sorted(config.folds)
    scored = read_manifest(config.scored_data)
    if config.predict_data is not None:
        _check_same_folds(config, read_manifest(config.data), scored)
    folds = tuple(_fold_plan(config, recipe, fold_set, scored, wanted[0]) for fold_set in sets)
    return OutOfFoldPlan(config, card, folds, tuple(fold for fold in folds if fold.fold in wanted))


def _fold_plan(
    config: OutOfFoldConfig,
    recipe: TrainingRecipe,
    fold_set: FoldSet,
    scored: Sequence[ManifestRow],
    first: int,
) -> FoldPlan:
    """A fold's steps. The recipe is checked before the ``first`` fold alone: the others differ from it in rows only."""
    name = fold_name(fold_set.fold)
    resolved = resolve_recipe(config, recipe, fold_set)
    rows = [row for row in scored if row.fold == fold_set.fold]
    copies = sum(row.parent is not None for row in rows)
    return FoldPlan(
        fold=fold_set.fold,
        sets=fold_set,
        photos=len(rows) - copies,
        copies=copies,
        out=config.out / name,
        training=fold_training_step(config, name, resolved, fold_set, check=fold_set.fold == first),
        prediction=fold_prediction_step(config, name, resolved, fold_set, SCORED_SPLITS),
    )


def resolve_recipe(config: OutOfFoldConfig, recipe: TrainingRecipe, fold_set: FoldSet) -> dict[str, Any]:
    """The recipe as a fold uses it: with the overrides, its own data sets and its output directory."""
    own = {
        "dataset_dir": (config.data / FOLDS).as_posix(),
        "media_dir": config.data.as_posix(),
        "dataset": fold_set.train_name,
        "eval_dataset": fold_set.val_name,
        "output_dir": (config.saves / fold_name(fold_set.fold)).as_posix(),
    }
    return dict(recipe.raw) | config.overrides | own


def _refuse_leaks(recipe: TrainingRecipe, overrides: dict[str, Any]) -> None:
    findings = Findings()
    values = dict(recipe.raw) | overrides
    for key, reason in _LEAKS.items():
        if values.get(key):
            findings.add(f"{key}: got {values[key]!r}, but {reason}; override it with `{key}=null`")
    if values.get("lr_scheduler_type") == "reduce_lr_on_plateau":
        reason = "the photos that a fold holds out, its validation set, would set the learning rate"
        findings.add(f"lr_scheduler_type: got 'reduce_lr_on_plateau', but {reason}; override it with another")
    model = values.get("model_name_or_path")
    if isinstance(model, str) and (Path(model).parent / "adapter_config.json").is_file():
        reason = f"the adapter {Path(model).parent} was merged into it, and may have been trained"
        rest = "on the photos that a fold holds out; override it with the base of that adapter"
        findings.add(f"model_name_or_path: got {model!r}, but {reason} {rest}")
    names = dataset_names_of(TrainingRecipe(recipe.path, values), "dataset")
    if len(names) > 1:
        reason = "a fold trains on its stage's photos alone, and its model would know less than the main one"
        findings.add(f"dataset: got {', '.join(names)}, but {reason}; name that set alone")
    findings.raise_if_any(
        ConfigError, f"{recipe.path}: the folds would not be trained without the photos that they score"
    )


def _check_same_folds(config: OutOfFoldConfig, trained: Sequence[ManifestRow], scored: Sequence[ManifestRow]) -> None:
    """A photo that lies in another fold, or that the folds do not know, may have been trained on by its scorer."""
    fold_of = {row.sample_id: (row.fold, row.sha256) for row in trained if row.parent is None}
    findings = Findings()
    for row in scored:
        if row.fold < 0:
            continue
        fold, sha256 = fold_of.get(row.parent or row.sample_id, (None, ""))
        if fold is None:
            findings.add(f"{row.sample_id}: {config.data} has no such photo")
        elif fold != row.fold:
            findings.add(f"{row.sample_id}: is in fold {row.fold}, but in fold {fold} of {config.data}")
        elif row.parent is None and row.sha256 != sha256:
            findings.add(f"{row.sample_id}: is another picture than in {config.data}")
    findings.raise_if_any(
        DataError,
        f"{config.scored_data}: its folds are not those of {config.data}; score {config.data} itself, or a data set "
        "that `riskfuse augment` made from it",
    )
