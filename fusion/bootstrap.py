"""Uncertainty: a paired bootstrap over confusion counts, percentile intervals and McNemar's exact test.

Drawing N rows with replacement and counting them by (true class, every system's prediction) is a multinomial draw
over the cells that occur. So a resample costs a draw over some dozens of cells whatever the number of rows is, all
systems share the draw (that is what makes it paired), and the order of rows has no influence. Rows that are no
independent draws, near-duplicates, are drawn together (Davison and Hinkley, Bootstrap Methods and their Application,
1997, section 3.8): a multinomial draw over the combinations of cells that groups have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "RESAMPLES", "interval", "joint_cells", "mcnemar_p", "resample_confusions"]

RESAMPLES = 2000
LEVEL = 0.95

Ints = NDArray[np.int64]


def joint_cells(true_N: Ints, predicted_SN: Sequence[Ints], classes: int) -> tuple[Ints, Ints]:
    """The combinations of true class and predictions that occur.

    Args:
        true_N: Class indices.
        predicted_SN: Class indices of every system, each of shape (N,).
        classes: Number of classes K.

    Returns:
        The cells, shape (C, 1 + S) with the true class first, in lexicographic order, and the cell of every row (N,).
    """
    columns = [np.asarray(true_N, dtype=np.int64), *(np.asarray(p, dtype=np.int64) for p in predicted_SN)]
    codes = columns[0]
    cells = np.zeros((0, 0), dtype=np.int64)
    for column in columns:
        if cells.size:
            # Codes are renumbered after every column, so that they stay below N x K for any number of systems.
            values, codes = np.unique(codes * classes + column, return_inverse=True)
            cells = np.column_stack([cells[values // classes], values % classes])
        else:
            values, codes = np.unique(column, return_inverse=True)
            cells = values[:, None]
    return cells, codes.astype(np.int64)


def resample_confusions(
    true_N: Ints,
    predicted_SN: Sequence[Ints],
    classes: int,
    *,
    resamples: int,
    rng: np.random.Generator,
    group_N: Ints | None = None,
) -> NDArray[np.int64]:
    """Draw paired bootstrap resamples of several systems' confusion matrices.

    Plain, not stratified: the class counts of a test set are random too, and the interval must say so.

    Args:
        true_N: Class indices; at least one row.
        predicted_SN: Class indices of S systems.
        classes: Number of classes K.
        resamples: Number of draws R.
        rng: Source of randomness.
        group_N: Rows with the same number are drawn together; each row by itself when None. As many groups are drawn
            as there are, so the number of rows varies.

    Returns:
        Counts of shape (S, R, K, K); draw r is the same rows for every system.
    """
    cells, cell_N = joint_cells(true_N, predicted_SN, classes)
    counts_T, together_UC = _kinds_of_draw(cell_N, group_N, len(cells))
    total = int(counts_T.sum())
    drawn_RT = rng.multinomial(total, counts_T / total, size=resamples).astype(np.float64)
    drawn_RC = drawn_RT[:, : len(cells)]
    if len(together_UC):
        drawn_RC = drawn_RC + drawn_RT[:, len(cells) :] @ together_UC
    confusions = np.empty((len(predicted_SN), resamples, classes, classes), dtype=np.int64)
    for system in range(len(predicted_SN)):
        place_C = cells[:, 0] * classes + cells[:, 1 + system]
        indicator = np.zeros((len(cells), classes * classes))
        indicator[np.arange(len(cells)), place_C] = 1.0
        confusions[system] = np.rint(drawn_RC @ indicator).reshape(resamples, classes, classes)
    return confusions


def _kinds_of_draw(cell_N: Ints, group_N: Ints | None, cells: int) -> tuple[Ints, NDArray[np.float64]]:
    """How many groups are one row of each of C cells, then how many are of each of U kinds of several rows [C + U].

    And the rows of each cell in these kinds, [U, C].
    """
    if group_N is None:
        return np.bincount(cell_N, minlength=cells), np.empty((0, cells))
    _, group_N, size_G = np.unique(group_N, return_inverse=True, return_counts=True)
    alone = size_G[group_N] == 1
    alone_C = np.bincount(cell_N[alone], minlength=cells)
    if alone.all():
        return alone_C, np.empty((0, cells))
    cell, group = cell_N[~alone], group_N[~alone]
    order = np.lexsort((cell, group))
    starts = np.flatnonzero(np.diff(group[order])) + 1
    kinds = sorted(Counter(tuple(rows.tolist()) for rows in np.split(cell[order], starts)).items())
    together_UC = np.array([np.bincount(kind, minlength=cells) for kind, _ in kinds], dtype=np.float64)
    return np.append(alone_C, [count for _, count in kinds]), together_UC


def interval(values_R: NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13)."""
    low, high = np.quantile(values_R, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar_p(wrong_a_N: NDArray[np.bool_], wrong_b_N: NDArray[np.bool_]) -> float:
    """Two-sided p of McNemar's exact test that two systems err equally often on the same rows (McNemar 1947).

    Only rows where exactly one of the two is wrong count; without any, p is 1.
    """
    from scipy.special import bdtr  # not scipy.stats, which takes a second to load

    only_a = int(np.sum(wrong_a_N & ~wrong_b_N))
    only_b = int(np.sum(wrong_b_N & ~wrong_a_N))
    # The binomial distribution at 1/2 is symmetric: both tails are alike, and overlap when the counts are equal.
    return min(1.0, 2.0 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
