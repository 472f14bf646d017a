"""Folds, balance, and the audit that trusts neither."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_builders.audit import audit_dataset
from dataset_builders.errors import DataError
from dataset_builders.files import write_json
from dataset_builders.manifest import QUARANTINED, ManifestRow
from dataset_builders.split import assign_folds, repeat_evenly, repeats_for_balance
from dataset_builders.task_card import TaskCard


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), folds=st.integers(2, 5), largest=st.integers(1, 4))
def test_groups_stay_whole_folds_repeat_and_classes_spread(seed: int, folds: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(120), rng.integers(1, largest + 1, 120))
    labels = rng.choice(["a", "b", "c"], size=len(groups), p=[0.7, 0.2, 0.1]).tolist()
    result = assign_folds(labels, groups.tolist(), folds=folds, seed=seed)
    assert set(result.tolist()) == set(range(folds))
    assert all(len(set(result[groups == group].tolist())) == 1 for group in range(120))
    assert result.tolist() == assign_folds(labels, groups.tolist(), folds=folds, seed=seed).tolist()
    for label, total in Counter(labels).items():
        per_fold = [sum(1 for x, f in zip(labels, result, strict=True) if x == label and f == k) for k in range(folds)]
        assert max(per_fold) <= total / folds + 3 * largest


def test_too_few_photos_for_the_folds() -> None:
    with pytest.raises(DataError, match="lower `folds`"):
        assign_folds(["a", "b"] * 2, [0, 1, 2, 3], folds=5, seed=0)
    with pytest.raises(DataError, match="got 6 photos and 1 groups"):
        assign_folds(["a"] * 6, [0] * 6, folds=5, seed=0)


@given(count=st.integers(1, 50), total=st.integers(0, 500), seed=st.integers(0, 1000))
def test_repetition_is_even_and_exact(count: int, total: int, seed: int) -> None:
    repeats = repeat_evenly(count, total, np.random.default_rng(seed))
    assert repeats.sum() == total
    assert repeats.max() - repeats.min() <= 1


def test_balance_keeps_large_classes_whole() -> None:
    labels = ["a"] * 10 + ["b"] * 3
    assert repeats_for_balance(labels, ["a", "b"], balance=None, seed=0).tolist() == [1] * 13
    repeats = repeats_for_balance(labels, ["a", "b"], balance=8, seed=0)
    assert (repeats[:10] == 1).all()
    assert sorted(repeats[10:].tolist()) == [2, 3, 3]
    only_a = repeats_for_balance(labels, ["a", "b"], balance={"a": 15}, seed=0)
    assert (only_a[:10].sum(), only_a[10:].tolist()) == (15, [1, 1, 1])


def rows_of(card: TaskCard) -> list[ManifestRow]:
    """A clean data set of one photo a class in train and in val, and one test photo."""
    splits = [("train", 1), ("val", 0)]
    rows = [
        ManifestRow(
            sample_id=f"s/{split}{label}",
            source="s",
            name=f"{split}{label}",
            position=0,
            split=split,
            label=label,
            image=f"images/{split}{label}",
            sha256=f"{split}{label}",
            fold=fold,
            group=fold * 10 + number,
            repeats=fold,
        )
        for split, fold in splits
        for number, label in enumerate(card.label_ids)
    ]
    test = replace(rows[0], sample_id="s/t", split="test", image="images/t", sha256="t", fold=-1, group=99, repeats=0)
    return [*rows, test]


def write(directory: Path, rows: list[ManifestRow]) -> None:
    for split in ("train", "val", "test"):
        write_json(directory / f"{split}.json", [{"images": [row.image]} for row in rows if row.split == split])
    for row in rows:
        (directory / row.image).parent.mkdir(exist_ok=True)
        (directory / row.image).touch()


def test_audit_passes_a_clean_set(card: TaskCard, tmp_path: Path) -> None:
    rows = rows_of(card)
    write(tmp_path, rows)
    audit_dataset(tmp_path, rows, card)


def test_audit_names_every_finding_in_one_error(card: TaskCard, tmp_path: Path) -> None:
    rows = rows_of(card)
    write(tmp_path, rows)
    (tmp_path / rows[1].image).unlink()
    broken = list(rows)
    broken[0] = replace(rows[0], group=99)  # train and test share a group
    broken[4] = replace(rows[4], sha256=rows[1].sha256)  # val and train share a file
    broken[5] = replace(rows[5], status=QUARANTINED, sample_id=rows[3].sample_id)  # cold has no val photo, id twice
    with pytest.raises(DataError) as caught:
        audit_dataset(tmp_path, broken, card)
    message = str(caught.value)
    for part in (
        "group 99 crosses splits: s/trainhot in train, s/t in test",
        "are in two splits: s/trainwarm in train, s/valwarm in val",
        "class cold (安全) has no photo in val: it has 1 photos",
        "names the photo images/trainwarm",
        "val.json: has 3 rows, the manifest says 2",
        "sample id 's/valhot' is used twice",
    ):
        assert part in message
    assert "6 findings" in message
