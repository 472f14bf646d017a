"""The sizes of a Qwen2.5-VL that decide its memory, from a checkpoint's ``config.json`` or the published ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError

__all__ = ["Architecture", "Linear", "find_architecture", "published_config", "read_architecture"]

# Sizes that the 3B and 7B checkpoints publish in their config.json, for planning before they are downloaded.
_PUBLISHED = Path(__file__).with_name("architectures.json")


@dataclass(frozen=True)
class Linear:
    """One linear layer of a block: its name there, numbers of inputs and outputs, whether it has a bias."""

    name: str
    inputs: int
    outputs: int
    bias: bool

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.inputs * self.outputs + self.outputs * self.bias


@dataclass(frozen=True)
class Architecture:
    """Sizes by the names of ``config.json``; ``vision_*`` are those of its ``vision_config``.

    Attributes:
        vision_full_blocks: Number of vision blocks that see the whole photo; the others see windows.
        vision_window: Patches in a window.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    vision_hidden: int
    vision_intermediate: int
    vision_layers: int
    vision_heads: int
    vision_full_blocks: int
    vision_window: int
    merge: int
    patch_values: int

    @property
    def head_size(self) -> int:
        """Width of an attention head of the language model."""
        return self.hidden // self.heads

    @property
    def kv_size(self) -> int:
        """Width of all keys, and of all values, of a token."""
        return self.kv_heads * self.head_size

    @property
    def layer_linears(self) -> tuple[Linear, ...]:
        """Linear layers of one layer of the language model."""
        hidden, inner, kv = self.hidden, self.intermediate, self.kv_size
        return (
            Linear("self_attn.q_proj", hidden, hidden, True),
            Linear("self_attn.k_proj", hidden, kv, True),
            Linear("self_attn.v_proj", hidden, kv, True),
            Linear("self_attn.o_proj", hidden, hidden, False),
            Linear("mlp.gate_proj", hidden, inner, False),
            Linear("mlp.up_proj", hidden, inner, False),
            Linear("mlp.down_proj", inner, hidden, False),
        )

    @property
    def block_linears(self) -> tuple[Linear, ...]:
        """Linear layers of one block of the vision tower."""
        hidden, inner = self.vision_hidden, self.vision_intermediate
        return (
            Linear("attn.qkv", hidden, 3 * hidden, True),
            Linear("attn.proj", hidden, hidden, True),
            Linear("mlp.gate_proj", hidden, inner, True),
            Linear("mlp.up_proj", hidden, inner, True),
            Linear("mlp.down_proj", inner, hidden, True),
        )

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer of the language model: linear layers and two norms."""
        return sum(linear.parameters for linear in self.layer_linears) + 2 * self.hidden

    @property
    def block_parameters(self) -> int:
        """Parameters of one block of the vision tower."""
        return sum(linear.parameters for linear in self.block_linears) + 2 * self.vision_hidden

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token embedding."""
        return self.vocabulary * self.hidden

    @property
    def merger_parameters(self) -> int:
        """Parameters of the projector: a norm and two linear layers on merged patches."""
        merged = self.vision_hidden * self.merge**2
        return self.vision_hidden + merged * (merged + 1) + (merged + 1) * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; tied embeddings count once, as ``model.parameters()`` does."""
        language = self.layers * self.layer_parameters + self.hidden
        embeddings = self.embedding_parameters * (1 if self.tied else 2)
        vision = self.vision_layers * self.block_parameters + self.patch_values * self.vision_hidden
        return language + embeddings + vision + self.merger_parameters


def published_config(name: str) -> dict[str, Any]:
    """The published keys of ``config.json`` that decide a model's sizes.

    Raises:
        ConfigError: The model is not among those that come with RiskFuse.
    """
    known = json.loads(_PUBLISHED.read_text(encoding="utf-8"))
    if name not in known:
        raise ConfigError(
            f"model_name_or_path: {name} is neither a directory with config.json nor one of {', '.join(known)}, whose "
            "sizes are known; download it and name its directory"
        )
    return known[name]


def find_architecture(model_name_or_path: str) -> Architecture:
    """Sizes of a checkpoint directory, or of a published model by its hub name.

    Raises:
        ConfigError: There is no such directory and no such published model, or it is no Qwen2.5-VL.
    """
    config = Path(model_name_or_path) / "config.json"
    if config.is_file():
        try:
            return read_architecture(json.loads(config.read_text(encoding="utf-8")), str(config))
        except ValueError as problem:
            raise ConfigError(f"{config}: not usable: {problem}") from problem
    name = model_name_or_path.rstrip("/").rsplit("/", 1)[-1]
    return read_architecture(published_config(name), name)


def read_architecture(config: Mapping[str, Any], where: str) -> Architecture:
    """Sizes from the content of a ``config.json``, in which the text's keys are on top or under ``text_config``.

    Raises:
        ConfigError: It is no Qwen2.5-VL, or a size is missing.
    """
    if config.get("model_type") != "qwen2_5_vl":
        raise ConfigError(f"{where}: model_type: expected qwen2_5_vl, got {config.get('model_type')!r}")
    text, vision = config.get("text_config", config), config.get("vision_config", {})
    try:
        patch, merge = vision["patch_size"], vision["spatial_merge_size"]
        return Architecture(
            hidden=text["hidden_size"],
            intermediate=text["intermediate_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            kv_heads=text["num_key_value_heads"],
            vocabulary=text["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            vision_hidden=vision["hidden_size"],
            vision_intermediate=vision["intermediate_size"],
            vision_layers=vision["depth"],
            vision_heads=vision["num_heads"],
            vision_full_blocks=len(vision["fullatt_block_indexes"]),
            vision_window=(vision["window_size"] // patch) ** 2,
            merge=merge,
            patch_values=3 * vision.get("temporal_patch_size", 2) * patch**2,
        )
    except KeyError as missing:
        raise ConfigError(f"{where}: lacks {missing}, which decides the model's memory") from None
