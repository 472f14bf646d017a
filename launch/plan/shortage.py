"""Why a training does not fit: what takes most, and what to change about it."""

from __future__ import annotations

from launch.plan.estimate import GIB, Memory
from launch.plan.settings import Settings

__all__ = ["shortage"]

_CHECKPOINT = "checkpoint all layers (disable_gradient_checkpointing=true gradient_checkpointing=true)"


def shortage(memory: Memory, missing_gib: float, settings: Settings, gpus: int) -> str:
    """One sentence: how much too much, the largest term that can be changed, and the remedy.

    Args:
        memory: The estimate.
        missing_gib: GiB over what a GPU has.
        settings: The recipe.
        gpus: GPUs of all nodes.
    """
    parts = memory.parts
    largest = max(parts, key=lambda name: parts[name])
    # Weights are nearly always the largest, and the last that one wants to shard: first what depends on the batch.
    batch = max(("activations", "logits"), key=lambda name: parts[name])
    if largest == "weights" and missing_gib * GIB < memory.activations + memory.logits:
        named = f"{largest} take {parts[largest] / GIB:.1f} GiB and {batch} {parts[batch] / GIB:.1f}"
        largest = batch
    else:
        named = f"{largest} take {parts[largest] / GIB:.1f} GiB"
    return f"{missing_gib:.1f} GiB too much, {named}: {_remedy(largest, settings, gpus)}"


def _remedy(part: str, settings: Settings, gpus: int) -> str:
    if part == "weights":
        if settings.zero.stage == 3 and settings.zero.offload_parameters:
            return "take a smaller model"
        if settings.zero.stage == 3:
            return "keep them in host memory, deepspeed=ds_configs/zero3_offload.json"
        if gpus > 1:
            return "shard them, deepspeed=ds_configs/zero3.json"
        return "take more GPUs and deepspeed=ds_configs/zero3.json, or ds_configs/zero3_offload.json, which is slow"
    if part in ("gradients", "optimizer"):
        return "deepspeed=ds_configs/zero2_offload.json, or a smaller reduce_bucket_size in the DeepSpeed file"
    if (
        part == "activations"
        and settings.checkpointing != "all"
        and (settings.checkpointing == "off" or not settings.block_targets)
    ):
        return _CHECKPOINT
    if settings.batch > 1:
        return "take a smaller per_device_train_batch_size and more gradient_accumulation_steps"
    return "lower image_max_pixels or cutoff_len, or take a larger GPU"
