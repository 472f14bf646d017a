"""What a dual encoder is told about each label: the task card's rules, or texts from a file."""

from __future__ import annotations

from pathlib import Path

from dataset_builders.config_file import read_yaml
from dataset_builders.errors import ConfigError
from dataset_builders.task_card import TaskCard

__all__ = ["label_texts"]


def label_texts(card: TaskCard, path: Path | None = None) -> dict[str, str]:
    """Label id → text, in the card's order.

    Args:
        card: The task card; each label's text and rule are taken when no file is given.
        path: YAML file of label id → text, for example in the language or at the length that the encoder was made for.

    Raises:
        ConfigError: The file is missing or no YAML, or does not give every label of the card one text.
    """
    if path is None:
        return {label.id: f"{label.text}：{label.rule.strip()}" for label in card.labels}
    read = read_yaml(path, "file of label texts", "it maps every label id of the task card to a text")
    good = isinstance(read, dict) and all(isinstance(text, str) and text.strip() for text in read.values())
    if not good or set(read) != set(card.label_ids):
        got = ", ".join(map(str, read)) if isinstance(read, dict) else type(read).__name__
        raise ConfigError(f"{path}: expected one text for each of {', '.join(card.label_ids)} and no more, got: {got}")
    return {label_id: read[label_id].strip() for label_id in card.label_ids}
