"""Training and prediction of one fold as steps of the pipeline's runner: logged, resumable, made anew when stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dataset_builders.files import write_text
from dataset_builders.fold_sets import FoldSet
from launch.out_of_fold.config import OutOfFoldConfig
from launch.pipeline.model_steps import (
    offline_environment,
    riskfuse_command,
    teaching_keys,
    trained_files,
    training_step,
)
from launch.pipeline.step import Step
from launch.predict.parts import part_name
from launch.predict.rows import cut_shards, rows_from_dataset
from launch.predict.run import MARKER_NAME
from launch.training import training_environment

__all__ = ["fold_prediction_step", "fold_training_step"]


def fold_training_step(
    config: OutOfFoldConfig, name: str, recipe: dict[str, Any], fold_set: FoldSet, *, check: bool
) -> Step:
    """The training of one fold; its marker and log are those of ``config.saves``.

    Args:
        config: The run.
        name: Name of the fold.
        recipe: Its resolved recipe.
        fold_set: What it is trained on.
        check: Let ``riskfuse check`` look at the recipe first.

    Raises:
        ConfigError: The number of processes cannot be known.
    """
    path = _recipe_path(config.saves, name)
    training_environment(recipe, config.processes)  # says now, not at the start, what it cannot know
    return training_step(
        f"train_{name}",
        recipe,
        path,
        task=config.task,
        processes=config.processes,
        inputs=fold_set.files(config.data),
        check=check,
        begin=lambda: _write_recipe(path, recipe, config),
    )


def fold_prediction_step(
    config: OutOfFoldConfig,
    name: str,
    recipe: dict[str, Any],
    fold_set: FoldSet,
    splits: tuple[str, ...],
) -> Step:
    """The prediction of one fold; its marker and log are those of ``config.out``.

    Args:
        config: The run.
        name: Name of the fold.
        recipe: Its resolved recipe.
        fold_set: What its model was trained on.
        splits: Splits of the manifest that have folds.
    """
    path, out = _recipe_path(config.out, name), config.out / name
    shards = cut_shards(rows_from_dataset(config.scored_data, splits, (fold_set.fold,)), config.shard_size)
    words = ["predict", "--recipe", path.as_posix(), "--task", config.task.as_posix(), "--stage", config.stage]
    words += ["--data", config.scored_data.as_posix(), "--splits", ",".join(splits), "--folds", str(fold_set.fold)]
    words += ["--out", out.as_posix(), "--engine", config.engine]
    words += ["--batch-size", str(config.batch_size), "--shard-size", str(config.shard_size)]
    if config.engine == "ray":
        words += ["--workers", str(config.workers)]
    offline = offline_environment(recipe)
    return Step(
        name=f"predict_{name}",
        # Neither engine nor workers: they change no byte of the result. Of the manifest only the photos of this fold
        # count, since the verification of copies writes its scores there; of the task card only the stage's prompt and
        # answers, which the training set's fingerprint holds.
        settings={
            "recipe": teaching_keys(recipe),
            "training_set": fold_set.fingerprint,
            "photos": [shard.content for shard in shards],
            "batch_size": config.batch_size,
            "shard_size": config.shard_size,
        },
        inputs=trained_files(recipe),
        outputs=(out / MARKER_NAME, *(out / part_name(shard.index) for shard in shards)),
        owned=(out,),
        make_commands=lambda: [riskfuse_command(*words, environment=offline, partial_success=True)],
        begin=lambda: _write_recipe(path, recipe, config),
    )


def _recipe_path(directory: Path, name: str) -> Path:
    return directory / "recipes" / f"{name}.yaml"


def _write_recipe(path: Path, recipe: dict[str, Any], config: OutOfFoldConfig) -> None:
    header = f"# {config.recipe.as_posix()} with the data sets of one fold; written by riskfuse out-of-fold.\n"
    write_text(path, header + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=1000))
