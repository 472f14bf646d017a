"""Hardware profiles: small overlays on a recipe that change how it is trained, not what it learns."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataset_builders.config_file import read_yaml
from dataset_builders.errors import ConfigError

__all__ = ["HARDWARE_KEYS", "find_profiles", "load_profile", "plain_command"]

# Keys of LLaMA-Factory that a profile may hold. What a model learns is none of its business.
HARDWARE_KEYS = frozenset(
    {
        "dataloader_num_workers",
        "deepspeed",
        "disable_gradient_checkpointing",
        "flash_attn",
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "neat_packing",
        "per_device_eval_batch_size",
        "per_device_train_batch_size",
        "preprocessing_num_workers",
    }
)
_WHERE = "the shipped ones are in recipes/profiles/"


def load_profile(path: Path) -> dict[str, Any]:
    """Read a profile.

    Raises:
        ConfigError: It cannot be read, or holds a key that is the recipe's business.
    """
    content = read_yaml(path, "hardware profile", _WHERE)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, got {type(content).__name__}; {_WHERE}")
    if strange := sorted(set(map(str, content)) - HARDWARE_KEYS):
        raise ConfigError(
            f"{path}: {', '.join(strange)}: no hardware key; a profile holds only {', '.join(sorted(HARDWARE_KEYS))}"
        )
    return content


def find_profiles(directory: Path) -> dict[str, dict[str, Any]]:
    """All profiles of a directory by their file's name without its ending.

    Raises:
        ConfigError: The directory has none, or one is wrong.
    """
    paths = sorted(directory.glob("*.yaml"))
    if not paths:
        raise ConfigError(f"{directory}: no profiles there; {_WHERE}, start in the repository or give --profiles")
    return {path.stem: load_profile(path) for path in paths}


def plain_command(recipe: Path, overlay: Mapping[str, Any], *, gpus: int, nodes: int) -> str:
    """The command line that trains a recipe with an overlay, without RiskFuse.

    Args:
        recipe: The recipe.
        overlay: Keys that replace the recipe's.
        gpus: GPUs of a node, one process each.
        nodes: Nodes; each is started with the same line but for NODE_RANK.
    """
    environment = ["FORCE_TORCHRUN=1", f"NPROC_PER_NODE={gpus}"]
    if nodes > 1:
        environment += [f"NNODES={nodes}", "NODE_RANK=0", "MASTER_ADDR=node-0", "MASTER_PORT=29500"]
    keys = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in overlay.items()]
    return " ".join([*environment, shlex.join(["llamafactory-cli", "train", recipe.as_posix(), *keys])])
