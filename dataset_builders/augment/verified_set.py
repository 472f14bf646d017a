"""Applies a verification to an augmented data set: scores and verdicts in the manifest, ``train.json`` anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builders.augment.judges import Judge
from dataset_builders.augment.training_set import write_training_set
from dataset_builders.augment.verification import FLOOR, DropRule, is_copy, judge_copies
from dataset_builders.dataset_dir import MARKER, check_task, is_complete, read_marker
from dataset_builders.errors import DataError
from dataset_builders.files import content_hash
from dataset_builders.manifest import ManifestRow, read_manifest
from dataset_builders.task_card import TaskCard

__all__ = ["PENDING", "VerifyResult", "verify_copies"]

# The marker of a data set whose verification is under way: it is no complete data set, but nothing is lost.
PENDING = "build_unverified.json"
# Part of the fingerprint: raise it when the same inputs give other scores.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verification did.

    Attributes:
        marker: The content of ``build.json``.
        fresh: False when the same verification was there already.
    """

    marker: dict[str, Any]
    fresh: bool


def verify_copies(dataset_dir: Path, card: TaskCard, judge: Judge | None, rule: DropRule) -> VerifyResult:
    """Score the augmented copies of a data set, drop those that the rule names and write the training set anew.

    Every verification starts from all copies, whatever an earlier one dropped. The same one again does nothing. After
    a kill at any point the same command, or any other verification, mends the data set: ``build.json`` is first
    renamed to ``build_unverified.json``, and the manifest always holds all rows. What ``riskfuse specialist`` wrote
    for the old set is removed.

    Args:
        dataset_dir: A data set that ``riskfuse augment`` made.
        card: Its task card.
        judge: Who says how probable labels are; None keeps all copies without scores.
        rule: Which copies are dropped.

    Raises:
        DataError: The data set is incomplete, of another task or holds no copies, the judge lacks an opinion, or the
            audit of the written set fails.
    """
    marker = _read_marker(dataset_dir)
    check_task(dataset_dir, marker, card)
    rows = read_manifest(dataset_dir)
    asked = _copies_and_originals(dataset_dir, rows)
    identity = {"by": "none"} if judge is None else judge.identity
    parameters = {"judge": identity, "rule": rule.model_dump(), "floor": FLOOR, "version": _VERSION}
    fingerprint = content_hash([parameters, marker["fingerprint"], card.model_dump(mode="json")])
    done = marker.get("verification", {}).get("fingerprint") == fingerprint
    if done and is_complete(dataset_dir, marker["fingerprint"]):
        (dataset_dir / PENDING).unlink(missing_ok=True)
        return VerifyResult(marker, fresh=False)
    logp_K_of = None if judge is None else judge.log_probabilities(dataset_dir, asked)
    verdicts = judge_copies(rows, logp_K_of, card.label_ids, rule)
    verification = {
        "fingerprint": fingerprint,
        "by": identity["by"],
        **parameters,
        "copies": sum(counts["copies"] for counts in verdicts.labels.values()),
        "kept": sum(counts["copies"] - counts["dropped"] for counts in verdicts.labels.values()),
        "labels": verdicts.labels,
        "dropped": verdicts.dropped,
    }
    if (dataset_dir / MARKER).is_file():
        (dataset_dir / MARKER).replace(dataset_dir / PENDING)
    for stage in card.stages[1:]:
        for name in (f"{stage}.json", f"{stage}_train.json", f"{stage}_val.json"):
            (dataset_dir / name).unlink(missing_ok=True)
    written = write_training_set(dataset_dir, verdicts.rows, card, {**marker, "verification": verification})
    (dataset_dir / PENDING).unlink()
    return VerifyResult(written, fresh=True)


def _read_marker(dataset_dir: Path) -> dict[str, Any]:
    """``build.json``, or what it was before a verification was killed."""
    pending = dataset_dir / PENDING
    if not (dataset_dir / MARKER).is_file() and pending.is_file():
        return json.loads(pending.read_text(encoding="utf-8"))
    return read_marker(dataset_dir)


def _copies_and_originals(dataset_dir: Path, rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    """All copies, dropped or not, and the photos that they were made of, in the manifest's order."""
    parents = {row.parent for row in rows if is_copy(row)}
    if not parents:
        raise DataError(f"{dataset_dir}: holds no augmented copies; make some with riskfuse augment POLICY.yaml")
    return [row for row in rows if is_copy(row) or row.sample_id in parents]
