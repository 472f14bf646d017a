"""Folds that are stratified by label and keep groups whole, and balance by repetition."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dataset_builders.errors import DataError

__all__ = ["assign_folds", "in_turns", "repeat_evenly", "repeats_for_balance"]


Item = TypeVar("Item")


def assign_folds(labels: Sequence[str], groups: Sequence[int], *, folds: int, seed: int) -> NDArray[np.int8]:
    """Give every photo a fold such that groups stay whole and classes are spread as evenly as groups allow.

    Args:
        labels: Label ids, N.
        groups: Near-duplicate groups, N.
        folds: Number of folds.
        seed: Decides among equally good assignments.

    Returns:
        Folds, shape (N,), int8, 0 to ``folds`` − 1.

    Raises:
        DataError: There are fewer groups, or fewer photos in the largest class, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    largest = max(Counter(labels).values(), default=0)
    if len(set(groups)) < folds or largest < folds:
        raise DataError(
            f"{folds} folds need at least {folds} photos in the largest class and {folds} groups of near-duplicates; "
            f"got {largest} photos and {len(set(groups))} groups: lower `folds` or add photos"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    folds_N = np.full(len(labels), -1, dtype=np.int8)
    with warnings.catch_warnings():
        # A class with fewer photos than folds: the audit says what that means for train and val.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(labels)), labels, groups)):
            folds_N[held_out] = fold
    return folds_N


def repeat_evenly(count: int, total: int, rng: Generator) -> NDArray[np.int32]:
    """How often each of ``count`` items appears so that they fill ``total`` rows; no two differ by more than one.

    Returns:
        Repeats, shape (count,), int32, sum = ``total`` when ``count`` > 0. Which items come once more is random.
    """
    if count == 0:
        return np.zeros(0, dtype=np.int32)
    repeats = np.full(count, total // count, dtype=np.int32)
    repeats[rng.permutation(count)[: total % count]] += 1
    return repeats


def repeats_for_balance(
    labels: Sequence[str], label_ids: Sequence[str], *, balance: int | Mapping[str, int] | None, seed: int
) -> NDArray[np.int32]:
    """Oversampling by repetition: how often each training photo stands in ``train.json``.

    Args:
        labels: Label ids of the training photos, N.
        label_ids: All label ids of the task.
        balance: Wanted rows of every class, or of the named ones; None repeats nothing.
        seed: Decides which photos of a class come once more than others.

    Returns:
        Repeats, shape (N,), int32, at least 1: a class above its target stays whole.
    """
    repeats_N = np.ones(len(labels), dtype=np.int32)
    labels_N = np.array(labels, dtype=object)
    for index, label_id in enumerate(label_ids):
        wanted = balance.get(label_id) if isinstance(balance, Mapping) else balance
        members = np.flatnonzero(labels_N == label_id)
        if wanted is not None and len(members) < wanted:
            # A generator a class, so that one class's size does not change another's choice.
            repeats_N[members] = repeat_evenly(len(members), wanted, np.random.default_rng([seed, index]))
    return repeats_N


def in_turns(items: Sequence[Item], repeats: Sequence[int] | NDArray[np.int32]) -> list[Item]:
    """Every item as often as ``repeats`` says, round by round, so that its repetitions do not follow each other."""
    most = max(repeats, default=0)
    return [item for turn in range(most) for item, times in zip(items, repeats, strict=True) if times > turn]
