"""The keys of a recipe that decide its memory, and those that this arithmetic does not know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dataset_builders.errors import ConfigError
from launch.plan.architecture import Architecture, Linear

__all__ = ["Checkpointing", "Settings", "Zero", "read_settings"]

# Which layers store only their input and compute the rest again in the backward pass:
#   off      none
#   trained  LLaMA-Factory's own: those with trained weights. A frozen vision tower then stores everything, since
#            checkpointing also asks for gradients at the patch embedding (transformers' enable_input_require_grads)
#   all      the Trainer's (gradient_checkpointing: true): every layer
Checkpointing = Literal["off", "trained", "all"]

# Keys that change memory in ways that are not modelled, unless they have this value.
_NOT_MODELLED: dict[str, Any] = {
    "finetuning_type": "lora",
    "quantization_bit": None,
    "pure_bf16": False,
    "use_dora": False,
    "use_unsloth": False,
    "use_unsloth_gc": False,
    "enable_liger_kernel": False,
    "use_galore": False,
    "use_apollo": False,
    "use_badam": False,
    "upcast_layernorm": False,
    "shift_attn": False,
    "mixture_of_depths": None,
    "freeze_language_model": False,
    "optim": "adamw_torch",
}


@dataclass(frozen=True)
class Zero:
    """What a DeepSpeed file shards and moves; stage 0 without one.

    Attributes:
        stage: ZeRO stage.
        offload_optimizer: Optimiser states are in host memory.
        offload_parameters: Weights are in host memory.
        bucket: Elements of the buffer in which gradients are reduced; None: the square of the hidden size.
        live: Elements that ZeRO-3 may keep gathered.
    """

    stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False
    bucket: int | None = 0
    live: int = 0


@dataclass(frozen=True)
class Settings:
    """What a recipe says about memory.

    Attributes:
        item: Bytes of a number in weights and activations: 2 with bf16 or fp16, 4 otherwise.
        batch: Examples, or packs, of a GPU in one pass.
        accumulation: Passes before a step of the optimiser.
        evaluation_batch: Examples of a GPU in one pass of the evaluation.
        checkpointing: See ``Checkpointing``.
        rank: Rank of LoRA.
        dropout: Whether LoRA drops inputs out; each layer then stores its own copy of them.
        layer_targets: Linear layers of the language model with LoRA.
        block_targets: Linear layers of the vision tower with LoRA; none when it is frozen.
        eager: Attention stores its probabilities (``flash_attn: disabled``); sdpa and fa2 do not.
        packed: Several examples share a sequence of ``cutoff_len`` tokens (``neat_packing``).
        cutoff: ``cutoff_len``.
        zero: The DeepSpeed file.
    """

    item: int
    batch: int
    accumulation: int
    evaluation_batch: int
    checkpointing: Checkpointing
    rank: int
    dropout: bool
    layer_targets: tuple[Linear, ...]
    block_targets: tuple[Linear, ...]
    eager: bool
    packed: bool
    cutoff: int
    zero: Zero


def read_settings(keys: Mapping[str, Any], architecture: Architecture, where: str) -> Settings:
    """Read a recipe's keys; defaults are those of LLaMA-Factory 0.9.5 and transformers 5.6.

    Args:
        keys: The recipe with its overlay.
        architecture: The base model's sizes.
        where: Names the recipe in messages.

    Raises:
        ConfigError: A key is not modelled, so that an estimate would be wrong, or the DeepSpeed file is missing.
    """
    for key, expected in _NOT_MODELLED.items():
        if keys.get(key, expected) not in (expected, None):
            raise ConfigError(f"{where}: {key}: {keys[key]!r} changes memory in a way that riskfuse plan does not know")
    layer_targets, block_targets = _targets(keys, architecture, where)
    evaluates = str(keys.get("eval_strategy", "no")) != "no"
    return Settings(
        item=2 if keys.get("bf16") or keys.get("fp16") else 4,
        batch=int(keys.get("per_device_train_batch_size", 8)),
        accumulation=int(keys.get("gradient_accumulation_steps", 1)),
        evaluation_batch=int(keys.get("per_device_eval_batch_size", 8)) if evaluates else 0,
        checkpointing=_checkpointing(keys),
        rank=int(keys.get("lora_rank", 8)),
        dropout=float(keys.get("lora_dropout", 0)) > 0,
        layer_targets=layer_targets,
        block_targets=block_targets,
        eager=str(keys.get("flash_attn", "auto")) == "disabled",
        packed=bool(keys.get("neat_packing") or keys.get("packing")),
        cutoff=int(keys.get("cutoff_len", 2048)),
        zero=_zero(keys.get("deepspeed"), where),
    )


def _checkpointing(keys: Mapping[str, Any]) -> Checkpointing:
    if keys.get("gradient_checkpointing"):
        # LLaMA-Factory, unless it is told not to, replaces what the Trainer would switch on by its own.
        return "all" if keys.get("disable_gradient_checkpointing") else "trained"
    return "off" if keys.get("disable_gradient_checkpointing") else "trained"


def _targets(
    keys: Mapping[str, Any], architecture: Architecture, where: str
) -> tuple[tuple[Linear, ...], tuple[Linear, ...]]:
    value = keys.get("lora_target", "all")
    names = {name.strip() for name in (value.split(",") if isinstance(value, str) else value)}
    layer, block = architecture.layer_linears, architecture.block_linears
    if names != {"all"}:
        known = {linear.name.rsplit(".", 1)[-1] for linear in (*layer, *block)}
        if strange := names - known:
            raise ConfigError(
                f"{where}: lora_target: {', '.join(sorted(strange))} is not known; use all, or some of "
                f"{', '.join(sorted(known))}"
            )
        # LLaMA-Factory takes every layer whose name contains one of these.
        layer = tuple(linear for linear in layer if any(name in linear.name for name in names))
        block = tuple(linear for linear in block if any(name in linear.name for name in names))
    return layer, () if keys.get("freeze_vision_tower", True) else block


def _zero(value: Any, where: str) -> Zero:
    if value is None:
        return Zero()
    if not isinstance(value, Mapping):
        try:
            value = json.loads(Path(str(value)).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"{where}: deepspeed: {value} does not exist; the shipped ones are in ds_configs/"
            ) from None
        except ValueError as problem:
            raise ConfigError(f"{where}: deepspeed: {value} is no JSON: {problem}") from problem
    zero = value.get("zero_optimization", {})
    stage = int(zero.get("stage", 0))
    bucket = zero.get("reduce_bucket_size", 500_000_000)
    number = None if bucket == "auto" else int(bucket) * (2 if zero.get("overlap_comm") and stage < 3 else 1)
    live = int(zero.get("stage3_max_live_parameters", 1_000_000_000)) if stage == 3 else 0
    offloads = [str((zero.get(f"offload_{what}") or {}).get("device", "none")) for what in ("optimizer", "param")]
    return Zero(stage, offloads[0] != "none", offloads[1] != "none", number if stage else 0, live)
