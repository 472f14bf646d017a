"""Label errors: planted ones come first, whatever the classes."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_builders.errors import DataError
from dataset_builders.inspect.finding import Verdict
from dataset_builders.inspect.label_errors import inspect_label_errors, rank_label_errors
from dataset_builders.manifest import ManifestRow

IDS = ("hot", "warm", "cold", "none")


def _planted(seed: int, count: int = 1500, share: float = 0.02) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Given labels, probabilities of a model that is right 9 times of 10, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, size=count, p=[0.1, 0.2, 0.2, 0.5])
    logits = rng.normal(size=(count, 4))
    logits[np.arange(count), truth] += 3
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = rng.random(count) < share
    given = np.where(wrong, (truth + rng.integers(1, 4, count)) % 4, truth)
    return given, probs, wrong


@pytest.mark.parametrize("seed", range(3))
def test_planted_errors_come_first(seed: int) -> None:
    from sklearn.metrics import average_precision_score

    given, probs, wrong = _planted(seed)
    quality, issue = rank_label_errors(given, probs)
    assert average_precision_score(wrong, -quality) >= 5 * wrong.mean()
    assert wrong[issue].mean() > 5 * wrong.mean()
    assert ((quality >= 0) & (quality <= 1)).all()


def test_classes_without_photos_do_no_harm() -> None:
    given, probs, _ = _planted(0)
    some = given != 2
    quality, issue = rank_label_errors(given[some], probs[some])
    assert len(quality) == len(issue) == some.sum()
    assert not rank_label_errors(np.zeros(5, int), np.full((5, 4), 0.25))[1].any()


def _rows(given: np.ndarray) -> list[ManifestRow]:
    return [
        ManifestRow(sample_id=f"s/{i}", source="s", name=str(i), position=i, split="train", label=IDS[k])
        for i, k in enumerate(given)
    ]


def test_section() -> None:
    given, probs, wrong = _planted(1)
    rows = _rows(given)
    section = inspect_label_errors(rows, IDS, {row.sample_id: row_K for row, row_K in zip(rows, probs, strict=True)})
    first = section.facts["ranked"][0]
    index = int(first["sample_id"][2:])
    assert wrong[index]
    assert first["likely"] == IDS[int(probs[index].argmax())] != first["label"]
    assert section.facts["rows"] == len(rows)
    assert section.verdict in (Verdict.LOOK, Verdict.PROBLEM)
    assert section.shown[0] == first["sample_id"]


def test_without_predictions_or_with_those_of_another_data_set() -> None:
    rows = _rows(np.array([0, 1]))
    assert inspect_label_errors(rows, IDS, None).findings == ()
    with pytest.raises(DataError, match="no labelled photo of this data set"):
        inspect_label_errors(rows, IDS, {"other/1": np.full(4, 0.25)})
