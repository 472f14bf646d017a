"""Resolves flags, recipe and task card into what a run needs: the job, its fingerprint and its photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import load_task_card
from launch.predict.config import BARE_BASE, PredictConfig
from launch.predict.fingerprint import adapter_files, fingerprint, library_versions, model_files
from launch.predict.model import ModelSpec
from launch.predict.parts import PartHeader
from launch.predict.rows import PhotoRow, rows_from_dataset, rows_from_list
from launch.predict.scorer import COMPUTATION
from launch.predict.worker import ScoringJob
from launch.recipe import TrainingRecipe, load_recipe
from launch.training import has_gpu

__all__ = ["named_model", "part_header", "photo_rows", "scoring_job"]


def scoring_job(config: PredictConfig) -> ScoringJob:
    """Resolve recipe, task card, adapter and device into what workers need.

    Raises:
        ConfigError: Recipe or task card are missing or impossible.
    """
    recipe = load_recipe(config.recipe)
    card = load_task_card(config.task)
    answers = card.answers(config.stage)
    model, adapter = named_model(recipe, adapter=config.adapter, merged=config.merged)
    spec = ModelSpec(
        model=model,
        adapter=adapter,
        preprocessing={"template": recipe.template, **recipe.preprocessing},
        device=_device(config),
        dtype=config.dtype,
        threads=config.threads,
    )
    return ScoringJob(
        spec=spec, prompt=card.prompt(config.stage), answers=answers, batch_size=config.batch_size, views=config.views
    )


def named_model(recipe: TrainingRecipe, *, adapter: str | None, merged: Path | None) -> tuple[str, str | None]:
    """Model and adapter directory that a recipe and the flags of a command name; arguments as in ``PredictConfig``."""
    if merged is not None:
        return str(merged), None
    if adapter == BARE_BASE:
        return recipe.model_name_or_path, None
    if recipe.trains_adapter:
        return recipe.model_name_or_path, adapter or recipe.output_dir
    return recipe.output_dir, adapter


def _device(config: PredictConfig) -> str:
    if config.device != "auto":
        return config.device
    if config.engine == "ray" and config.address is not None:
        raise ConfigError("with --address, say --device cpu or --device cuda: only the cluster's nodes know theirs")
    return "cuda" if has_gpu() else "cpu"


def part_header(config: PredictConfig, job: ScoringJob) -> PartHeader:
    """What decides the predictions of a run, hashed, for the metadata of its part files.

    Raises:
        ConfigError: The model or adapter directory does not hold what it must.
    """
    spec = job.spec
    dtype = spec.dtype if spec.dtype != "auto" else ("float32" if spec.device == "cpu" else "checkpoint")
    components: dict[str, Any] = {
        "model": model_files(spec.model, spec.preprocessing.get("model_revision")),
        "adapter": adapter_files(spec.adapter),
        "prompt": job.prompt.model_dump(),
        "answers": [answer.model_dump() for answer in job.answers],
        "preprocessing": {key: value for key, value in spec.preprocessing.items() if key != "cache_dir"},
        "device": spec.device,
        "dtype": dtype,
        "threads": spec.threads,
        "batch_size": config.batch_size,
        "shard_size": config.shard_size,
        "versions": library_versions(),
        "computation": COMPUTATION,
    }
    if config.views != "none":  # without, predictions of earlier versions stay valid
        components["views"] = config.views
    return PartHeader(
        fingerprint=fingerprint(components),
        components=components,
        stage=config.stage,
        answer_ids=tuple(answer.id for answer in job.answers),
    )


def photo_rows(config: PredictConfig) -> list[PhotoRow]:
    """The photos of a run, in order.

    Raises:
        DataError: The data set or list is not what it must be.
    """
    if config.data is not None:
        return rows_from_dataset(config.data, config.splits, config.folds)
    assert config.images is not None
    assert config.photo_list is not None
    return rows_from_list(config.images, config.photo_list, load_task_card(config.task))
