"""Written labels that are wrong: what a share of them does to counts of rows, and how to take it out again.

A row's truth k was written down as j with a probability that does not depend on the photo otherwise. What is measured
on the rows of every written label is then a known mixture of what would be measured on the rows of every true one, and
the mixture can be undone (Sesia, Wang and Tong, Adaptive conformal classification with noisy labels, JRSS B 87, 2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataset_builders.errors import DataError
from dataset_builders.task_card import TaskCard

__all__ = ["ladder_errors", "true_shares", "unmixing"]

Floats = NDArray[np.float64]


def ladder_errors(card: TaskCard, share: float) -> Floats:
    """Probability of every written label given the true one, if this share of the ladder's labels is a rung off.

    Grades are mistaken for their neighbours; a label off the ladder is not mistaken.

    Args:
        card: The task.
        share: Of photos whose true label is on the ladder, those whose written label is wrong, in [0, 0.5).

    Returns:
        Matrix of shape (K, K), rows by true label, each with the sum 1.
    """
    matrix = np.eye(len(card.labels))
    last = len(card.ladder) - 1
    for k in range(last + 1):
        neighbours = [j for j in (k - 1, k + 1) if 0 <= j <= last]
        matrix[k, k] -= share
        matrix[k, neighbours] += share / len(neighbours)
    return matrix


def true_shares(labels_N: NDArray[np.int64], written_KK: Floats, label_ids: Sequence[str] = ()) -> Floats:
    """Share of every true label among rows with these written ones.

    Args:
        labels_N: Written class indices, at least one.
        written_KK: Probability of a written label (column) given the true one (row).
        label_ids: What errors call the labels; their numbers from 0 where not given.

    Raises:
        DataError: No more rows of a label than the errors alone would write: the stated share is too high.
    """
    counts = np.bincount(labels_N, minlength=len(written_KK))
    shares = np.linalg.solve(written_KK.T, counts / counts.sum())
    unexplained = np.where(counts > 0, shares < 1e-12, shares < -1e-12)
    if unexplained.any():
        short = int(np.where(unexplained, shares, np.inf).argmin())
        raise DataError(
            f"only {counts[short]} labelled photos have label {label_ids[short] if label_ids else short}, no more than "
            "wrong labels alone would make; state a smaller --label-errors"
        )
    return np.clip(shares, 0, None)


def unmixing(shares_K: Floats, written_KK: Floats) -> Floats:
    """What makes shares among the rows of every true label from those among the rows of every written one.

    With G_j the share of rows written j that have some property, and M the result, the share among rows that truly are
    k is sum over j of M[k, j] G_j.

    Args:
        shares_K: Share of every true label, see ``true_shares``; a label that no row has stands for itself.
        written_KK: Probability of a written label (column) given the true one (row).

    Returns:
        Matrix of shape (K, K), each row with the sum 1; the identity when no label is wrong.
    """
    joint_KK = shares_K[:, None] * written_KK
    absent = joint_KK.sum(axis=0) <= 0
    joint_KK[absent, absent] = 1.0
    truth_given_written = (joint_KK / joint_KK.sum(axis=0)).T
    return np.linalg.inv(truth_given_written)
