"""Training and prediction of one fold as steps of the pipeline's runner: logged, resumable, made anew when stale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dataset_builders.files import write_text
from dataset_builders.fold_sets import FoldSet
from launch.out_of_fold.config import OutOfFoldConfig
from launch.pipeline.plan import _SHOWN, _begin_training, _local_files, _riskfuse, _teaching, _trained_files
from launch.pipeline.step import Command, Step
from launch.predict.parts import part_path
from launch.predict.rows import cut_shards, rows_from_dataset
from launch.predict.run import MARKER_NAME
from launch.training import (
    TrainingState,
    training_command,
    training_environment,
    training_progress,
    training_state,
)

__all__ = ["prediction_step", "training_step"]


def training_step(
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
    output_dir = Path(recipe["output_dir"])
    # peft writes the names of the adapted layers in the order of a Python set, which counts in a prediction's
    # fingerprint: with a fixed seed, the same training gives the same bytes.
    environment = training_environment(recipe, config.processes) | {"PYTHONHASHSEED": "0"}

    def begin() -> None:
        _write_recipe(path, recipe, config)
        _begin_training(output_dir)

    def commands() -> list[Command]:
        shown = [f"{key}={environment[key]}" for key in _SHOWN if key in environment]
        words = [*shown, "llamafactory-cli", "train", str(path)]
        train = Command(tuple(training_command(path)), " ".join(words), environment)
        return [_riskfuse("check", path, "--task", config.task), train] if check else [train]

    return Step(
        name=f"train_{name}",
        settings={"recipe": _teaching(recipe), "processes": config.processes},
        inputs=(*fold_set.files(config.data), *_local_files(recipe)),
        outputs=_trained_files(recipe),
        owned=(output_dir,),
        make_commands=commands,
        begin=begin,
        finished=lambda: training_state(output_dir) is TrainingState.FINISHED,
        refuses_strangers=True,
        progress=lambda: training_progress(output_dir) or "loading model and data",
    )


def prediction_step(
    config: OutOfFoldConfig,
    stage: str,
    name: str,
    recipe: dict[str, Any],
    fold_set: FoldSet,
    splits: tuple[str, ...],
) -> Step:
    """The prediction of one fold; its marker and log are those of ``config.out``.

    Args:
        config: The run.
        stage: Stage of the task card.
        name: Name of the fold.
        recipe: Its resolved recipe.
        fold_set: What its model was trained on.
        splits: Splits of the manifest that have folds.
    """
    path, out = _recipe_path(config.out, name), config.out / name
    shards = cut_shards(rows_from_dataset(config.scored_data, splits, (fold_set.fold,)), config.shard_size)
    words = ["predict", "--recipe", path.as_posix(), "--task", config.task.as_posix(), "--stage", stage]
    words += ["--data", config.scored_data.as_posix(), "--splits", ",".join(splits), "--folds", str(fold_set.fold)]
    words += ["--out", out.as_posix(), "--engine", config.engine]
    words += ["--batch-size", str(config.batch_size), "--shard-size", str(config.shard_size)]
    if config.engine == "ray":
        words += ["--workers", str(config.workers)]
    is_here = Path(str(recipe.get("model_name_or_path"))).is_dir()
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if is_here else {}
    return Step(
        name=f"predict_{name}",
        # Neither engine nor workers: they change no byte of the result. Of the manifest only the photos of this fold
        # count, since the verification of copies writes its scores there; of the task card only stage 1's prompt and
        # answers, which the training set's fingerprint holds.
        settings={
            "recipe": _teaching(recipe),
            "training_set": fold_set.fingerprint,
            "photos": [shard.content for shard in shards],
            "batch_size": config.batch_size,
            "shard_size": config.shard_size,
        },
        inputs=_trained_files(recipe),
        outputs=(out / MARKER_NAME, *(part_path(out, shard.index) for shard in shards)),
        owned=(out,),
        make_commands=lambda: [_riskfuse(*words, environment=offline, partial_success=True)],
        begin=lambda: _write_recipe(path, recipe, config),
    )


def _recipe_path(directory: Path, name: str) -> Path:
    return directory / "recipes" / f"{name}.yaml"


def _write_recipe(path: Path, recipe: dict[str, Any], config: OutOfFoldConfig) -> None:
    header = f"# {config.recipe.as_posix()} with the data sets of one fold; written by riskfuse out-of-fold.\n"
    write_text(path, header + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=1000))
