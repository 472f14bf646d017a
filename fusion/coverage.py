"""How often prediction sets hold the true label on labelled rows, with exact binomial intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.bootstrap import LEVEL
from fusion.score_table import align

__all__ = ["binomial_interval", "coverage", "format_coverage"]


def binomial_interval(hits: int, rows: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of a share (Clopper and Pearson, Biometrika 26, 1934); (0, 1) without any row.

    Args:
        hits: Successes, 0 to ``rows``.
        rows: Trials.
        level: Confidence, in (0, 1).
    """
    from scipy.special import betaincinv  # not scipy.stats, which takes a second to load

    tail = (1 - level) / 2
    low = float(betaincinv(hits, rows - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, rows - hits, 1 - tail)) if hits < rows else 1.0
    return low, high


def coverage(sets_NK: NDArray[np.bool_], labels_N: NDArray[np.int64], label_ids: Sequence[str]) -> dict[str, Any]:
    """Coverage overall and by true class, as JSON values.

    Args:
        sets_NK: Which labels are in each photo's set.
        labels_N: True class indices, as many.
        label_ids: Label identifiers in class order.

    Returns:
        ``rows``, ``covered`` (rows), ``coverage`` (share; None without rows) and ``coverage_interval``, ``mean_size``,
        ``one_label`` (share of sets that hold exactly one label), and the first four for every label in ``per_class``.
    """
    hit_N = sets_NK[np.arange(len(labels_N)), labels_N]
    size_N = sets_NK.sum(axis=1)
    found = _share(hit_N)
    found["mean_size"] = float(size_N.mean()) if len(size_N) else None
    found["one_label"] = float((size_N == 1).mean()) if len(size_N) else None
    found["per_class"] = {label: _share(hit_N[labels_N == k]) for k, label in enumerate(label_ids)}
    return found


def format_coverage(title: str, found: Mapping[str, Any]) -> str:
    """One row for all labels and one a label: rows, coverage with interval.

    Args:
        title: Heading, without a line end.
        found: What ``coverage`` returned.
    """
    table = [["", "true label", "rows", "coverage", f"{round(100 * LEVEL)} % interval"]]
    for name, share in (("all", found), *found["per_class"].items()):
        if share["rows"]:
            low, high = share["coverage_interval"]
            table.append(["", name, str(share["rows"]), f"{share['coverage']:.4f}", f"[{low:.3f}, {high:.3f}]"])
    return f"{title}\n{align(table, left=2)}"


def _share(hit_N: NDArray[np.bool_]) -> dict[str, Any]:
    rows, hits = len(hit_N), int(hit_N.sum())
    share = hits / rows if rows else None
    return {"rows": rows, "covered": hits, "coverage": share, "coverage_interval": list(binomial_interval(hits, rows))}
