"""The steps of a pipeline with ``out_of_fold: true``: one for each stage, the plain ``riskfuse out-of-fold``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataset_builders.build_config import BuildConfig
from dataset_builders.task_card import BASE
from launch.pipeline.amplifier_steps import amplified_inputs
from launch.pipeline.config import PipelineConfig
from launch.pipeline.model_steps import local_files, riskfuse_command, teaching_keys
from launch.pipeline.step import Step

__all__ = ["OUT_OF_FOLD", "fold_predictions", "folds_step", "mined_predictions"]

OUT_OF_FOLD = "out_of_fold"  # directory beside the main models' adapters and predictions
_MARKER = "out_of_fold.json"


def fold_predictions(config: PipelineConfig, data: BuildConfig, name: str) -> list[Path]:
    """Predictions of a stage's fold models, one directory a fold."""
    place = config.predictions_dir / OUT_OF_FOLD / name
    return [place / f"fold-{fold}" for fold in _folds(data)]


def mined_predictions(config: PipelineConfig, data: BuildConfig) -> list[Path]:
    """Predictions of the base stage from which specialists' negatives are mined.

    With out-of-fold predictions the main model has the validation photos alone, which it has not seen either.
    """
    main = config.predictions_dir / BASE
    return [main, *fold_predictions(config, data, BASE)] if config.out_of_fold else [main]


def folds_step(config: PipelineConfig, data: BuildConfig, name: str, recipe: dict[str, Any], path: Path) -> Step:
    """Train and score all folds of a stage but the validation fold, whose model is the main one.

    Args:
        config: The pipeline.
        data: Its build config.
        name: Name of the stage.
        recipe: The stage's resolved recipe.
        path: Where it is written.
    """
    out = config.predictions_dir / OUT_OF_FOLD / name
    inference = config.inference
    words: list[str | Path] = ["out-of-fold", path, "--stage", name, "--task", config.task, "--data", data.out]
    words += ["--out", out, "--saves", config.saves_dir / OUT_OF_FOLD / name]
    words += ["--folds", ",".join(map(str, _folds(data)))]
    if config.augment is not None:
        words.append("--with-copies")
    mined: Sequence[Path] = ()
    mining: tuple[str, ...] = ()
    if name != BASE:
        mined, mining = mined_predictions(config, data), config.specialists[name].mining.options
        words += ["--mining", *mined, *mining]
    if config.training.processes is not None:
        words += ["--processes", str(config.training.processes)]
    words += ["--engine", inference.engine, *inference.options]
    if inference.engine == "ray":
        words += ["--workers", str(inference.workers)]
    settings = {"recipe": teaching_keys(recipe), "mining": mining, "options": inference.options}
    return Step(
        name=f"folds_{name}",
        settings=settings | {"folds": _folds(data), "processes": config.training.processes},
        inputs=(
            config.task,
            data.out / "build.json",
            data.out / "manifest.parquet",
            *mined,
            *local_files(recipe),
            *amplified_inputs(config, name),
        ),
        outputs=(out / _MARKER, *(fold / "predictions.json" for fold in fold_predictions(config, data, name))),
        # Nothing: the command itself keeps what is complete for the same inputs and makes anew what is stale.
        owned=(),
        make_commands=lambda: [riskfuse_command(*words, partial_success=True)],
    )


def _folds(data: BuildConfig) -> list[int]:
    return [fold for fold in range(data.folds) if fold != data.val_fold]
