"""Checks of the registered data sets: files, conversations and photos, which LLaMA-Factory would drop or trip over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builders.manifest import MANIFEST_NAME
from dataset_builders.sharegpt import DATASET_INFO, IMAGE_TOKEN
from launch.preflight.finding import Finding, error, warning
from launch.recipe import TrainingRecipe

__all__ = ["Example", "LoadedDataset", "dataset_names_of", "load_datasets"]

SHOWN_ROWS = 3


@dataclass(frozen=True)
class Example:
    """One usable example.

    Attributes:
        system: System text, empty when there is none.
        user: User text with its image token.
        answer: Assistant text.
        image: The photo.
    """

    system: str
    user: str
    answer: str
    image: Path


@dataclass(frozen=True)
class LoadedDataset:
    """A registered data set that could be read."""

    name: str
    file: Path
    examples: tuple[Example, ...]


def dataset_names_of(recipe: TrainingRecipe, key: str) -> list[str]:
    """Names under ``dataset`` or ``eval_dataset``: a list, or one text with commas."""
    value = recipe.raw.get(key) or []
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else [str(name) for name in value]


def load_datasets(recipe: TrainingRecipe) -> tuple[list[LoadedDataset], list[Finding]]:
    """Read all data sets that the recipe names; what cannot be used is among the findings."""
    directory = Path(str(recipe.raw.get("dataset_dir", "data")))
    media = Path(str(recipe.raw.get("media_dir", directory)))
    names = dataset_names_of(recipe, "dataset")
    evaluation = dataset_names_of(recipe, "eval_dataset")
    findings = []
    if not names:
        findings.append(error(f"{recipe.path}: dataset", "no data set is named", "Name the training set."))
    if both := sorted(set(names) & set(evaluation)):
        problem = f"{', '.join(both)} is for training and for validation"
        findings.append(error(f"{recipe.path}: eval_dataset", problem, "Name the validation set of the build."))
    info_file = directory / DATASET_INFO
    try:
        info = json.loads(info_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = "Make the data set with `riskfuse build CONFIG.yaml`, or mend dataset_dir."
        return [], [*findings, error(f"{recipe.path}: dataset_dir", f"{info_file} does not exist", remedy)]
    except ValueError as problem:
        return [], [*findings, error(str(info_file), f"no JSON: {problem}", "Run `riskfuse build` again.")]
    loaded = []
    for name in dict.fromkeys([*names, *evaluation]):
        if name not in info:
            remedy = f"It has {', '.join(info) or 'none'}."
            findings.append(error(f"{recipe.path}: dataset", f"{info_file} does not register {name!r}", remedy))
            continue
        dataset, found = _load(name, info[name], directory, media)
        findings += found
        if dataset is not None:
            loaded.append(dataset)
    return loaded, findings


def _load(name: str, entry: dict[str, Any], directory: Path, media: Path) -> tuple[LoadedDataset | None, list[Finding]]:
    if "file_name" not in entry or entry.get("formatting") != "sharegpt":
        return None, [warning(f"{directory / DATASET_INFO}: {name}", "no local ShareGPT file, not checked", "")]
    file = directory / entry["file_name"]
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = "Run `riskfuse build`, or `riskfuse specialist` for the second stage's sets."
        return None, [error(f"{directory / DATASET_INFO}: {name}", f"{file} does not exist", remedy)]
    except ValueError as problem:
        return None, [error(str(file), f"no JSON: {problem}", "Write the data set again.")]
    if not isinstance(rows, list) or not rows:
        return None, [error(str(file), "expected a list of examples, got none", "Write the data set again.")]
    examples: list[Example] = []
    malformed: list[str] = []
    for number, row in enumerate(rows):
        example, reason = _example(row, entry, media)
        if example is None:
            malformed.append(f"row {number}: {reason}")
        else:
            examples.append(example)
    findings = _summary(file, "are malformed: LLaMA-Factory would empty them", malformed)
    images = dict.fromkeys(example.image for example in examples)
    missing = [str(image) for image in images if not image.is_file()]
    findings += _summary(file, "photos do not exist", missing)
    broken = {} if (directory / MANIFEST_NAME).is_file() else _broken([image for image in images if image.is_file()])
    findings += _summary(file, "photos cannot be read", [f"{image}: {reason}" for image, reason in broken.items()])
    usable = tuple(example for example in examples if example.image.is_file() and example.image not in broken)
    return LoadedDataset(name, file, usable), findings


def _broken(images: Sequence[Path]) -> dict[Path, str]:
    """Photos whose header cannot be read. A build has decoded its photos fully, so only other sets are looked at."""
    from PIL import Image

    broken = {}
    for path in images:
        try:
            with Image.open(path) as image:
                image.verify()
        except (OSError, SyntaxError) as problem:  # SyntaxError: Pillow's word for a broken PNG
            broken[path] = str(problem).replace(f" {str(path)!r}", "")
    return broken


def _example(row: Any, entry: dict[str, Any], media: Path) -> tuple[Example | None, str]:
    columns = {"messages": "conversations"} | entry.get("columns", {})
    tags = {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "system_tag": "system",
    } | entry.get("tags", {})
    try:
        turns = [(turn[tags["role_tag"]], turn[tags["content_tag"]]) for turn in row[columns["messages"]]]
        images = row[columns["images"]]
    except (KeyError, TypeError) as problem:
        return None, f"lacks {problem}"
    system = turns.pop(0)[1] if turns and turns[0][0] == tags["system_tag"] else ""
    if [role for role, _ in turns] != [tags["user_tag"], tags["assistant_tag"]]:
        return None, f"expected user and assistant, got {', '.join(role for role, _ in turns) or 'nothing'}"
    (_, user), (_, answer) = turns
    if not answer.strip():
        return None, "the assistant's answer is empty"
    tokens = user.count(IMAGE_TOKEN)
    if tokens != 1 or len(images) != 1:
        return None, f"expected one photo, got {tokens} {IMAGE_TOKEN} in the text and {len(images)} paths"
    return Example(system, user, answer, media / images[0]), ""


def _summary(file: Path, what: str, problems: Sequence[str]) -> list[Finding]:
    if not problems:
        return []
    more = f" and {len(problems) - SHOWN_ROWS} more" if len(problems) > SHOWN_ROWS else ""
    text = f"{len(problems)} {what}: {'; '.join(problems[:SHOWN_ROWS])}{more}"
    return [error(str(file), text, "Write the data set again with `riskfuse build`.")]
