"""Section "outliers": photos unlike the others, extremes of light and sharpness, flat pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.inspect.descriptors import describe
from dataset_builders.inspect.finding import Finding, Section, Verdict
from dataset_builders.inspect.light import LIGHT_FEATURES
from dataset_builders.manifest import ManifestRow

__all__ = ["inspect_outliers"]

SHOWN = 12  # photos of each kind
DARK, BRIGHT = 20.0, 240.0  # mean luma
FLAT = 3.0  # standard deviation of the luma
BLURRED = 4.0  # robust standard deviations below the usual logarithm of the sharpness
_COMPONENTS = 32
_TREES = 200
_FITTED = 10_000
_TO_SIGMA = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


def inspect_outliers(
    rows: Sequence[ManifestRow], greys_NHW: NDArray[np.uint8], light_NF: NDArray[np.float64], *, seed: int
) -> Section:
    """Rank photos by how unlike the others they are, and list extremes.

    Args:
        rows: The originals among the usable rows, N.
        greys_NHW: Their thumbnails.
        light_NF: Columns ``LIGHT_FEATURES``.
        seed: Of the isolation forest.
    """
    light = {name: light_NF[:, column] for column, name in enumerate(LIGHT_FEATURES)}
    lists = {
        "flat": _below(rows, light["contrast"], FLAT),
        "dark": _below(rows, light["brightness"], DARK),
        "bright": _below(rows, -light["brightness"], -BRIGHT),
        "blurred": _below(rows, *_blur(light["sharpness"], light["contrast"])),
        "unusual": _unusual(rows, greys_NHW, light_NF, seed),
    }
    facts: dict[str, Any] = {
        "counts": {kind: len(found) for kind, found in lists.items() if kind != "unusual"},
        **{kind: found[:SHOWN] for kind, found in lists.items()},
    }
    shown = [item["sample_id"] for found in lists.values() for item in found[:SHOWN]]
    return Section("outliers", "Outliers", (_judge(facts["counts"]),), facts, tuple(dict.fromkeys(shown)))


def _below(rows: Sequence[ManifestRow], value_N: NDArray[np.float64], limit: float) -> list[dict[str, Any]]:
    """Photos under the limit, the lowest first, with their absolute value."""
    order = sorted(np.flatnonzero(value_N < limit).tolist(), key=lambda i: (value_N[i], rows[i].sample_id))
    return [_entry(rows[i], abs(float(value_N[i]))) for i in order]


def _blur(sharpness_N: NDArray[np.float64], contrast_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """How far the sharpness is from usual, in robust standard deviations, and the limit; 0 for flat photos."""
    logs_N = np.log(sharpness_N + 1e-3)
    if not len(logs_N):
        return logs_N, -BLURRED
    spread = _TO_SIGMA * float(np.median(np.abs(logs_N - np.median(logs_N))))
    deviation_N = (logs_N - np.median(logs_N)) / max(spread, 0.1)
    return np.where(contrast_N < FLAT, 0.0, deviation_N), -BLURRED


def _unusual(
    rows: Sequence[ManifestRow], greys_NHW: NDArray[np.uint8], light_NF: NDArray[np.float64], seed: int
) -> list[dict[str, Any]]:
    """Ranked by an isolation forest (Liu et al., Isolation Forest, ICDM 2008) on what photos show and their light."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.preprocessing import StandardScaler

    count = len(rows)
    if count < 2 * SHOWN:
        return []
    described_ND = describe(greys_NHW).astype(np.float64)
    sample = np.linspace(0, count - 1, min(count, _FITTED)).astype(np.int64)
    components = PCA(min(_COMPONENTS, count // 2), svd_solver="full").fit(described_ND[sample])
    light_NF = np.log1p(np.maximum(light_NF - light_NF.min(axis=0), 0))
    vectors_NV = np.concatenate([components.transform(described_ND), light_NF], axis=1)
    vectors_NV = StandardScaler().fit_transform(vectors_NV)
    forest = IsolationForest(n_estimators=_TREES, random_state=seed).fit(vectors_NV[sample])
    score_N = -forest.score_samples(vectors_NV)
    order = sorted(range(count), key=lambda i: (-score_N[i], rows[i].sample_id))
    return [_entry(rows[i], float(score_N[i])) for i in order[:SHOWN]]


def _entry(row: ManifestRow, value: float) -> dict[str, Any]:
    return {"sample_id": row.sample_id, "label": row.label, "split": row.split, "value": round(value, 3)}


def _judge(counts: dict[str, int]) -> Finding:
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    if not listed:
        return Finding("outliers", Verdict.OK, "No photo is flat, very dark, very bright or unusually blurred.")
    return Finding(
        "outliers",
        Verdict.PROBLEM if counts["flat"] else Verdict.LOOK,
        f"Photos that may show nothing: {listed}. A model learns their labels by heart or not at all.",
        "Look at them below; take out those on which a person could not tell the label.",
    )
