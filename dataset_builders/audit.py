"""The last look at a data set before it counts as complete. All findings come in one error."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dataset_builders.errors import DataError
from dataset_builders.findings import Findings
from dataset_builders.manifest import ManifestRow
from dataset_builders.task_card import TaskCard

__all__ = ["audit_dataset"]


def audit_dataset(dataset_dir: Path, rows: Sequence[ManifestRow], card: TaskCard) -> None:
    """Check that splits are clean, classes are there, and the JSON files say what the manifest says.

    Raises:
        DataError: A sample id is used twice, a group or a file's content is in two splits, a class is missing in
            train or val, a photo named in a JSON file is missing, or a JSON file has another number of rows.
    """
    findings = Findings()
    usable = [row for row in rows if row.usable]
    _check_unique(rows, findings)
    _check_crossing(usable, findings)
    if any(row.split != "test" for row in rows):
        _check_classes(usable, card, findings)
    for split in ("train", "val", "test"):
        of_split = [row for row in usable if row.split == split]
        expected = sum(row.repeats for row in of_split) if split == "train" else len(of_split)
        _check_json(dataset_dir, f"{split}.json", expected, findings)
    findings.raise_if_any(DataError, f"{dataset_dir}: the data set does not pass the audit")


def _check_unique(rows: Sequence[ManifestRow], findings: Findings) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.sample_id in seen:
            findings.add(f"sample id {row.sample_id!r} is used twice; names must be unique in a source")
        seen.add(row.sample_id)


def _check_crossing(rows: Sequence[ManifestRow], findings: Findings) -> None:
    groups: dict[int, dict[str, str]] = defaultdict(dict)
    contents: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        groups[row.group].setdefault(row.split, row.sample_id)
        contents[row.sha256].setdefault(row.split, row.sample_id)
    for group, members in groups.items():
        if len(members) > 1:
            findings.add(f"near-duplicate group {group} crosses splits: {_listed(members)}")
    for sha256, members in contents.items():
        if len(members) > 1:
            findings.add(f"the same bytes ({sha256[:12]}…) are in two splits: {_listed(members)}")


def _listed(members: dict[str, str]) -> str:
    return ", ".join(f"{sample_id} in {split}" for split, sample_id in members.items())


def _check_classes(rows: Sequence[ManifestRow], card: TaskCard, findings: Findings) -> None:
    fitted = [row for row in rows if row.split != "test"]
    for label in card.labels:
        of_class = [row for row in fitted if row.label == label.id]
        missing = [split for split in ("train", "val") if not any(row.split == split for row in of_class)]
        if not missing:
            continue
        folds = sorted({row.fold for row in of_class})
        findings.add(
            f"class {label.id} ({label.text}) has no photo in {' and '.join(missing)}: it has {len(of_class)} photos "
            f"in {len({row.group for row in of_class})} near-duplicate groups, in the folds {folds}; "
            "add photos, lower `folds`, or choose another `val_fold` or `seed`"
        )


def _check_json(dataset_dir: Path, name: str, expected: int, findings: Findings) -> None:
    path = dataset_dir / name
    if not path.is_file():
        findings.add(f"{path}: no such file")
        return
    examples = json.loads(path.read_text(encoding="utf-8"))
    if len(examples) != expected:
        findings.add(f"{path}: has {len(examples)} rows, the manifest says {expected}")
    images = {image for example in examples for image in example["images"]}
    for image in sorted(images):
        if not (dataset_dir / image).is_file():
            findings.add(f"{path}: names the photo {image}, which is not in {dataset_dir}")
