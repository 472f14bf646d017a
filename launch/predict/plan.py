"""Resolves flags, recipe and task card into what a run needs: the job, its fingerprint and its photos."""

from __future__ import annotations

import os
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import load_task_card
from launch.predict.config import BARE_BASE, PredictConfig
from launch.predict.endpoint.job import EndpointJob, checked_url
from launch.predict.fingerprint import adapter_files, fingerprint, library_versions, model_files
from launch.predict.model import ModelSpec
from launch.predict.parts import PartHeader
from launch.predict.rows import PhotoRow, rows_from_dataset, rows_from_list
from launch.predict.scorer import COMPUTATION
from launch.predict.vllm.engine import LOG_NAME, VllmServerSpec, adapted_name, vllm_versions
from launch.predict.worker import ScoringJob
from launch.preflight.length import DEFAULT_CUTOFF, image_rules, image_tokens
from launch.recipe import TrainingRecipe, load_recipe
from launch.training import has_gpu

__all__ = ["endpoint_job", "named_model", "part_header", "photo_rows", "scoring_job", "vllm_server_spec"]

_CLIENT_LIBRARIES = ("riskfuse", "llamafactory", "pillow", "pyarrow")  # what a photo goes through before it is sent


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


def endpoint_job(config: PredictConfig) -> EndpointJob:
    """Resolve what is asked at an endpoint; for vLLM, address and key are filled in when its server runs.

    Raises:
        ConfigError: Recipe or task card are missing or impossible, the address is none that photos may be sent to, or
            the variable that is to hold the key is not set.
    """
    recipe, card = load_recipe(config.recipe), load_task_card(config.task)
    rules = image_rules(recipe)
    url = "" if config.endpoint is None else checked_url(config.endpoint, plain_http=config.plain_http)
    return EndpointJob(
        url=url,
        model=config.endpoint_model or adapted_name(scoring_job(config).spec),
        prompt=card.prompt(config.stage),
        answers=card.answers(config.stage),
        template=recipe.template,
        min_pixels=rules.recipe_min_pixels,
        max_pixels=rules.recipe_max_pixels,
        reading=config.reading,
        top_logprobs=config.top_logprobs,
        in_flight=config.in_flight,
        views=config.views,
        api_key=_api_key(config.api_key_env),
    )


def _api_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not (key := os.environ.get(variable, "").strip()):
        raise ConfigError(f"--api-key-env {variable}: is not set in the environment; set it to the endpoint's key")
    return key


def vllm_server_spec(config: PredictConfig, spec: ModelSpec) -> VllmServerSpec:
    """Resolve how vLLM's server is started.

    Raises:
        ConfigError: The recipe is impossible.
    """
    assert config.vllm_python is not None
    return VllmServerSpec(
        python=config.vllm_python,
        dtype=_vllm_dtype(spec),
        context=int(load_recipe(config.recipe).raw.get("cutoff_len", DEFAULT_CUTOFF)),
        extra=tuple(shlex.split(config.vllm_args)),
        log=config.out / LOG_NAME if isinstance(config.out, Path) else Path(LOG_NAME),
        wait_s=config.vllm_wait_s,
    )


def _vllm_dtype(spec: ModelSpec) -> str:
    return "float32" if (spec.dtype, spec.device) == ("auto", "cpu") else spec.dtype


def part_header(config: PredictConfig, job: ScoringJob) -> PartHeader:
    """What decides the predictions of a run, hashed, for the metadata of its part files.

    Raises:
        ConfigError: The model or adapter directory does not hold what it must, or there is no vLLM.
    """
    spec = job.spec
    components: dict[str, Any] = {
        "prompt": job.prompt.model_dump(),
        "answers": [answer.model_dump() for answer in job.answers],
        "preprocessing": {key: value for key, value in spec.preprocessing.items() if key != "cache_dir"},
        "shard_size": config.shard_size,
        **_engine_components(config, spec),
    }
    if config.views != "none":  # without, predictions of earlier versions stay valid
        components["views"] = config.views
    return PartHeader(
        fingerprint=fingerprint(components),
        components=components,
        stage=config.stage,
        answer_ids=tuple(answer.id for answer in job.answers),
    )


def _engine_components(config: PredictConfig, spec: ModelSpec) -> dict[str, Any]:
    """What decides the predictions of an engine beside the questions; Ray and local give the same."""
    if config.engine in ("endpoint", "vllm"):
        asked: dict[str, Any] = {"engine": config.engine, "reading": config.reading}
        if config.reading == "first-token":
            asked["top_logprobs"] = config.top_logprobs
        versions = library_versions(_CLIENT_LIBRARIES)
        if config.engine == "endpoint":  # not its address: the same model may be served elsewhere tomorrow
            return asked | {"endpoint_model": config.endpoint_model, "versions": versions}
        assert config.vllm_python is not None
        versions |= vllm_versions(config.vllm_python)
        asked |= {"dtype": _vllm_dtype(spec), "vllm_args": config.vllm_args, "versions": versions}
    else:
        default = "float32" if spec.device == "cpu" else "checkpoint"
        asked = {
            "dtype": spec.dtype if spec.dtype != "auto" else default,
            "threads": spec.threads,
            "batch_size": config.batch_size,
            "versions": library_versions(),
            "computation": COMPUTATION,
        }
    return asked | {
        "model": model_files(spec.model, spec.preprocessing.get("model_revision")),
        "adapter": adapter_files(spec.adapter),
        "device": spec.device,
    }


def photo_rows(config: PredictConfig) -> list[PhotoRow]:
    """The photos of a run, in order; of a sample, the same ones each time.

    Raises:
        DataError: The data set or list is not what it must be.
    """
    if config.data is not None:
        tokens_of = partial(image_tokens, rules=image_rules(load_recipe(config.recipe)))
        rows = rows_from_dataset(config.data, config.splits, config.folds, tokens_of)
    else:
        assert config.images is not None
        assert config.photo_list is not None
        rows = rows_from_list(config.images, config.photo_list, load_task_card(config.task))
    if config.sample is None or config.sample >= len(rows):
        return rows
    return [rows[number * len(rows) // config.sample] for number in range(config.sample)]
