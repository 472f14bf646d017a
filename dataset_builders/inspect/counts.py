"""Section "classes": photos by class and split, balance, and how exactly each class can be validated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from dataset_builders.inspect.finding import Finding, Section, Verdict
from dataset_builders.manifest import ManifestRow

__all__ = ["inspect_counts"]

SPLITS = ("train", "val", "test")
LEAST_VALIDATED = 30  # photos in val; fewer leave a recall's 95 % interval wider than ± 18 points
LARGEST_RATIO = 10.0  # rows of the largest class over rows of the smallest


def inspect_counts(rows: Sequence[ManifestRow], label_ids: Sequence[str]) -> Section:
    """Count usable rows.

    Args:
        rows: Usable rows of the manifest, copies too.
        label_ids: Classes in the task's order.
    """
    photos = {split: Counter(row.label for row in rows if row.split == split) for split in SPLITS}
    repeated: Counter[str | None] = Counter()
    for row in rows:
        repeated[row.label] += row.repeats if row.split == "train" else 0
    facts = {
        "classes": [
            {
                "label": label,
                **{split: photos[split][label] for split in SPLITS},
                "train_rows": repeated[label],
                "copies": sum(row.label == label and row.parent is not None for row in rows),
                "recall_margin": _margin(photos["val"][label]),
            }
            for label in label_ids
        ],
        "unlabelled": {split: photos[split][None] for split in SPLITS},
        "imbalance_photos": _ratio([photos["train"][label] for label in label_ids]),
        "imbalance_rows": _ratio([repeated[label] for label in label_ids]),
    }
    return Section("classes", "Classes", (_judge(facts),), facts)


def _judge(facts: dict) -> Finding:
    classes = facts["classes"]
    if not any(row["train"] or row["val"] for row in classes):
        return Finding("classes", Verdict.OK, "The data set holds test photos only, so there is nothing to balance.")
    missing = [row["label"] for row in classes if not (row["train"] and row["val"])]
    if missing:
        return Finding(
            "classes",
            Verdict.PROBLEM,
            f"{', '.join(missing)}: no photo in train or in val, so the class cannot be learnt or cannot be checked.",
            "Add photos of the class, or build with fewer folds or another val_fold.",
        )
    small = [row for row in classes if row["val"] < LEAST_VALIDATED]
    if small:
        listed = ", ".join(
            f"{row['label']} ({row['val']} photos: recall is known to ± {100 * row['recall_margin']:.0f} points)"
            for row in small
        )
        return Finding(
            "classes",
            Verdict.LOOK,
            f"Too few validation photos to see small differences: {listed}.",
            "Compare models by cross-validation over all folds, or collect more photos of these classes.",
        )
    if facts["imbalance_rows"] and facts["imbalance_rows"] > LARGEST_RATIO:
        return Finding(
            "classes",
            Verdict.LOOK,
            f"The largest class has {facts['imbalance_rows']:.1f} times as many training rows as the smallest, so the "
            "model will rarely answer with the small one.",
            "Set balance in the build config, or add augmented copies of the small classes.",
        )
    return Finding("classes", Verdict.OK, "Every class has enough photos to learn from and to be checked.")


def _margin(photos: int) -> float | None:
    """Half of the widest 95 % interval of a recall that is measured on so many photos (normal approximation)."""
    return round(1.96 * math.sqrt(0.25 / photos), 3) if photos else None


def _ratio(counts: Sequence[int]) -> float | None:
    return round(max(counts) / min(counts), 2) if counts and min(counts) > 0 else None
