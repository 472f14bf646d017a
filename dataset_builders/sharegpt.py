"""Writes LLaMA-Factory's ShareGPT files and ``dataset_info.json``; stricter than the reader, which drops bad rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.files import write_json
from dataset_builders.manifest import ManifestRow
from dataset_builders.task_card import Prompt, TaskCard

__all__ = [
    "DATASET_INFO",
    "IMAGE_TOKEN",
    "conversation",
    "dataset_names",
    "register_datasets",
    "stage_of",
    "write_dataset_info",
    "write_sharegpt",
]

DATASET_INFO = "dataset_info.json"
IMAGE_TOKEN = "<image>"
_PLACEHOLDERS = (IMAGE_TOKEN, "<video>", "<audio>")


def conversation(prompt: Prompt, image: str | Sequence[str], answer: str | None) -> dict[str, Any]:
    """One ShareGPT example.

    Args:
        prompt: System and user text, without an image token.
        image: Path relative to the data set directory, or several paths: the photos of one turn, in order.
        answer: The right answer; None leaves the assistant's turn out, since no answer is ever invented.

    Raises:
        ConfigError: A text holds a placeholder, and so would not match the photos.
    """
    images = [image] if isinstance(image, str) else list(image)
    for text in (prompt.system, prompt.user, answer or ""):
        for placeholder in _PLACEHOLDERS:
            if placeholder in text:
                raise ConfigError(f"a prompt or answer holds {placeholder}; remove it from the task card: {text!r}")
    messages = [
        {"role": "system", "content": prompt.system},
        {"role": "user", "content": IMAGE_TOKEN * len(images) + prompt.user},
    ]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages, "images": images}


def write_sharegpt(path: Path, rows: Iterable[ManifestRow], card: TaskCard, stage: str) -> int:
    """Write one ShareGPT file of a stage; rows come in the given order, as often as they are given.

    Returns:
        The number of examples.
    """
    prompt = card.prompt(stage)
    examples = [
        conversation(prompt, row.image, card.answer_for(stage, row.label).text if row.label is not None else None)
        for row in rows
    ]
    write_json(path, examples)
    return len(examples)


def dataset_names(card: TaskCard) -> dict[str, str]:
    """Names for ``dataset_info.json`` and the files that they stand for."""
    specialists = [f"{name}_{split}" for name in card.stages[1:] for split in ("train", "val")]
    stems = ("train", "val", "test", *specialists)
    return {f"{card.task}_{stem}": f"{stem}.json" for stem in stems}


def stage_of(dataset_name: str, card: TaskCard) -> str:
    """The stage that a set in ``dataset_info.json`` is meant for: a specialist's if it is named after one, or base."""
    # One name may begin another: the longest that fits is the specialist's.
    fitting = [name for name in card.stages[1:] if dataset_name.startswith(f"{card.task}_{name}_")]
    return max(fitting, key=len, default=card.stages[0])


def write_dataset_info(dataset_dir: Path, names: Sequence[str], card: TaskCard) -> None:
    """Register the named sets with LLaMA-Factory."""
    files = dataset_names(card)
    register_datasets(dataset_dir, {name: files[name] for name in names})


def register_datasets(dataset_dir: Path, files: Mapping[str, str]) -> None:
    """Register sets with LLaMA-Factory by name and file."""
    write_json(dataset_dir / DATASET_INFO, {name: _registration(file) for name, file in files.items()})


def _registration(file_name: str) -> dict[str, Any]:
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    }
