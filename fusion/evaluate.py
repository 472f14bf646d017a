"""Scores submissions against a labelled list, and compares them on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import TaskCard
from fusion.bootstrap import RESAMPLES
from fusion.scores import compare_systems
from fusion.submission import read_label_file, read_submission

__all__ = ["evaluate"]


def evaluate(
    submissions: Sequence[str | Path], labels: str | Path, card: TaskCard, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Score one submission, or several side by side.

    Args:
        submissions: ``name<TAB>label text``, exactly the names of ``labels`` in its order.
        labels: ``name<TAB>label`` of the same photos.
        card: The task.
        resamples: Bootstrap resamples of the intervals.
        seed: Their seed.

    Returns:
        What ``fusion.scores.compare_systems`` returns. The system of a single submission is called ``submission``; of
        several each is called as its file, and all others are compared with the first.

    Raises:
        ConfigError: A submission is named twice.
        DataError: One of the files is not what it must be; every finding is in the message.
    """
    truth = read_label_file(labels, card)
    names = ["submission"] if len(submissions) == 1 else [str(path) for path in submissions]
    if len(set(names)) < len(names):
        raise ConfigError(f"submissions are named twice: {', '.join(names)}; give each once")
    answers = {name: read_submission(path, truth, card).labels for name, path in zip(names, submissions, strict=True)}
    place = {label: k for k, label in enumerate(card.label_ids)}
    return compare_systems(
        np.array([place[label] for label in truth.labels]),
        {name: np.array([place[label] for label in labels]) for name, labels in answers.items()},
        [(name, names[0]) for name in names[1:]],
        label_ids=card.label_ids,
        weights_K=np.array([label.weight for label in card.labels]),
        resamples=resamples,
        seed=seed,
    )
