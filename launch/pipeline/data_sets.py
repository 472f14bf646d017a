"""Do a pipeline's recipes train on the sets that it makes for them? Asked before the first step, not after hours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.findings import Findings
from dataset_builders.task_card import BASE, TaskCard
from launch.pipeline.config import PipelineConfig
from launch.preflight.datasets import dataset_names_of
from launch.recipe import TrainingRecipe

__all__ = ["check_data_sets"]

_SPLITS = {"dataset": "train", "eval_dataset": "val"}  # what a recipe's keys name


def check_data_sets(config: PipelineConfig, card: TaskCard, recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """See that every stage trains on its own set, and names none that is not made before it is trained.

    Args:
        config: The pipeline.
        card: Its task card.
        recipes: The stages' resolved recipes by stage, in the order in which the pipeline trains them.

    Raises:
        ConfigError: A stage names a set that nobody makes, or not its own, or with ``out_of_fold: true`` others beside
            its own, which the models of the folds would not be trained on.
    """
    findings = Findings()
    made: list[str] = []
    for stage, raw in recipes.items():
        stem = card.task if stage == BASE else f"{card.task}_{stage}"
        own = {key: f"{stem}_{split}" for key, split in _SPLITS.items()}
        made += own.values()
        recipe = TrainingRecipe(Path(config.stage(stage).recipe), raw)
        for key, expected in own.items():
            names = dataset_names_of(recipe, key)
            if key == "eval_dataset" and not names:
                continue
            strange = sorted(set(names) - set(made))
            more = config.out_of_fold and key == "dataset" and set(names) != {expected}
            if strange or more or expected not in names:
                got = ", ".join(names) or "none"
                findings.add(f"{stage}: {recipe.path}: {key}: expected {expected}, got {got}")
    findings.raise_if_any(
        ConfigError,
        f"pipeline {config.name!r}: stages name data sets that are not their own or that it does not make; mend the "
        "recipes, or the stages' overrides (dataset, eval_dataset)",
    )
