"""Writes what a trainer reads of an augmented data set: rows a class stay the same whatever copies were dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataset_builders.audit import audit_dataset
from dataset_builders.augment.copy_plan import balanced_repeats
from dataset_builders.dataset_dir import MARKER, photo_sizes
from dataset_builders.files import file_sha256, write_json
from dataset_builders.manifest import ManifestRow, write_manifest
from dataset_builders.sharegpt import write_sharegpt
from dataset_builders.split import in_turns
from dataset_builders.summary import summarize
from dataset_builders.task_card import TaskCard

__all__ = ["write_training_set"]


def write_training_set(
    dataset_dir: Path, rows: Sequence[ManifestRow], card: TaskCard, marker: dict[str, Any]
) -> dict[str, Any]:
    """Write ``train.json``, ``manifest.parquet`` and, last, ``build.json``.

    Args:
        dataset_dir: An augmented data set; its other JSON files are there.
        rows: Originals and copies; ``repeats`` is decided here.
        card: The task card.
        marker: What ``build.json`` is to hold. ``augment.rows`` and ``augment.copy_rows`` (label id -> number) say how
            many rows a class gets and how many of these are copies; ``augment.seed`` decides ties. Counts and file
            hashes are filled in.

    Returns:
        The marker as it was written.

    Raises:
        DataError: The audit found something.
    """
    plan = marker["augment"]
    repeats = balanced_repeats(rows, plan["rows"], plan["copy_rows"], seed=plan["seed"])
    rows = [replace(row, repeats=int(count)) for row, count in zip(rows, repeats, strict=True)]
    (dataset_dir / MARKER).unlink(missing_ok=True)
    train = [row for row in rows if row.repeats]
    examples = in_turns(train, [row.repeats for row in train])
    write_sharegpt(dataset_dir / "train.json", examples, card, card.stages[0])
    write_manifest(dataset_dir, rows)
    audit_dataset(dataset_dir, rows, card)
    copies = Counter(row.label for row in rows if row.parent is not None and row.usable)
    originals = [row for row in rows if row.parent is None]
    summary = summarize(originals, card)
    summary["counts"]["train_copies"] = {i: copies[i] for i in card.label_ids if copies[i]}
    summary["counts"]["train_rows"] = {
        label_id: total
        for label_id in card.label_ids
        if (total := sum(row.repeats for row in train if row.label == label_id))
    }
    files = [*marker["files"]]
    hashes = {"photos": photo_sizes(dataset_dir), "files": {name: file_sha256(dataset_dir / name) for name in files}}
    marker = marker | summary | hashes
    write_json(dataset_dir / MARKER, marker)
    return marker
