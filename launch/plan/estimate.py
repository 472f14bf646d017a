"""Memory of one GPU in training: model states by ZeRO stage, activations by phase, what nobody can use."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from launch.plan.activations import Batch, evaluation_head, loss_head, stored_activations
from launch.plan.architecture import Architecture
from launch.plan.settings import Settings
from launch.safetensors_header import tensor_sizes

__all__ = ["Memory", "additional_parameters", "estimate_memory", "lora_parameters"]

GIB = 2**30
# What a GPU holds beside tensors of the training: the driver's context, libraries' workspaces and NCCL's buffers, and
# a twentieth of everything for holes between tensors. An assumption, not measured.
RESERVE, HOLES = GIB, 0.05


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU at the moment when most is needed.

    Attributes:
        weights: The base model and LoRA, and what ZeRO-3 has gathered.
        gradients: Gradients of the trained weights, and the buffer in which they are reduced.
        optimizer: Adam's two moments, and fp32 copies of 16-bit weights.
        activations: What the forward pass kept, and what the layer in its backward pass needs.
        logits: Logits and their gradients.
        reserve: See ``RESERVE``.
        phase: The moment: ``loss``, ``language`` or ``vision`` (their backward passes) or ``evaluation``.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    reserve: int
    phase: str

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "phase"}


def lora_parameters(architecture: Architecture, settings: Settings) -> int:
    """Weights of all LoRA pairs: rank x (inputs + outputs) for each linear layer that has one."""
    layer = sum(linear.inputs + linear.outputs for linear in settings.layer_targets)
    block = sum(linear.inputs + linear.outputs for linear in settings.block_targets)
    return settings.rank * (architecture.layers * layer + architecture.vision_layers * block)


def additional_parameters(model: Path, modules: list[str], item: int) -> int:
    """Weights of modules that are trained whole (``additional_target``), counted from the checkpoint's files."""
    sizes = {name: size for file in model.glob("*.safetensors") for name, size in tensor_sizes(file).items()}
    return sum(size for name, size in sizes.items() if set(name.split(".")) & set(modules)) // item


def estimate_memory(
    architecture: Architecture,
    settings: Settings,
    batch: Batch,
    *,
    gpus: int,
    additional: int = 0,
    on_cpu: bool = False,
) -> Memory:
    """Estimate the peak of one GPU.

    Args:
        architecture: The base model's sizes.
        settings: The recipe.
        batch: What one GPU sees in one pass.
        gpus: GPUs of all nodes together.
        additional: Weights that are trained beside LoRA: peft trains a copy of the module.
        on_cpu: Tensors alone, as a CPU allocates them, without the reserve.
    """
    trained = lora_parameters(architecture, settings) + additional
    weights, gradients, optimizer = _model_states(architecture, settings, trained, gpus)
    mask = settings.item if on_cpu else 1
    language, vision = stored_activations(architecture, settings, batch, mask=mask)
    pixels = batch.all_patches * architecture.patch_values * 4
    rows = settings.evaluation_batch
    longest = Batch(rows, batch.length, rows, batch.patches)
    phases = {
        "loss": (language.kept + vision.kept + pixels, loss_head(architecture, settings, batch)),
        "language": (language.kept + language.working + vision.kept + pixels, 0),
        "vision": (vision.kept + vision.working + pixels, 0),
        "evaluation": (
            longest.all_patches * architecture.patch_values * 4 + longest.tokens * architecture.hidden * 4,
            evaluation_head(architecture, settings, longest),
        ),
    }
    phase = max(phases, key=lambda name: sum(phases[name]))
    activations, logits = phases[phase]
    tensors = weights + gradients + optimizer + activations + logits
    reserve = 0 if on_cpu else RESERVE + round(HOLES * tensors)
    return Memory(weights, gradients, optimizer, activations, logits, reserve, phase)


def _model_states(architecture: Architecture, settings: Settings, trained: int, gpus: int) -> tuple[int, int, int]:
    """Bytes of weights, gradients and optimiser states of one GPU.

    Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", section 3, on the
    trained weights only: 2 bytes a 16-bit weight, and sharded over the GPUs from stage 1 on 12 for fp32 weight and
    moments, from stage 2 on 2 + 4 for the gradient in both types (DeepSpeed's ``estimate_zero2_model_states_mem_needs``
    counts the same 18), from stage 3 on the weights too. Frozen weights have neither gradient nor moments. Without
    DeepSpeed trained weights are fp32: 4 + 4 + 8 bytes, and 4 for DistributedDataParallel's buckets.
    """
    item, zero = settings.item, settings.zero
    frozen = architecture.parameters
    if zero.stage == 0:
        return frozen * item + 4 * trained, 4 * trained * (2 if gpus > 1 else 1), 8 * trained
    share = -(-trained // gpus)
    optimizer = 0 if zero.offload_optimizer else 12 * share
    bucket = (architecture.hidden**2 if zero.bucket is None else zero.bucket) * item
    whole = share if zero.stage >= 2 else trained
    gradients = whole * item + (0 if zero.offload_optimizer else 4 * share) + bucket
    if zero.stage < 3:
        return (frozen + trained) * item, gradients, optimizer
    largest = max(architecture.embedding_parameters, architecture.layer_parameters)
    # One GPU gathers nothing, unless the weights come from host memory.
    gathered = 0 if gpus == 1 and not zero.offload_parameters else min(frozen + trained, zero.live + largest)
    kept = 0 if zero.offload_parameters else -(-(frozen + trained) // gpus)
    return (kept + gathered) * item, gradients, optimizer
