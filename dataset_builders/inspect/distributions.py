"""Section "photos": sizes, file sizes and light by class and split, and what the build had to leave out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.inspect.finding import Finding, Section, Verdict
from dataset_builders.manifest import ManifestRow

__all__ = ["inspect_distributions"]

BINS = 24
LARGEST_LOST = 0.05  # share of quarantined rows from which the sources need a look before training
_SHOWN = ("megapixels", "aspect", "kilobytes", "bytes_per_pixel", "brightness", "contrast", "sharpness")
_UNITS = {"megapixels": "MP", "kilobytes": "kB", "bytes_per_pixel": "B/px", "brightness": "0–255", "contrast": "0–255"}


def inspect_distributions(
    all_rows: Sequence[ManifestRow],
    rows: Sequence[ManifestRow],
    features_NF: NDArray[np.float64],
    names: Sequence[str],
    label_ids: Sequence[str],
) -> Section:
    """Describe the photos.

    Args:
        all_rows: Every row of the manifest.
        rows: The originals among the usable ones, N.
        features_NF: Their features.
        names: Names of the features, F.
        label_ids: Classes in the task's order.
    """
    subsets = _subsets(rows, label_ids)
    measures = [
        {"name": name, "unit": _UNITS.get(name, ""), **_distribution(features_NF[:, names.index(name)], subsets)}
        for name in _SHOWN
    ]
    lost = [row for row in all_rows if not row.usable]
    facts: dict[str, Any] = {
        "measures": measures,
        "quarantined": [{"sample_id": row.sample_id, "status": row.status, "reason": row.reason} for row in lost],
        "reasons": dict(Counter(row.reason.split(":")[0] for row in lost).most_common()),
    }
    return Section("photos", "Photos", (_judge(len(lost), len(all_rows), facts["reasons"]),), facts)


Subsets = dict[tuple[str, str], NDArray[np.int64]]  # (label or split, which one) -> rows


def _subsets(rows: Sequence[ManifestRow], label_ids: Sequence[str]) -> Subsets:
    label_N = np.array([row.label for row in rows], dtype=object)
    split_N = np.array([row.split for row in rows], dtype=object)
    subsets = {("label", label): np.flatnonzero(label_N == label) for label in label_ids}
    subsets |= {("split", split): np.flatnonzero(split_N == split) for split in ("train", "val", "test")}
    return {name: members for name, members in subsets.items() if len(members)}


def _distribution(values_N: NDArray[np.float64], subsets: Subsets) -> dict[str, Any]:
    """Quantiles and a histogram of every subset; the range is common and leaves the outermost 0.5 % to its ends."""
    low, high = np.percentile(values_N, [0.5, 99.5])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    rows = []
    for (kind, name), members in subsets.items():
        values = values_N[members]
        quantiles = np.percentile(values, [5, 50, 95])
        histogram = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
        rows.append(
            {
                "kind": kind,
                "subset": name,
                "photos": len(members),
                **{key: float(f"{value:.4g}") for key, value in zip(("p5", "median", "p95"), quantiles, strict=True)},
                "histogram": histogram.tolist(),
            }
        )
    return {"constant": bool(np.ptp(values_N) == 0), "rows": rows}


def _judge(lost: int, total: int, reasons: dict[str, int]) -> Finding:
    if not lost:
        return Finding("quarantined", Verdict.OK, "Every photo of the sources could be used.")
    listed = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
    return Finding(
        "quarantined",
        Verdict.PROBLEM if lost > LARGEST_LOST * total else Verdict.LOOK,
        f"{lost} of {total} rows are left out: {listed}; the model neither learns from them nor is tested on them.",
        "Look at the reasons below; mend or replace broken photos, and build again.",
    )
