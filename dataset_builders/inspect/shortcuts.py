"""Section "shortcuts": can file or light alone tell the class, the split, or a copy from its original?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.inspect.audit import FeatureAudit, audit_features
from dataset_builders.inspect.encoding import FILE_FEATURES
from dataset_builders.inspect.finding import Finding, Section, Verdict, worst
from dataset_builders.inspect.light import LIGHT_FEATURES
from dataset_builders.manifest import ManifestRow

__all__ = ["PHOTO_FEATURES", "inspect_shortcuts"]

PHOTO_FEATURES = (*FILE_FEATURES, *LIGHT_FEATURES)

# Lower ends of the 95 % interval of a class's AUC from which a set of features is worth a look, or is a problem. Light
# is part of what a photo shows (streets are brighter than corridors), so that it must tell much more.
LIMITS = {"file": (0.65, 0.8), "light": (0.8, 0.95)}
COPY_SEEN = 0.9  # AUC from which copies count as told from originals
COPY_RATIO = 2.0  # the share of copies in one class over that in another, at the least

_FILES = slice(0, len(FILE_FEATURES))
_LIGHT = slice(len(FILE_FEATURES), len(PHOTO_FEATURES))
_SETS = {"file": (_FILES, FILE_FEATURES), "light": (_LIGHT, LIGHT_FEATURES)}


def inspect_shortcuts(
    rows: Sequence[ManifestRow],
    features_NF: NDArray[np.float64],
    groups_N: NDArray[np.int64],
    label_ids: Sequence[str],
    *,
    seed: int,
) -> Section:
    """Audit class, split and copies.

    Args:
        rows: Usable rows, copies too, N.
        features_NF: Columns ``PHOTO_FEATURES``, float64.
        groups_N: Near-duplicate groups; a copy is in its original's.
        label_ids: Classes in the task's order.
        seed: Of the audits.
    """
    original_N = np.array([row.parent is None for row in rows], dtype=bool)
    label_N = np.array([row.label for row in rows], dtype=object)
    split_N = np.array([row.split for row in rows], dtype=object)
    labelled_N = original_N & np.array([label is not None for label in label_N], dtype=bool)
    learnt_N = labelled_N & (split_N != "test")
    members = np.flatnonzero(learnt_N if learnt_N.any() else labelled_N)
    by_label = _audits(features_NF, label_N, groups_N, members, label_ids, seed)
    by_split = _audits(features_NF, split_N, groups_N, np.flatnonzero(original_N), ("train", "val", "test"), seed)
    copies = _copies(rows, features_NF, groups_N, label_ids, seed)
    facts = {"label": by_label, "split": by_split, "copies": copies, "limits": LIMITS}
    findings = [_judge_shortcut(by_label), _judge_shift(by_split)]
    if copies:
        findings.append(_judge_copies(copies))
    return Section("shortcuts", "Shortcuts", tuple(findings), facts)


def _audits(
    features_NF: NDArray[np.float64],
    class_N: NDArray[np.object_],
    groups_N: NDArray[np.int64],
    members: NDArray[np.int64],
    order: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """Audit of each set of features, as JSON values; None where there are too few photos."""
    audits = {}
    for name, (columns, features) in _SETS.items():
        audit = audit_features(
            features_NF[members, columns], features, class_N[members], groups_N[members], label_order=order, seed=seed
        )
        audits[name] = _as_json(audit) if audit else None
    return audits


def _as_json(audit: FeatureAudit) -> dict[str, Any]:
    facts = asdict(audit)
    for key in ("accuracy", "majority", "balanced_accuracy", "chance"):
        facts[key] = round(facts[key], 3)
    facts["interval"] = [round(value, 3) for value in audit.interval]
    for item in facts["classes"]:
        item |= {"auc": round(item["auc"], 3), "low": round(item["low"], 3)}
    facts["features"] = [{"name": name, "balanced_accuracy": round(value, 3)} for name, value in audit.features]
    return facts


def _copies(
    rows: Sequence[ManifestRow],
    features_NF: NDArray[np.float64],
    groups_N: NDArray[np.int64],
    label_ids: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """Per class: share of copies among the training rows, and how well they can be told; empty without copies."""
    if all(row.parent is None for row in rows):
        return []
    kind_N = np.array(["copy" if row.parent else "original" for row in rows], dtype=object)
    classes = []
    for label in label_ids:
        members = np.array([i for i, row in enumerate(rows) if row.label == label and row.split == "train"], dtype=int)
        if not len(members):
            continue
        copied = sum(rows[i].repeats for i in members if rows[i].parent)
        audit = audit_features(
            features_NF[members], PHOTO_FEATURES, kind_N[members], groups_N[members],
            label_order=("copy", "original"), seed=seed,
        )  # fmt: skip
        classes.append(
            {
                "label": label,
                "share": round(copied / max(sum(rows[i].repeats for i in members), 1), 3),
                "auc": round(audit.classes[0].auc, 3) if audit else None,
                "low": round(audit.classes[0].low, 3) if audit else None,
            }
        )
    return classes


def _judge(audits: dict[str, Any]) -> tuple[Verdict, list[str]]:
    """The verdict, and what gives it: class, set of features, AUC."""
    verdicts, reasons = [Verdict.OK], []
    for name, (look, problem) in LIMITS.items():
        for item in audits[name]["classes"] if audits[name] else ():
            if item["low"] >= look:
                verdicts.append(Verdict.PROBLEM if item["low"] >= problem else Verdict.LOOK)
                best = audits[name]["features"][0]["name"].replace("_", " ")
                reasons.append(f"{item['label']} by {name}, AUC {item['auc']:.2f}, most by {best}")
    return worst(verdicts), reasons


def _judge_shortcut(audits: dict[str, Any]) -> Finding:
    if not any(audits.values()):
        return Finding("shortcut", Verdict.OK, "Too few labelled photos to ask whether file or light tell the class.")
    verdict, reasons = _judge(audits)
    if verdict is Verdict.OK:
        return Finding(
            "shortcut", verdict, "Neither size, encoding and camera nor light tell a class well: there is no shortcut."
        )
    return Finding(
        "shortcut",
        verdict,
        f"A class can be told without looking at what is on the photo ({'; '.join(reasons)}): a model may learn that "
        "instead, and fail on photos from elsewhere.",
        "Bring all photos to one size and encoding, or collect every class from every camera and place.",
    )


def _judge_shift(audits: dict[str, Any]) -> Finding:
    if not any(audits.values()):
        return Finding("shift", Verdict.OK, "There are too few photos, or only one split, so nothing is compared.")
    verdict, reasons = _judge(audits)
    if verdict is Verdict.OK:
        return Finding("shift", verdict, "The splits do not differ in size, encoding, camera or light.")
    return Finding(
        "shift",
        verdict,
        f"A split can be told by file or light alone ({'; '.join(reasons)}): figures on it say less about the others.",
        "Find out why the photos differ; augment for it, or validate on photos like those that will come.",
    )


def _judge_copies(copies: list[dict[str, Any]]) -> Finding:
    seen = [item["label"] for item in copies if item["low"] is not None and item["low"] >= COPY_SEEN]
    shares = [item["share"] for item in copies]
    uneven = max(shares) > COPY_RATIO * min(shares)
    if not (seen and uneven):
        return Finding("copies", Verdict.OK, "Augmented copies do not give a class away.")
    given_away = all(item["label"] in seen for item in copies if item["share"])  # what looks augmented is of them
    return Finding(
        "copies",
        Verdict.PROBLEM if given_away and min(shares) == 0 else Verdict.LOOK,
        f"Copies of {', '.join(seen)} can be told from originals, and between {100 * min(shares):.0f} % and "
        f"{100 * max(shares):.0f} % of a class's training rows are copies: looking augmented hints at a class.",
        "Augment every class, if only with weaker strength, or make the transforms less visible.",
    )
