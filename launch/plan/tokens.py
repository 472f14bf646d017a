"""Tokens of an example: from the data set, else from the task card's prompt and the pixel budget, else cutoff_len."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dataset_builders.sharegpt import stage_of
from dataset_builders.task_card import TaskCard
from launch.plan.activations import Batch
from launch.plan.architecture import Architecture
from launch.plan.settings import Settings
from launch.preflight.datasets import dataset_names_of, load_datasets
from launch.preflight.length import estimate_text_tokens, image_rules, image_tokens, longest_example
from launch.recipe import TrainingRecipe

__all__ = ["ExampleTokens", "example_tokens", "make_batch"]

_MULTIPLE = 8  # LLaMA-Factory pads rows to a multiple of it


@dataclass(frozen=True)
class ExampleTokens:
    """The longest example.

    Attributes:
        photo: Tokens of its photo.
        text: Its other tokens.
        source: Where the numbers come from, for the report.
    """

    photo: int
    text: int
    source: str

    @property
    def total(self) -> int:
        """Tokens of the example."""
        return self.photo + self.text


def example_tokens(recipe: TrainingRecipe, card: TaskCard | None, settings: Settings) -> ExampleTokens:
    """Tokens of the longest example that the recipe trains on.

    Without a data set, the photo is the largest that the pixel budget allows. Without a task card too, the example is
    as long as ``cutoff_len`` allows: an estimate from above.
    """
    datasets, _ = load_datasets(recipe)
    longest = [longest_example(recipe, dataset) for dataset in datasets if dataset.examples]
    if longest:
        photo, text = max(item.photo for item in longest), max(item.text for item in longest)
        how = "counted" if all(item.exact for item in longest) else "photos counted, text estimated from characters"
        return ExampleTokens(photo, text, f"{recipe.raw.get('dataset_dir', 'data')}, {how}")
    photo = _budget_tokens(recipe)
    if card is None:
        text = max(settings.cutoff - photo, 0)
        return ExampleTokens(photo, text, "cutoff_len, since the data set is not there: --task CARD is closer")
    stage = stage_of(next(iter(dataset_names_of(recipe, "dataset")), ""), card)
    prompt = card.prompt(stage)
    text = max(estimate_text_tokens(prompt.system, prompt.user, answer.text) for answer in card.answers(stage))
    return ExampleTokens(photo, text, f"pixel budget and prompt {stage!r}, estimated from characters")


def make_batch(tokens: ExampleTokens, settings: Settings, architecture: Architecture) -> Batch:
    """What one GPU sees in one pass: rows as long as the longest example, or packs of ``cutoff_len`` tokens."""
    patches = tokens.photo * architecture.merge**2
    if settings.packed:
        photos = settings.batch * max(1, settings.cutoff // max(tokens.total, 1))
        return Batch(settings.batch, settings.cutoff, photos, patches)
    length = min(math.ceil(tokens.total / _MULTIPLE) * _MULTIPLE, settings.cutoff)
    return Batch(settings.batch, length, settings.batch, patches)


def _budget_tokens(recipe: TrainingRecipe) -> int:
    """Most tokens of a photo over the pixel budget, up to twice as wide as high; sides are rounded to tokens."""
    rules = image_rules(recipe)
    side = math.isqrt(rules.recipe_max_pixels) * 2
    return max(image_tokens(side * percent // 100, side, rules) for percent in range(100, 201))
