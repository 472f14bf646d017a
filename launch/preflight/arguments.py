"""Checks of the recipe by itself: unknown keys, traps of LLaMA-Factory, the DeepSpeed file, the output directory."""

from __future__ import annotations

import dataclasses
import difflib
import json
from pathlib import Path
from typing import Any

from launch.preflight.finding import Finding, error, warning
from launch.recipe import TrainingRecipe
from launch.safetensors_header import tensor_names
from launch.training import TrainingState, has_gpu, training_state

__all__ = ["additional_targets", "check_arguments"]

# Modules that every language model has, whatever their names in the file of weights are.
_ALWAYS_THERE = frozenset({"embed_tokens", "lm_head"})


def check_arguments(recipe: TrainingRecipe) -> list[Finding]:
    """All findings that need neither data nor a model."""
    return [
        *_unknown_keys(recipe),
        *_evaluation(recipe),
        *_deepspeed(recipe),
        *_packing(recipe),
        *_number_type(recipe),
        *_additional_target(recipe),
        *_output_dir(recipe),
    ]


def _unknown_keys(recipe: TrainingRecipe) -> list[Finding]:
    from llamafactory.hparams import (
        DataArguments,
        FinetuningArguments,
        GeneratingArguments,
        ModelArguments,
        RayArguments,
        TrainingArguments,
    )

    classes: tuple[Any, ...] = (
        ModelArguments,
        DataArguments,
        TrainingArguments,
        FinetuningArguments,
        GeneratingArguments,
        RayArguments,
    )
    known = {field.name for cls in classes for field in dataclasses.fields(cls) if field.init}
    findings = []
    for key in recipe.raw:
        if key in known:
            continue
        close = difflib.get_close_matches(str(key), known, n=1)
        remedy = f"Did you mean {close[0]!r}?" if close else "Remove it."
        findings.append(error(f"{recipe.path}: {key}", "LLaMA-Factory has no such key", remedy))
    return findings


def _evaluation(recipe: TrainingRecipe) -> list[Finding]:
    raw, where = recipe.raw, str(recipe.path)
    if raw.get("val_size"):
        return [
            error(
                f"{where}: val_size",
                "photos would be split at random, so that near-duplicates of training photos validate",
                "Remove it and name the data set's own validation set as eval_dataset.",
            )
        ]
    if raw.get("eval_dataset"):
        return []
    if str(raw.get("eval_strategy", "no")) != "no" or raw.get("do_eval"):
        return [error(f"{where}: eval_dataset", "evaluation is on without a data set", "Name an eval_dataset.")]
    return [
        warning(f"{where}: eval_dataset", "no validation set, so over-fitting stays unseen", "Name an eval_dataset.")
    ]


def _deepspeed(recipe: TrainingRecipe) -> list[Finding]:
    value = recipe.raw.get("deepspeed")
    if value is None or isinstance(value, dict):
        return []
    where = f"{recipe.path}: deepspeed"
    try:
        json.loads(Path(str(value)).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [
            error(where, f"{value} does not exist", "The shipped ones are in ds_configs/; start in the repository.")
        ]
    except ValueError as problem:
        return [error(where, f"{value} is no JSON: {problem}", "Mend the file.")]
    return []


def _packing(recipe: TrainingRecipe) -> list[Finding]:
    raw = recipe.raw
    if raw.get("neat_packing"):
        cutoff = raw.get("cutoff_len", 2048)
        if cutoff % 8:
            remedy = "Choose a multiple of 8."
            return [error(f"{recipe.path}: cutoff_len", f"neat_packing does not work with {cutoff}", remedy)]
    elif raw.get("packing"):
        problem = "packed samples see each other's photos and answers"
        return [error(f"{recipe.path}: packing", problem, "Use 'neat_packing: true' in its place.")]
    return []


def _number_type(recipe: TrainingRecipe) -> list[Finding]:
    raw = recipe.raw
    wanted = [key for key in ("bf16", "fp16", "pure_bf16") if raw.get(key)]
    if not wanted or has_gpu():
        return []
    problem = "this machine has no GPU: training would stop, or with 'use_cpu: true' run eight times slower than fp32"
    return [warning(f"{recipe.path}: {wanted[0]}", problem, "Train on a GPU, or remove the key here.")]


def additional_targets(recipe: TrainingRecipe) -> list[str]:
    """Modules that are trained whole beside LoRA, as the recipe's ``additional_target`` names them."""
    value = recipe.raw.get("additional_target") or []
    return [str(name).strip() for name in (value.split(",") if isinstance(value, str) else value)]


def _additional_target(recipe: TrainingRecipe) -> list[Finding]:
    names = additional_targets(recipe)
    if not names:
        return []
    where = f"{recipe.path}: additional_target"
    directory = Path(recipe.model_name_or_path)
    if not directory.is_dir():
        remedy = "Look into the adapter for its keys after the first checkpoint."
        return [warning(where, "the model is not here, so the module names cannot be checked", remedy)]
    keys = tensor_names(directory)
    findings = []
    for name in names:
        if name in _ALWAYS_THERE or any(name in key.split(".") for key in keys):
            continue
        problem = f"the base model has no module {name!r}; LLaMA-Factory would go on without training it"
        findings.append(error(where, problem, f"Use a name from the weights of {directory}."))
    return findings


def _output_dir(recipe: TrainingRecipe) -> list[Finding]:
    output_dir = Path(recipe.output_dir)
    where = f"{recipe.path}: output_dir"
    state = training_state(output_dir)
    if state is TrainingState.FINISHED:
        problem = f"{output_dir} holds a finished run; training again adds a step and overwrites its results"
        return [error(where, problem, "Use the adapter as it is, name another output_dir, or remove the directory.")]
    if state is TrainingState.PARTIAL and recipe.raw.get("overwrite_output_dir"):
        problem = f"{output_dir} holds checkpoints that are not resumed"
        remedy = "Remove the key: every restart would begin anew."
        return [error(f"{recipe.path}: overwrite_output_dir", problem, remedy)]
    if recipe.raw.get("overwrite_output_dir"):
        problem = "an interrupted run will not be resumed but begun anew"
        return [warning(f"{recipe.path}: overwrite_output_dir", problem, "Remove the key.")]
    if state is TrainingState.PARTIAL:
        return [
            warning(
                where, f"{output_dir} holds checkpoints: the run goes on from the last one", "Remove it to begin anew."
            )
        ]
    return []
