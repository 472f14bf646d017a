"""Checks of the recipe by itself: unknown keys, traps of LLaMA-Factory, the DeepSpeed file, the output directory."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import json
import math
import types
import typing
from pathlib import Path
from typing import Any

from launch.preflight.finding import Finding, error, warning
from launch.recipe import TrainingRecipe
from launch.safetensors_header import tensor_names
from launch.training import TrainingState, has_gpu, training_state

__all__ = ["additional_targets", "check_arguments", "check_values"]

# Modules that every language model has, whatever their names in the file of weights are.
_ALWAYS_THERE = frozenset({"embed_tokens", "lm_head"})


def check_arguments(recipe: TrainingRecipe) -> list[Finding]:
    """All findings that need neither data nor a model."""
    return [
        *_unknown_keys(recipe),
        *_teaching(recipe),
        *_evaluation(recipe),
        *_deepspeed(recipe),
        *_packing(recipe),
        *_number_type(recipe),
        *_additional_target(recipe),
        *_output_dir(recipe),
    ]


def check_values(recipe: TrainingRecipe) -> list[Finding]:
    """Values of another kind than LLaMA-Factory's argument of that name takes. The other checks read them."""
    kinds = _kinds()
    findings = []
    for key, value in recipe.raw.items():
        if key in kinds and (expected := _misfit(value, kinds[key])):
            findings.append(error(f"{recipe.path}: {key}", f"expected {expected}, got {value!r}", "Mend the value."))
    return findings


@functools.cache
def _kinds() -> dict[str, Any]:
    """The type of every key that LLaMA-Factory takes in a recipe."""
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
    kinds: dict[str, Any] = {}
    for cls in classes:
        hints = typing.get_type_hints(cls)
        kinds |= {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}
    return kinds


def _misfit(value: Any, kind: Any) -> str:
    """What a value of this kind must be; empty when it is that, or when the kind is one that is not looked at."""
    options = set(typing.get_args(kind)) if typing.get_origin(kind) in (typing.Union, types.UnionType) else {kind}
    if value is None:
        # A flag that is null is off. Other keys have a default, which null takes away.
        return "" if options & {type(None), bool} else "a value, or no such line"
    options -= {type(None)}
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    names = [name for option in options for name in _names(option)]
    if names and options <= {str, *(option for option in options if _names(option))}:
        return "" if value in names else f"one of {', '.join(map(str, names))}"
    if options == {bool}:
        return "" if isinstance(value, bool | int) else "true or false"
    if options == {int}:
        return "" if is_number and float(value).is_integer() else "a whole number"
    if options == {float}:
        return "" if is_number or _spells_number(value) else "a number"
    return "a text, such as one in quotes" if str in options and is_number else ""


def _names(option: Any) -> list[Any]:
    """The values of an enumeration or a literal type; none of any other type."""
    if typing.get_origin(option) is typing.Literal:
        return list(typing.get_args(option))
    return [member.value for member in option] if isinstance(option, type) and issubclass(option, enum.Enum) else []


def _spells_number(value: Any) -> bool:
    """YAML 1.1 takes 1e-4 for a text, LLaMA-Factory's reader for the number that is meant."""
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


def _unknown_keys(recipe: TrainingRecipe) -> list[Finding]:
    known = _kinds()
    findings = []
    for key in recipe.raw:
        if key in known:
            continue
        close = difflib.get_close_matches(str(key), known, n=1)
        remedy = f"Did you mean {close[0]!r}?" if close else "Remove it."
        findings.append(error(f"{recipe.path}: {key}", "LLaMA-Factory has no such key", remedy))
    return findings


def _teaching(recipe: TrainingRecipe) -> list[Finding]:
    """Is anything trained, on all examples, from a base that is there?"""
    raw, where = recipe.raw, str(recipe.path)
    findings = []
    if raw.get("stage", "sft") != "sft":
        problem = f"{raw['stage']!r} does not train answers to photos"
        findings.append(error(f"{where}: stage", problem, "Set 'stage: sft'."))
    if not raw.get("do_train"):
        findings.append(error(f"{where}: do_train", "without it nothing is trained", "Set 'do_train: true'."))
    if raw.get("max_samples"):
        problem = f"only the first {raw['max_samples']} examples of each data set are used"
        findings.append(warning(f"{where}: max_samples", problem, "Remove it to train on all."))
    model = Path(recipe.model_name_or_path)
    if model.exists() and not (model / "config.json").is_file():
        problem = f"{model} is here, but holds no config.json"
        remedy = "Name a model's directory, or a model on the hub by owner/name."
        findings.append(error(f"{where}: model_name_or_path", problem, remedy))
    checkpoint = raw.get("resume_from_checkpoint")
    if isinstance(checkpoint, str) and not Path(checkpoint).is_dir():
        problem = f"{checkpoint} does not exist"
        remedy = "Remove the key: an interrupted run goes on from its last checkpoint by itself."
        findings.append(error(f"{where}: resume_from_checkpoint", problem, remedy))
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
    except OSError as problem:
        return [error(where, f"{value} cannot be read: {problem.strerror}", "The shipped ones are in ds_configs/.")]
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
    if output_dir.exists() and not output_dir.is_dir():
        return [error(where, f"{output_dir} is no directory", "Name another one.")]
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
