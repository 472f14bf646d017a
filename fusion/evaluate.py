"""Scores any submission against a labelled list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dataset_builders.task_card import TaskCard
from fusion.bootstrap import RESAMPLES
from fusion.scores import compare_systems
from fusion.submission import read_label_file, read_submission

__all__ = ["evaluate"]


def evaluate(
    submission: str | Path, labels: str | Path, card: TaskCard, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Score a submission.

    Args:
        submission: ``name<TAB>label text``, exactly the names of ``labels`` in its order.
        labels: ``name<TAB>label`` of the same photos.
        card: The task.
        resamples: Bootstrap resamples of the intervals.
        seed: Their seed.

    Returns:
        What ``fusion.scores.compare_systems`` returns, with the one system ``submission``.

    Raises:
        DataError: One of the files is not what it must be; every finding is in the message.
    """
    truth = read_label_file(labels, card)
    answers = read_submission(submission, truth, card)
    place = {label: k for k, label in enumerate(card.label_ids)}
    return compare_systems(
        np.array([place[label] for label in truth.labels]),
        {"submission": np.array([place[label] for label in answers.labels])},
        (),
        label_ids=card.label_ids,
        weights_K=np.array([label.weight for label in card.labels]),
        resamples=resamples,
        seed=seed,
    )
