"""Bytes that a training pass stores for its backward pass, by what autograd keeps in each layer.

Counted from the modules of transformers 5.6 (``modeling_qwen2_5_vl.py``) and peft 0.18 (``lora/layer.py``): an
operation keeps what its gradient needs and nothing else. A frozen linear layer keeps none of its inputs, LoRA beside it
keeps them; a norm computes in fp32 and keeps that copy. ``benchmarks/plan_memory.py`` compares the sums with what a
real training step allocates. All sizes are bytes; ``item`` is the size of a number, ``mask`` that of a dropout flag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.plan.architecture import Architecture, Linear
from launch.plan.settings import Settings

__all__ = ["Batch", "Stored", "evaluation_head", "language_layer", "loss_head", "stored_activations", "vision_block"]


@dataclass(frozen=True)
class Batch:
    """What one GPU sees in one pass.

    Attributes:
        sequences: Rows of the batch.
        length: Tokens of a row, padding included.
        photos: Photos in all rows.
        patches: Patches of one photo.
    """

    sequences: int
    length: int
    photos: int
    patches: int

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return self.sequences * self.length

    @property
    def all_patches(self) -> int:
        """Patches of all photos."""
        return self.photos * self.patches


@dataclass(frozen=True)
class Stored:
    """Bytes of a part of the model: kept until its backward pass, and needed while one of its layers is in it."""

    kept: int
    working: int


def language_layer(architecture: Architecture, settings: Settings, batch: Batch, *, mask: int) -> Stored:
    """What a layer of the language model keeps without checkpointing, and what its backward pass needs beside that.

    Norms: two fp32 copies of the hidden state. LoRA: see ``_lora_inputs``. Rotary embedding: cosine and sine of each
    token. Attention: query, key, value and output, keys and values repeated to all heads, as sdpa does with a padding
    mask, the mask as numbers and the log-sum of each head; eager attention keeps probabilities in fp32 and in ``item``.
    MLP: gate, SiLU of the gate, and the other factor. Backward: three gradients of the size of the MLP's inside.
    """
    tokens, item, hidden = batch.tokens, settings.item, architecture.hidden
    square = batch.sequences * batch.length**2
    attention = tokens * 4 * hidden * item
    if settings.eager:
        attention += architecture.heads * square * (4 if item == 4 else 4 + item)
    else:
        attention += tokens * architecture.heads * 4 + square * item
    kept = (
        tokens * 2 * hidden * 4
        + _lora_inputs(settings.layer_targets, settings, tokens, mask)
        + tokens * 2 * architecture.head_size * item
        + attention
        + tokens * 3 * architecture.intermediate * item
    )
    return Stored(kept, tokens * 3 * architecture.intermediate * item)


def vision_block(architecture: Architecture, settings: Settings, batch: Batch, *, mask: int) -> Stored:
    """The same for a block of the vision tower: query and key are copies, value keeps all of qkv's output alive."""
    patches, item, hidden = batch.all_patches, settings.item, architecture.vision_hidden
    attention = patches * 6 * hidden * item
    if settings.eager:
        full = architecture.vision_full_blocks / architecture.vision_layers
        seen = full * batch.patches + (1 - full) * min(batch.patches, architecture.vision_window)
        attention += round(architecture.vision_heads * patches * seen * (4 if item == 4 else 4 + item))
    else:
        attention += patches * architecture.vision_heads * 4
    kept = (
        patches * 2 * hidden * 4
        + _lora_inputs(settings.block_targets, settings, patches, mask)
        + attention
        + patches * 3 * architecture.vision_intermediate * item
    )
    return Stored(kept, patches * 3 * architecture.vision_intermediate * item)


def stored_activations(
    architecture: Architecture, settings: Settings, batch: Batch, *, mask: int = 1
) -> tuple[Stored, Stored]:
    """Activations of the language model and of the vision tower at the end of the forward pass.

    A checkpointed layer keeps its input; its backward pass needs all that the layer would have kept. A frozen tower
    keeps nothing without checkpointing, since no gradient is asked for before the language model, and everything with
    LLaMA-Factory's own checkpointing (see ``Checkpointing``).

    Args:
        architecture: The base model's sizes.
        settings: The recipe.
        batch: What one GPU sees in one pass.
        mask: Bytes of a dropout flag: 1 on GPUs; a CPU stores a number.
    """
    item = settings.item
    checkpointing = settings.checkpointing
    layer = language_layer(architecture, settings, batch, mask=mask)
    block = vision_block(architecture, settings, batch, mask=mask)
    inputs = batch.tokens * architecture.hidden * item
    ends = inputs + batch.tokens * architecture.hidden * 4  # embedded tokens, and the last norm's copy
    if checkpointing == "off":
        language = Stored(architecture.layers * layer.kept + ends, layer.working)
    else:
        language = Stored(architecture.layers * inputs + ends, layer.kept + layer.working)
    patch_inputs = batch.all_patches * architecture.vision_hidden * item
    merger = batch.all_patches * architecture.vision_hidden * (4 + item)  # its norm's copy and GELU's input
    frozen = not settings.block_targets
    if frozen and checkpointing == "off":
        vision = Stored(0, block.working)
    elif checkpointing == "all" or (checkpointing == "trained" and not frozen):
        vision = Stored(architecture.vision_layers * patch_inputs + merger, block.kept + block.working)
    else:
        vision = Stored(architecture.vision_layers * block.kept + merger, block.working)
    return language, vision


def loss_head(architecture: Architecture, settings: Settings, batch: Batch) -> int:
    """Logits and loss of all tokens when the backward pass begins.

    Three arrays of tokens x vocabulary in fp32, whatever the recipe's number type: the log-probabilities that the
    forward pass kept, their gradient and that of the logits (transformers' ``ForCausalLMLoss`` casts to fp32).
    """
    return batch.tokens * architecture.vocabulary * 12


def evaluation_head(architecture: Architecture, settings: Settings, batch: Batch) -> int:
    """Logits of an evaluation pass: as they come, in fp32 and as log-probabilities."""
    return batch.tokens * architecture.vocabulary * (8 + (settings.item if settings.item < 4 else 0))


def _lora_inputs(targets: Sequence[Linear], settings: Settings, rows: int, mask: int) -> int:
    """What LoRA keeps: inputs, dropped out for each layer anew, with flags, and the low-rank products.

    Without dropout, layers that read the same array share it.
    """
    products = len(targets) * settings.rank * settings.item
    if settings.dropout:
        inputs = sum(linear.inputs for linear in targets) * (settings.item + mask)
    else:
        shared = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
        arrays = {shared.get(name, name): linear for linear in targets for name in [linear.name.rsplit(".", 1)[-1]]}
        inputs = sum(linear.inputs for linear in arrays.values()) * settings.item
    return rows * (inputs + products)
