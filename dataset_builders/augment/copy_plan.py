"""Which training photo gets how many copies, and how often each row stands in ``train.json``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dataset_builders.augment.config import AugmentConfig, by_label
from dataset_builders.manifest import ManifestRow
from dataset_builders.split import repeat_evenly
from dataset_builders.task_card import TaskCard

__all__ = ["balanced_repeats", "copies_per_photo", "rows_per_class"]


def rows_per_class(rows: Sequence[ManifestRow], config: AugmentConfig, card: TaskCard) -> dict[str, int]:
    """Rows of ``train.json`` a class: what the policy wants, but never less than one row a photo.

    Args:
        rows: The manifest of the data set, without copies.
        config: The policy.
        card: Knows the labels.
    """
    wanted = {}
    for label_id in card.label_ids:
        members = [row for row in rows if row.usable and row.split == "train" and row.label == label_id]
        given = config.rows.get(label_id) if isinstance(config.rows, Mapping) else config.rows
        wanted[label_id] = max(len(members), sum(row.repeats for row in members) if given is None else given)
    return wanted


def copies_per_photo(
    rows: Sequence[ManifestRow], config: AugmentConfig, card: TaskCard, wanted: Mapping[str, int]
) -> NDArray[np.int32]:
    """Number of copies that are made of each row's photo.

    A class gets ``copies`` x its rows, spread evenly over its photos; in a class that has more photos than copies,
    which photos get one is random.

    Returns:
        Copies, shape (N,), int32; 0 for photos that are not trained on.
    """
    copies_N = np.zeros(len(rows), dtype=np.int32)
    for number, label_id in enumerate(card.label_ids):
        members = [i for i, row in enumerate(rows) if row.usable and row.split == "train" and row.label == label_id]
        count = round(by_label(config.copies, label_id, 0.0) * wanted[label_id])
        copies_N[members] = repeat_evenly(len(members), count, np.random.default_rng([config.seed, number]))
    return copies_N


def balanced_repeats(
    rows: Sequence[ManifestRow], wanted: Mapping[str, int], copy_rows: Mapping[str, int], *, seed: int
) -> NDArray[np.int32]:
    """How often each row stands in ``train.json``, so that every class has its rows whatever copies were dropped.

    Args:
        rows: Originals and copies of a data set, N.
        wanted: Label id -> rows in ``train.json``.
        copy_rows: Label id -> how many of them are copies. When no copy is left, originals take their place.
        seed: Decides which rows come once more than others.

    Returns:
        Repeats, shape (N,), int32. Every photo stands there by itself or by a copy, also where that takes more rows
        than are wanted. 0 for rows that are not trained on.
    """
    repeats_N = np.zeros(len(rows), dtype=np.int32)
    originals: dict[str, list[int]] = defaultdict(list)
    copies: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if row.usable and row.split == "train" and row.label is not None:
            (originals if row.parent is None else copies)[row.label].append(index)
    shown = {row.parent for row in rows if row.usable and row.parent is not None}
    for number, label_id in enumerate(sorted(wanted)):
        rng = np.random.default_rng([seed, number])
        members, of_copies = originals[label_id], copies[label_id]
        # Photos whose copies were all dropped have to stand for themselves: nothing is lost.
        alone = [index for index in members if rows[index].sample_id not in shown]
        total_copies = max(0, min(copy_rows[label_id], wanted[label_id] - len(alone))) if of_copies else 0
        repeats_N[of_copies] = repeat_evenly(len(of_copies), total_copies, rng)
        # With fewer rows than copies, some copies do not stand there either.
        stand = {rows[index].parent for index in of_copies if repeats_N[index]}
        alone = [index for index in members if rows[index].sample_id not in stand]
        repeats_N[members] = _spread(members, alone, wanted[label_id] - total_copies, rng)
    return repeats_N


def _spread(members: Sequence[int], alone: Sequence[int], total: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """``total`` rows over all members, evenly.

    When they do not suffice for all, each of ``alone`` gets one, and others what is left.
    """
    if total >= len(members):
        return repeat_evenly(len(members), total, rng)
    first = set(alone)
    others = [index for index in members if index not in first]
    picked = first | {others[i] for i in rng.permutation(len(others))[: max(0, total - len(first))]}
    return np.array([index in picked for index in members], dtype=np.int32)
