"""Runs all checks of a training recipe and collects their findings."""

from __future__ import annotations

import os
from pathlib import Path

from dataset_builders.task_card import load_task_card
from launch.preflight.finding import Finding
from launch.recipe import load_recipe

__all__ = ["check_recipe"]


def check_recipe(
    path: str | Path, *, task: str | Path | None = None, predictions: str | Path | None = None
) -> list[Finding]:
    """Check a LLaMA-Factory training recipe against its files.

    Args:
        path: The recipe.
        task: Task card; prompts, answers and pixel budget are compared with it.
        predictions: Predictions directory that must agree with the recipe.

    Returns:
        All findings, errors first; values of a wrong kind alone when there are any, since nothing else can be read.

    Raises:
        ConfigError: Recipe or task card cannot be read at all.
    """
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")
    from launch.preflight.agreement import check_agreement, check_predictions, check_template
    from launch.preflight.amplifier import check_amplifier, check_auxiliary_loss
    from launch.preflight.arguments import check_arguments, check_values
    from launch.preflight.datasets import load_datasets
    from launch.preflight.length import check_length
    from launch.preflight.tracking import check_tracking

    recipe = load_recipe(path)
    card = load_task_card(task) if task is not None else None
    if wrong := check_values(recipe):
        return wrong
    findings = check_arguments(recipe) + check_tracking(recipe) + check_amplifier(recipe)
    template_findings = check_template(recipe)
    findings += template_findings
    datasets, found = load_datasets(recipe)
    findings += found
    if not template_findings:
        findings += check_length(recipe, datasets)
    if card is not None:
        findings += check_agreement(recipe, card, datasets) + check_auxiliary_loss(recipe, card)
    if predictions is not None:
        findings += check_predictions(recipe, Path(predictions))
    return sorted(findings, key=lambda finding: finding.level != "error")
