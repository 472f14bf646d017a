"""Which predictions are made: the reference, and for each thing that should not matter a run that changes it alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dataset_builders.config_file import read_config
from dataset_builders.files import write_text
from dataset_builders.task_card import TaskCard
from launch.predict import PredictConfig
from launch.stability.config import Paraphrase, ParaphraseFile, StabilityConfig

__all__ = ["REFERENCE", "Variation", "list_variations"]

REFERENCE = "reference"


@dataclass(frozen=True)
class Variation:
    """One run of ``predict``.

    Attributes:
        name: Unique; names its predictions directory.
        kind: What is changed: ``adapter``, ``batch_size``, ``workers``, ``dtype``, ``prompt``, ``views``.
        config: What is run.
    """

    name: str
    kind: str
    config: PredictConfig


def list_variations(config: StabilityConfig, card: TaskCard, photos: Path) -> list[Variation]:
    """The reference and all variations of it; task cards with other prompts are written below ``config.out``.

    Args:
        config: The analysis.
        card: The task card of ``config.task``.
        photos: Data set directory whose split is predicted.

    Raises:
        ConfigError: The file of paraphrases is not what it must be.
    """
    reference: dict[str, Any] = {
        "recipe": config.recipe,
        "task": config.task,
        "stage": config.stage,
        "data": photos,
        "splits": (config.split,),
        "adapter": config.adapters[0] if config.adapters else None,
        "engine": "local",
        "batch_size": config.batch_sizes[0],
        "dtype": config.dtypes[0],
        "views": config.views[0],
        "shard_size": config.shard_size,
        "device": config.device,
    }
    changes: list[tuple[str, str, dict[str, Any]]] = [(REFERENCE, REFERENCE, {})]
    changes += [(f"adapter-{n}", "adapter", {"adapter": a}) for n, a in enumerate(config.adapters[1:], start=2)]
    changes += [(f"batch-size-{size}", "batch_size", {"batch_size": size}) for size in config.batch_sizes[1:]]
    changes += [(f"workers-{count}", "workers", {"engine": "ray", "workers": count}) for count in config.workers]
    changes += [(dtype, "dtype", {"dtype": dtype}) for dtype in config.dtypes[1:]]
    if config.paraphrases is not None:
        where = "it holds a list `paraphrases` of name, system and user, see docs/stability.md"
        for paraphrase in read_config(config.paraphrases, ParaphraseFile, "file of paraphrases", where).paraphrases:
            path = _write_card(config, card, paraphrase)
            changes.append((f"prompt-{paraphrase.name}", "prompt", {"task": path}))
    changes += [(f"views-{views}", "views", {"views": views}) for views in config.views[1:]]
    return [
        Variation(name, kind, PredictConfig(**reference | change, out=config.out / "predictions" / name))
        for name, kind, change in changes
    ]


def _write_card(config: StabilityConfig, card: TaskCard, paraphrase: Paraphrase) -> Path:
    """The task card with another prompt for the stage."""
    path = config.out / "cards" / f"{paraphrase.name}.yaml"
    changed = card.model_dump(mode="json")
    prompt = paraphrase.model_dump(include={"system", "user"})
    if config.stage == card.stages[0]:
        changed["base"] = prompt
    else:
        next(s for s in changed["specialists"] if s["name"] == config.stage)["prompt"] = prompt
    write_text(path, yaml.safe_dump(changed, allow_unicode=True, sort_keys=False))
    return path
