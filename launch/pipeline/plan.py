"""The steps of a pipeline, in order: what each reads, writes and runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

from dataset_builders.augment.config import load_augment_config
from dataset_builders.build_config import BuildConfig, ImageFolderSource, load_build_config
from dataset_builders.errors import ConfigError
from dataset_builders.files import write_text
from dataset_builders.task_card import BASE, TaskCard, load_task_card
from launch.pipeline.amplifier_steps import amplified_dir, amplified_inputs, amplified_recipe, amplify_step
from launch.pipeline.config import PipelineConfig
from launch.pipeline.data_sets import check_data_sets
from launch.pipeline.fold_steps import OUT_OF_FOLD, fold_predictions, folds_step, mined_predictions
from launch.pipeline.model_steps import (
    offline_environment,
    riskfuse_command,
    teaching_keys,
    trained_files,
    training_step,
)
from launch.pipeline.step import Command, Step
from launch.plan.profiles import load_profile
from launch.recipe import load_recipe
from launch.tracking import TENSORBOARD

__all__ = ["FUSION", "REPORT_NAME", "plan_steps", "resolve_recipe", "stages_of", "training_data", "write_recipes"]

FUSION = "fusion"  # directory in the run directory
REPORT_NAME = "report.html"  # in the run directory

_DATA_FILES = ("build.json", "manifest.parquet", "train.json", "val.json", "test.json")


def plan_steps(config: PipelineConfig) -> list[Step]:
    """Make the steps of a pipeline.

    Raises:
        ConfigError: The task card, the build config or a recipe is missing or wrong, or a recipe names a data set that
            is not its stage's.
    """
    card = load_task_card(config.task)
    built, data = load_build_config(config.data), training_data(config)
    if built.task.resolve() != config.task.resolve():
        raise ConfigError(
            f"{config.data} builds for the task card {built.task}, but pipeline {config.name!r} names {config.task}; "
            "give both the same"
        )
    stages = stages_of(config, card)
    if config.fitted is None:  # else nothing is trained
        check_data_sets(config, card, {name: resolve_recipe(config, name) for name in stages})
    steps = [_prepare(config)] if config.prepare is not None else []
    steps.append(_build(config, built))
    if config.augment is not None:
        steps.append(_augment(config, config.augment, built, data))
    if config.fitted is not None:
        steps += [_predict(config, data, name) for name in stages]
    else:
        steps += [
            *_amplify(config, BASE),
            _train(config, data, BASE, [data.out / "train.json", data.out / "val.json"]),
            _predict(config, data, BASE),
            *_folds(config, data, BASE),
        ]
        for name in stages[1:]:
            steps += [
                _specialist_set(config, data, name),
                *_amplify(config, name),
                _train(config, data, name, _specialist_files(data, name)),
                _predict(config, data, name),
                *_folds(config, data, name),
            ]
    fuse = _fuse(config, data, stages)
    return [*steps, fuse, _report(config, [step.name for step in (*steps, fuse)], fuse.outputs)]


def stages_of(config: PipelineConfig, card: TaskCard) -> tuple[str, ...]:
    """Names of the stages that take part: base, then the pipeline's specialists in the card's order.

    Raises:
        ConfigError: The pipeline names a specialist that the card does not have.
    """
    for name in config.specialists:
        card.specialist(name)
    return tuple(name for name in card.stages if name == BASE or name in config.specialists)


def training_data(config: PipelineConfig) -> BuildConfig:
    """The build config; its ``out`` is the directory that stages are trained on, the one with copies if there is one.

    Raises:
        ConfigError: The build config is missing or wrong.
    """
    data = load_build_config(config.data)
    if config.augment is None:
        return data
    return data.model_copy(update={"out": data.out.with_name(f"{data.out.name}_augmented")})


def resolve_recipe(config: PipelineConfig, name: str) -> dict[str, Any]:
    """A stage's recipe as the pipeline uses it: with hardware profile, overrides, data set and output directory.

    Args:
        config: The pipeline.
        name: Name of the stage.
    """
    stage = config.stage(name)
    data = training_data(config)
    directories = {"dataset_dir": data.out.as_posix(), "output_dir": (config.saves_dir / name).as_posix()}
    profile = load_profile(config.training.profile) if config.training.profile is not None else {}
    recipe = dict(load_recipe(stage.recipe).raw) | profile | stage.overrides | directories
    return recipe if stage.amplifier is None else amplified_recipe(recipe, amplified_dir(config, name))


def write_recipes(config: PipelineConfig) -> None:
    """Write the resolved recipes to the run directory, where every command of the pipeline reads them."""
    for name in (BASE, *config.specialists):
        text = yaml.safe_dump(resolve_recipe(config, name), sort_keys=False, allow_unicode=True, width=1000)
        recipe = config.stage(name).recipe.as_posix()
        header = f"# {recipe} with the overrides of pipeline {config.name!r}; written by riskfuse run.\n"
        write_text(_recipe_path(config, name), header + text)


def _recipe_path(config: PipelineConfig, name: str) -> Path:
    return config.runs_dir / "recipes" / f"{name}.yaml"


def _folds(config: PipelineConfig, data: BuildConfig, name: str) -> list[Step]:
    if not config.out_of_fold:
        return []
    return [folds_step(config, data, name, resolve_recipe(config, name), _recipe_path(config, name))]


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


def _augment(config: PipelineConfig, policy: Path, built: BuildConfig, data: BuildConfig) -> Step:
    content = load_augment_config(policy)
    if content.task.resolve() != config.task.resolve():
        raise ConfigError(
            f"{policy} augments for the task card {content.task}, but pipeline {config.name!r} names {config.task}; "
            "give both the same"
        )
    return Step(
        name="augment",
        settings=content.content() | {"out": data.out.as_posix()},
        inputs=(config.task, built.out / "build.json", built.out / "manifest.parquet"),
        outputs=tuple(data.out / name for name in _DATA_FILES),
        owned=(data.out,),
        make_commands=lambda: [riskfuse_command("augment", policy, "--dataset", built.out, "--out", data.out)],
    )


def _amplify(config: PipelineConfig, name: str) -> list[Step]:
    amplifier = config.stage(name).amplifier
    return [] if amplifier is None else [amplify_step(config, name, amplifier.options)]


def _train(config: PipelineConfig, data: BuildConfig, name: str, files: list[Path]) -> Step:
    return training_step(
        f"train_{name}",
        resolve_recipe(config, name),
        _recipe_path(config, name),
        task=config.task,
        processes=config.training.processes,
        inputs=(data.out / "build.json", *files, *amplified_inputs(config, name)),
        curves=config.runs_dir / TENSORBOARD / name,
    )


def _predict(config: PipelineConfig, data: BuildConfig, name: str) -> Step:
    recipe = resolve_recipe(config, name)
    # Out of fold, training photos are scored by the models of the folds.
    splits = [s for s in config.stage(name).splits if not (config.out_of_fold and s == "train")]
    if config.fitted is not None:
        splits = ["test"]
    out = config.predictions_dir / name
    inference = config.inference
    engine = ["--engine", inference.engine]
    if inference.engine == "ray":
        engine += ["--workers", str(inference.workers)]
    words = ["predict", "--recipe", _recipe_path(config, name).as_posix(), "--task", config.task.as_posix()]
    words += ["--stage", name, "--data", data.out.as_posix(), "--splits", ",".join(splits)]
    words += ["--out", out.as_posix(), *engine, *inference.options]
    return Step(
        name=f"predict_{name}",
        # Neither engine nor workers: they change no byte of the result.
        settings={"recipe": teaching_keys(recipe), "splits": splits, "options": inference.options},
        inputs=(
            config.task,
            data.out / "build.json",
            data.out / "manifest.parquet",
            *trained_files(recipe),
        ),
        outputs=(out / "predictions.json",),
        owned=(out,),
        make_commands=lambda: [riskfuse_command(*words, environment=offline_environment(recipe), partial_success=True)],
    )


def _specialist_files(data: BuildConfig, name: str) -> list[Path]:
    return [data.out / f"{name}_{split}.json" for split in ("train", "val")]


def _specialist_set(config: PipelineConfig, data: BuildConfig, name: str) -> Step:
    predictions = mined_predictions(config, data)
    files = tuple(_specialist_files(data, name))
    options = config.specialists[name].mining.options
    words: list[str | Path] = ["specialist", data.out, "--task", config.task, "--stage", name]
    words += ["--predictions", *predictions, *options]
    return Step(
        name=f"set_{name}",
        settings={"options": options},
        inputs=(config.task, data.out / "build.json", data.out / "manifest.parquet", *predictions),
        outputs=files,
        owned=files,
        make_commands=lambda: [riskfuse_command(*words)],
    )


def _fuse(config: PipelineConfig, data: BuildConfig, stages: tuple[str, ...]) -> Step:
    predictions = [config.predictions_dir / name for name in stages]
    out = config.runs_dir / FUSION
    words: list[str | Path] = ["fuse", data.out, "--task", config.task, "--base", predictions[0]]
    for name, directory in zip(stages[1:], predictions[1:], strict=True):
        words += ["--specialist", f"{name}={directory}"]
    if config.out_of_fold:
        words += ["--out-of-fold", config.predictions_dir / OUT_OF_FOLD]
        predictions += [path for name in stages for path in fold_predictions(config, data, name)]
    fitted: list[Path] = []
    if config.fitted is not None:
        fitted = [config.fitted / name for name in ("fusion.json", "score.json")]
        words += ["--fitted", config.fitted]
    words += ["--out", out, *config.decision.options]
    return Step(
        name="fuse",
        settings={"options": config.decision.options},
        inputs=(config.task, data.out / "build.json", data.out / "manifest.parquet", *predictions, *fitted),
        outputs=tuple(out / name for name in ("fusion.json", "score.json", "b-submit.txt", "fallback.txt")),
        owned=(out,),
        make_commands=lambda: [riskfuse_command(*words)],
    )


def _report(config: PipelineConfig, steps: list[str], fused: tuple[Path, ...]) -> Step:
    markers = [config.runs_dir / "steps" / f"{name}.json" for name in steps]  # their times stand in the report
    out = config.runs_dir / REPORT_NAME
    return Step(
        name="report",
        settings={},
        inputs=(config.task, config.data, *fused, *markers, config.runs_dir / "config.json"),
        outputs=(out,),
        owned=(out,),
        make_commands=lambda: [riskfuse_command("report", config.runs_dir)],
    )
