"""Does ``cutoff_len`` hold the longest example? LLaMA-Factory cuts the prompt's tail without a word."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builders.manifest import MANIFEST_NAME, read_manifest
from launch.preflight.datasets import LoadedDataset
from launch.preflight.finding import Finding, error, warning
from launch.recipe import TrainingRecipe

__all__ = [
    "ImageRules",
    "LongestExample",
    "check_length",
    "estimate_text_tokens",
    "image_rules",
    "image_tokens",
    "longest_example",
]

# LLaMA-Factory 0.9.5's defaults.
DEFAULT_MAX_PIXELS, DEFAULT_MIN_PIXELS, DEFAULT_CUTOFF = 768 * 768, 32 * 32, 2048
TEMPLATE_OVERHEAD = 24  # special tokens and role names around system, user and assistant turns


@dataclass(frozen=True)
class ImageRules:
    """How a photo's size becomes a number of tokens.

    Attributes:
        recipe_min_pixels: The recipe's ``image_min_pixels``.
        recipe_max_pixels: The recipe's ``image_max_pixels``.
        processor_min_pixels: Lower limit of the checkpoint's image processor.
        processor_max_pixels: Upper limit of the checkpoint's image processor.
        factor: Side of an image token in pixels (patch size × merge size).
    """

    recipe_min_pixels: int
    recipe_max_pixels: int
    processor_min_pixels: int = 56 * 56
    processor_max_pixels: int = 28 * 28 * 1280
    factor: int = 28


@dataclass(frozen=True)
class LongestExample:
    """Tokens that the longest example of a data set may have.

    Attributes:
        photo: Tokens of the largest photo.
        text: Tokens of the longest text.
        exact: The text was counted by the model's tokenizer, not estimated from its characters.
    """

    photo: int
    text: int
    exact: bool


def image_rules(recipe: TrainingRecipe) -> ImageRules:
    """The recipe's limits and those of its checkpoint; Qwen2.5-VL's own where the checkpoint is not here."""
    limits = {
        "recipe_min_pixels": int(recipe.raw.get("image_min_pixels", DEFAULT_MIN_PIXELS)),
        "recipe_max_pixels": int(recipe.raw.get("image_max_pixels", DEFAULT_MAX_PIXELS)),
    }
    directory = Path(recipe.model_name_or_path)
    settings: dict[str, Any] = {}
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (directory / name).is_file():
            content = json.loads((directory / name).read_text(encoding="utf-8"))
            settings = content.get("image_processor", content)
    size = settings.get("size") or {}
    for key, names in {
        "processor_min_pixels": ("min_pixels", "shortest_edge"),
        "processor_max_pixels": ("max_pixels", "longest_edge"),
    }.items():
        value = settings.get(names[0]) or size.get(names[1])
        if value:
            limits[key] = int(value)
    if "patch_size" in settings and "merge_size" in settings:
        limits["factor"] = int(settings["patch_size"]) * int(settings["merge_size"])
    return ImageRules(**limits)


def image_tokens(width: int, height: int, rules: ImageRules) -> int:
    """Tokens of a photo of this size.

    First LLaMA-Factory's resize (``Qwen2VLPlugin._preprocess_image``), then ``smart_resize`` of the Qwen2-VL image
    processor (transformers, ``image_processing_qwen2_vl.py``).
    """
    for limit, over in ((rules.recipe_max_pixels, True), (rules.recipe_min_pixels, False)):
        if width * height > limit if over else width * height < limit:
            scale = math.sqrt(limit / (width * height))
            width, height = int(width * scale), int(height * scale)
    if min(width, height) < 28:
        width, height = max(width, 28), max(height, 28)
    if width / height > 200:
        width = height * 180
    elif height / width > 200:
        height = width * 180
    factor = rules.factor
    wide, high = round(width / factor) * factor, round(height / factor) * factor
    if wide * high > rules.processor_max_pixels:
        beta = math.sqrt(width * height / rules.processor_max_pixels)
        wide = max(factor, math.floor(width / beta / factor) * factor)
        high = max(factor, math.floor(height / beta / factor) * factor)
    elif wide * high < rules.processor_min_pixels:
        beta = math.sqrt(rules.processor_min_pixels / (width * height))
        wide, high = math.ceil(width * beta / factor) * factor, math.ceil(height * beta / factor) * factor
    return (wide // factor) * (high // factor)


def check_length(recipe: TrainingRecipe, datasets: Iterable[LoadedDataset]) -> list[Finding]:
    """One finding for every data set whose longest example is over ``cutoff_len``."""
    datasets = list(datasets)
    cutoff = int(recipe.raw.get("cutoff_len", DEFAULT_CUTOFF))
    if recipe.raw.get("packing") or recipe.raw.get("neat_packing"):
        cutoff -= 1  # LLaMA-Factory takes one away
    findings = []
    for dataset in datasets:
        if not dataset.examples:
            continue
        longest = longest_example(recipe, dataset)
        photo, text, exact = longest.photo, longest.text, longest.exact
        if photo + text <= cutoff:
            continue
        kind = "" if exact else " (estimated from characters: the model's tokenizer is not here)"
        problem = (
            f"{cutoff} tokens do not hold {photo} of the largest photo and {text} of the text{kind} in {dataset.name}"
        )
        remedy = f"Set cutoff_len to {math.ceil((photo + text + 1) / 64) * 64} or more, or lower image_max_pixels."
        make = error if exact or photo >= cutoff else warning
        findings.append(make(f"{recipe.path}: cutoff_len", problem, remedy))
    return findings


def longest_example(recipe: TrainingRecipe, dataset: LoadedDataset) -> LongestExample:
    """Largest photo and longest text of a data set that has examples."""
    rules = image_rules(recipe)
    exact = (Path(recipe.model_name_or_path) / "tokenizer_config.json").is_file()
    photo = max(image_tokens(width, height, rules) for width, height in _sizes(dataset))
    texts = {(example.system, example.user, example.answer) for example in dataset.examples}
    text = max(_text_tokens(recipe, texts)) if exact else max(estimate_text_tokens(*parts) for parts in texts)
    return LongestExample(photo, text, exact)


def _sizes(dataset: LoadedDataset) -> set[tuple[int, int]]:
    """Sizes of a set's photos, from the manifest where there is one, from the files' headers otherwise."""
    from PIL import Image

    directory = dataset.file.parent
    known: dict[Path, tuple[int, int]] = {}
    if (directory / MANIFEST_NAME).is_file():
        known = {directory / row.image: (row.width, row.height) for row in read_manifest(directory) if row.usable}
    sizes = set()
    for path in {example.image for example in dataset.examples}:
        if path not in known:
            with Image.open(path) as image:
                known[path] = image.size
        sizes.add(known[path])
    return sizes


def _text_tokens(recipe: TrainingRecipe, texts: set[tuple[str, str, str]]) -> list[int]:
    """Tokens of prompt and answer by the checkpoint's tokenizer and LLaMA-Factory's template, image tokens left out."""
    from dataset_builders.sharegpt import IMAGE_TOKEN
    from launch.predict.model import load_tokenizer_and_template

    tokenizer, template = load_tokenizer_and_template(recipe.model_name_or_path, recipe.preprocessing)
    plugin = template.mm_plugin
    marks = f"{getattr(plugin, 'vision_bos_token', '')}{getattr(plugin, 'vision_eos_token', '')}"
    counts = []
    for system, user, answer in texts:
        messages = [
            {"role": "user", "content": user.replace(IMAGE_TOKEN, marks)},
            {"role": "assistant", "content": answer},
        ]
        pairs = template.encode_multiturn(tokenizer, messages, system, "")
        counts.append(sum(len(source) + len(target) for source, target in pairs))
    return counts


def estimate_text_tokens(*parts: str) -> int:
    """Tokens of an example's texts from above: one a character that is not ASCII, one every three that are."""
    joined = "".join(parts)
    ascii_count = sum(character.isascii() for character in joined)
    return len(joined) - ascii_count + math.ceil(ascii_count / 3) + TEMPLATE_OVERHEAD
