"""Do recipe, task card, data set, model and predictions speak of the same template, prompt and pixel budget?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from dataset_builders.sharegpt import IMAGE_TOKEN, stage_of
from dataset_builders.task_card import TaskCard
from launch.amplifier.guards import model_config
from launch.preflight.datasets import LoadedDataset
from launch.preflight.finding import Finding, error, warning
from launch.preflight.length import image_rules
from launch.recipe import TrainingRecipe

__all__ = ["check_agreement", "check_predictions", "check_template"]

_TEMPLATE_OF_TYPE = {"qwen2_vl": "qwen2_vl", "qwen2_5_vl": "qwen2_vl"}  # config.json's model_type
_REMEDY = "Predict again with this recipe, or train again."


def check_template(recipe: TrainingRecipe) -> list[Finding]:
    """Does LLaMA-Factory know the template, does it take photos, does it belong to the model?"""
    from llamafactory.data.template import TEMPLATES
    from llamafactory.extras.constants import DEFAULT_TEMPLATE

    where, name = f"{recipe.path}: template", recipe.template
    if name not in TEMPLATES:
        return [error(where, f"LLaMA-Factory has no template {name!r}", "Qwen2.5-VL takes qwen2_vl.")]
    if TEMPLATES[name].mm_plugin.image_token is None:
        return [error(where, f"{name!r} takes no photos", "Qwen2.5-VL takes qwen2_vl.")]
    config = model_config(Path(recipe.model_name_or_path))
    if config:
        expected = _TEMPLATE_OF_TYPE.get(config.get("model_type", ""))
    else:
        expected = DEFAULT_TEMPLATE.get(recipe.model_name_or_path.rsplit("/", 1)[-1])
    if expected is not None and expected != name:
        return [error(where, f"expected {expected!r} for this model, got {name!r}", f"Set 'template: {expected}'.")]
    return []


def check_agreement(recipe: TrainingRecipe, card: TaskCard, datasets: Iterable[LoadedDataset]) -> list[Finding]:
    """Does the data set hold the card's prompts and answers, does the pixel budget fit the card's?"""
    findings = []
    budget, rules = card.pixel_budget, image_rules(recipe)
    if rules.recipe_max_pixels > budget.max_pixels:
        problem = f"{rules.recipe_max_pixels} is over the task card's budget of {budget.max_pixels}"
        remedy = "Lower it, or raise pixel_budget in the card."
        findings.append(warning(f"{recipe.path}: image_max_pixels", problem, remedy))
    if rules.recipe_max_pixels > rules.processor_max_pixels:
        problem = f"{rules.recipe_max_pixels} is over the checkpoint's own limit of {rules.processor_max_pixels}"
        remedy = "The checkpoint's limit holds; lower image_max_pixels to it."
        findings.append(warning(f"{recipe.path}: image_max_pixels", problem, remedy))
    for dataset in datasets:
        findings += _texts(dataset, card, stage_of(dataset.name, card))
    return findings


def check_predictions(recipe: TrainingRecipe, predictions: Path) -> list[Finding]:
    """Were these predictions made with the recipe's template and pixel budget?"""
    marker = predictions / "predictions.json"
    if not marker.is_file():
        return [error(str(marker), "does not exist", "Run `riskfuse predict` first.")]
    used = json.loads(marker.read_text(encoding="utf-8"))["components"]["preprocessing"]
    now = {"template": recipe.template, **recipe.preprocessing}
    return [
        error(f"{recipe.path}: {key}", f"{now.get(key)!r} here, {used.get(key)!r} in {predictions}", _REMEDY)
        for key in sorted((used.keys() | now.keys()) - {"cache_dir"})
        if used.get(key) != now.get(key)
    ]


def _texts(dataset: LoadedDataset, card: TaskCard, stage: str) -> list[Finding]:
    prompt = card.prompt(stage)
    answers = {answer.text for answer in card.answers(stage)}
    remedy = "Build the data set again with this task card: prediction would ask something else than training taught."
    findings = []
    for wanted, found, what in (
        ({prompt.system}, {example.system for example in dataset.examples}, "system text"),
        ({IMAGE_TOKEN + prompt.user}, {example.user for example in dataset.examples}, "user text"),
        (answers, {example.answer for example in dataset.examples}, "answers"),
    ):
        if other := sorted(found - wanted):
            problem = f"the {what} differs from stage {stage!r} of the task card: {other[0][:60]!r}"
            findings.append(error(str(dataset.file), problem, remedy))
    return findings
