"""Section "label errors": labels that out-of-fold predictions contradict, ranked by confident learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.errors import DataError
from dataset_builders.inspect.finding import Finding, Section, Verdict
from dataset_builders.manifest import ManifestRow

__all__ = ["SHOWN", "inspect_label_errors", "rank_label_errors"]

SHOWN = 32
LISTED = 1_000  # in report.json, and every issue
LARGEST_SHARE = 0.1
# Of cleanlab's scores the best on the board; self_confidence is worse, confidence_weighted_entropy worst.
METHOD = "normalized_margin"


def rank_label_errors(
    labels_N: NDArray[np.int64], probs_NK: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score every label, and say which ones are probably wrong.

    Confident learning: Northcutt et al., Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 2021, as
    cleanlab implements it.

    Args:
        labels_N: Index of the given label.
        probs_NK: Probabilities by a model that did not see the photo; rows sum to 1.

    Returns:
        Quality of each label, 0 (surely wrong) to 1; and True where it counts as an issue.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    quality_N = get_label_quality_scores(labels_N, probs_NK, method=METHOD)
    present = np.unique(labels_N)
    if len(present) < 2:
        return quality_N, np.zeros(len(labels_N), dtype=bool)
    # cleanlab wants every class among the labels.
    columns = probs_NK[:, present] / probs_NK[:, present].sum(axis=1, keepdims=True)
    issue_N = find_label_issues(np.searchsorted(present, labels_N), columns, filter_by="both", n_jobs=1)
    return quality_N, np.asarray(issue_N, dtype=bool)


def inspect_label_errors(
    rows: Sequence[ManifestRow], label_ids: Sequence[str], probabilities: Mapping[str, NDArray[np.float64]] | None
) -> Section:
    """Rank labels.

    Args:
        rows: The originals among the usable rows.
        label_ids: Classes in the order of the probabilities.
        probabilities: Sample id -> calibrated out-of-fold probabilities, shape (K,); None when there are none.

    Raises:
        DataError: There are predictions, but none of a labelled photo of this data set.
    """
    title = "Label errors"
    if probabilities is None:
        return Section("label_errors", title, (), {"rows": 0})
    known = [row for row in rows if row.label in label_ids and row.sample_id in probabilities]
    if not known:
        raise DataError(
            "the predictions hold no labelled photo of this data set; predict its photos out of fold with "
            "`riskfuse out-of-fold`, or leave --predictions away"
        )
    labels_N = np.array([label_ids.index(str(row.label)) for row in known], dtype=np.int64)
    probs_NK = np.stack([probabilities[row.sample_id] for row in known])
    probs_NK = probs_NK / probs_NK.sum(axis=1, keepdims=True)
    quality_N, issue_N = rank_label_errors(labels_N, probs_NK)
    order = sorted(range(len(known)), key=lambda i: (quality_N[i], known[i].sample_id))
    ranked: list[dict[str, Any]] = [
        {
            "sample_id": known[i].sample_id,
            "split": known[i].split,
            "label": known[i].label,
            "likely": label_ids[int(probs_NK[i].argmax())],
            "p_label": round(float(probs_NK[i, labels_N[i]]), 4),
            "p_likely": round(float(probs_NK[i].max()), 4),
            "quality": round(float(quality_N[i]), 4),
            "issue": bool(issue_N[i]),
        }
        for i in order
    ]
    issues = [item for item in ranked if item["issue"]]
    facts = {
        "rows": len(known),
        "issues": len(issues),
        "splits": {split: sum(row.split == split for row in known) for split in ("train", "val", "test")},
        "accuracy": round(float(np.mean(probs_NK.argmax(axis=1) == labels_N)), 3),
        "pairs": _pairs(issues),
        "ranked": [item for rank, item in enumerate(ranked) if rank < LISTED or item["issue"]],
    }
    shown = tuple(item["sample_id"] for item in ranked[:SHOWN])
    return Section("label_errors", title, (_judge(facts),), facts, shown)


def _pairs(issues: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], int] = {}
    for item in issues:
        key = (item["label"], item["likely"])
        counts[key] = counts.get(key, 0) + 1
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [{"label": label, "likely": likely, "photos": count} for (label, likely), count in ordered]


def _judge(facts: Mapping[str, Any]) -> Finding:
    if not facts["issues"]:
        return Finding("label_errors", Verdict.OK, "Out-of-fold predictions contradict no label with confidence.")
    share = facts["issues"] / facts["rows"]
    return Finding(
        "label_errors",
        Verdict.PROBLEM if share > LARGEST_SHARE else Verdict.LOOK,
        f"{facts['issues']} of {facts['rows']} labels ({100 * share:.1f} %) look wrong to a model that did not see the "
        "photo: some are mistakes in the list, the others are hard photos.",
        "Look at the photos below, the most suspicious first, and mend the label list where a person agrees.",
    )
