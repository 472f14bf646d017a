"""Folds for cross-fitting, and whether the decision rule pays on predictions that were made with them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.bootstrap import resample_confusions
from fusion.metrics import weighted_f1

__all__ = ["assign_folds", "gains_more_than_its_error", "resample_gain"]

Ints = NDArray[np.int64]


def assign_folds(keys: Sequence[str], labels_N: Ints, *, folds: int, seed: int) -> Ints:
    """Assign folds: stratified by label, rows with the same key together, independent of the order of rows.

    Args:
        keys: One text a row, the same for rows that must not be separated.
        labels_N: Class indices; a key's class is its first (most dangerous) one.
        folds: Wanted number of folds, >= 2.
        seed: Another seed gives other folds.

    Returns:
        Fold of every row, 0 to folds - 1; fewer folds when there are fewer keys.
    """
    unique, group_N = np.unique(np.asarray(keys), return_inverse=True)
    label_G = np.full(len(unique), np.iinfo(np.int64).max)
    np.minimum.at(label_G, group_N, labels_N)
    digests = [hashlib.sha256(f"{seed}\x1f{key}".encode()).hexdigest() for key in unique]
    order = np.lexsort((np.array(digests), label_G))
    fold_G = np.empty(len(unique), dtype=np.int64)
    fold_G[order] = np.arange(len(unique)) % min(folds, len(unique))
    return fold_G[group_N]


def resample_gain(
    labels_N: Ints,
    before_N: Ints,
    after_N: Ints,
    weights_K: NDArray[np.float64],
    *,
    group_N: Ints,
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """How much the weighted F1 rises from ``before_N`` to ``after_N`` in each paired resample of groups, shape (R,)."""
    predicted = [before_N, after_N]
    drawn = resample_confusions(labels_N, predicted, len(weights_K), resamples=resamples, rng=rng, group_N=group_N)
    before_R, after_R = weighted_f1(drawn, weights_K)
    return after_R - before_R


def gains_more_than_its_error(
    labels_N: Ints,
    before_N: Ints,
    after_N: Ints,
    weights_K: NDArray[np.float64],
    *,
    group_N: Ints,
    resamples: int,
    rng: np.random.Generator,
) -> bool:
    """Whether the weighted F1 rises from ``before_N`` to ``after_N`` by more than one bootstrap standard error."""
    gain_R = resample_gain(labels_N, before_N, after_N, weights_K, group_N=group_N, resamples=resamples, rng=rng)
    return float(gain_R.mean()) > float(gain_R.std())
