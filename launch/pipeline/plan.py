"""The steps of a pipeline, in order: what each reads, writes and runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

from dataset_builders.build_config import BuildConfig, ImageFolderSource, load_build_config
from dataset_builders.errors import ConfigError
from dataset_builders.files import write_text
from dataset_builders.task_card import TaskCard, load_task_card
from launch.pipeline.config import PipelineConfig, Stage
from launch.pipeline.model_steps import (
    offline_environment,
    riskfuse_command,
    teaching_keys,
    trained_files,
    training_step,
)
from launch.pipeline.step import Command, Step
from launch.recipe import load_recipe

__all__ = ["FUSION", "plan_steps", "resolve_recipe", "write_recipes"]

FUSION = "fusion"  # directory in the run directory

_DATA_FILES = ("build.json", "manifest.parquet", "train.json", "val.json", "test.json")


def plan_steps(config: PipelineConfig) -> list[Step]:
    """Make the steps of a pipeline.

    Raises:
        ConfigError: The task card, the build config or a recipe is missing or wrong.
    """
    card = load_task_card(config.task)
    data = load_build_config(config.data)
    if data.task.resolve() != config.task.resolve():
        raise ConfigError(
            f"{config.data} builds for the task card {data.task}, but pipeline {config.name!r} names {config.task}; "
            "give both the same"
        )
    base, second = card.stages
    steps = [
        _build(config, data),
        _train(config, data, "base", [data.out / "train.json", data.out / "val.json"]),
        _predict(config, data, "base", config.base, base),
        _specialist_set(config, data, card),
        _train(config, data, "specialist", _specialist_files(data, card)),
        _predict(config, data, "specialist", config.specialist, second),
        _fuse(config, data, card),
    ]
    if config.prepare is not None:
        steps.insert(0, _prepare(config))
    return steps


def resolve_recipe(config: PipelineConfig, role: str) -> dict[str, Any]:
    """A stage's recipe as the pipeline uses it: with its overrides, data set and output directory.

    Args:
        config: The pipeline.
        role: ``base`` or ``specialist``.
    """
    stage = config.base if role == "base" else config.specialist
    card = load_task_card(config.task)
    name = card.stages[0] if role == "base" else card.stages[1]
    data = load_build_config(config.data)
    directories = {"dataset_dir": data.out.as_posix(), "output_dir": (config.saves_dir / name).as_posix()}
    return dict(load_recipe(stage.recipe).raw) | stage.overrides | directories


def write_recipes(config: PipelineConfig) -> None:
    """Write the resolved recipes to the run directory, where every command of the pipeline reads them."""
    for role, stage in (("base", config.base), ("specialist", config.specialist)):
        text = yaml.safe_dump(resolve_recipe(config, role), sort_keys=False, allow_unicode=True, width=1000)
        header = (
            f"# {stage.recipe.as_posix()} with the overrides of pipeline {config.name!r}; written by riskfuse run.\n"
        )
        write_text(_recipe_path(config, role), header + text)


def _recipe_path(config: PipelineConfig, role: str) -> Path:
    return config.runs_dir / "recipes" / f"{role}.yaml"


def _prepare(config: PipelineConfig) -> Step:
    prepare = config.prepare
    assert prepare is not None  # the caller asked
    program, *words = prepare.command
    command = (
        riskfuse_command(*words)
        if program == "riskfuse"
        else Command((sys.executable, *words), shlex.join(["python", *words]))
    )
    return Step(
        name="prepare",
        settings=list(prepare.command),
        inputs=prepare.inputs,
        outputs=prepare.outputs,
        owned=(),  # pipelines may share photos
        make_commands=lambda: [command],
    )


def _build(config: PipelineConfig, data: BuildConfig) -> Step:
    lists = [source.path for source in data.sources if not isinstance(source, ImageFolderSource)]
    photos = [source.path if isinstance(source, ImageFolderSource) else source.images for source in data.sources]
    return Step(
        name="build",
        settings=data.content() | {"out": data.out.as_posix()},
        inputs=(config.task, *lists),
        listings=tuple(dict.fromkeys(photos)),
        outputs=tuple(data.out / name for name in _DATA_FILES),
        owned=(data.out,),
        make_commands=lambda: [riskfuse_command("build", config.data)],
    )


def _train(config: PipelineConfig, data: BuildConfig, role: str, files: list[Path]) -> Step:
    return training_step(
        f"train_{role}",
        resolve_recipe(config, role),
        _recipe_path(config, role),
        task=config.task,
        processes=config.training.processes,
        inputs=(data.out / "build.json", *files),
    )


def _predict(config: PipelineConfig, data: BuildConfig, role: str, stage: Stage, name: str) -> Step:
    recipe = resolve_recipe(config, role)
    out = config.predictions_dir / name
    inference = config.inference
    engine = ["--engine", inference.engine]
    if inference.engine == "ray":
        engine += ["--workers", str(inference.workers)]
    words = ["predict", "--recipe", _recipe_path(config, role).as_posix(), "--task", config.task.as_posix()]
    words += [
        "--stage",
        name,
        "--data",
        data.out.as_posix(),
        "--splits",
        ",".join(stage.splits),
        "--out",
        out.as_posix(),
    ]
    words += [*engine, *inference.options]
    offline = offline_environment(recipe)
    return Step(
        name=f"predict_{role}",
        # Neither engine nor workers: they change no byte of the result.
        settings={"recipe": teaching_keys(recipe), "splits": stage.splits, "options": inference.options},
        inputs=(
            config.task,
            data.out / "build.json",
            data.out / "manifest.parquet",
            *trained_files(recipe),
        ),
        outputs=(out / "predictions.json",),
        owned=(out,),
        make_commands=lambda: [riskfuse_command(*words, environment=offline, partial_success=True)],
    )


def _specialist_files(data: BuildConfig, card: TaskCard) -> list[Path]:
    return [data.out / f"{card.specialist.name}_{split}.json" for split in ("train", "val")]


def _specialist_set(config: PipelineConfig, data: BuildConfig, card: TaskCard) -> Step:
    predictions = config.predictions_dir / card.stages[0]
    files = tuple(_specialist_files(data, card))
    words: list[str | Path] = ["specialist", data.out, "--task", config.task, "--predictions", predictions]
    words += config.mining.options
    return Step(
        name="specialist_set",
        settings={"options": config.mining.options},
        inputs=(config.task, data.out / "build.json", data.out / "manifest.parquet", predictions),
        outputs=files,
        owned=files,
        make_commands=lambda: [riskfuse_command(*words)],
    )


def _fuse(config: PipelineConfig, data: BuildConfig, card: TaskCard) -> Step:
    base, second = (config.predictions_dir / name for name in card.stages)
    out = config.runs_dir / FUSION
    words: list[str | Path] = ["fuse", data.out, "--task", config.task, "--base", base, "--specialist", second]
    words += ["--out", out, *config.decision.options]
    return Step(
        name="fuse",
        settings={"options": config.decision.options},
        inputs=(config.task, data.out / "build.json", data.out / "manifest.parquet", base, second),
        outputs=tuple(out / name for name in ("fusion.json", "scores.json", "b-submit.txt", "fallback.txt")),
        owned=(out,),
        make_commands=lambda: [riskfuse_command(*words, partial_success=True)],
    )
