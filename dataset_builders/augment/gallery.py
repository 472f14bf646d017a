"""A page that shows what a policy does: a few originals of every class beside their copies."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from dataset_builders.augment.contact_sheet import Group, Picture, transform_names, write_contact_sheet
from dataset_builders.manifest import ManifestRow, read_manifest
from dataset_builders.task_card import TaskCard

__all__ = ["write_gallery"]

ORIGINALS = 3  # of every class
COPIES = 5  # of an original


def write_gallery(path: Path, dataset_dir: Path, card: TaskCard) -> None:
    """Write the page, atomically. The same data set gives the same bytes.

    Args:
        path: HTML file to write.
        dataset_dir: An augmented data set.
        card: Its task card.

    Raises:
        DataError: The data set is incomplete, or a photo cannot be read.
    """
    rows = read_manifest(dataset_dir)
    copies: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.parent is not None:
            copies[row.parent].append(row)
    groups = []
    for label in card.labels:
        originals = [row for row in rows if row.label == label.id and row.sample_id in copies]
        originals.sort(key=lambda row: -min(len(copies[row.sample_id]), COPIES))  # stable: the list's order
        for original in originals[:ORIGINALS]:
            pictures = [Picture(dataset_dir / original.image, (original.name, "original"))]
            pictures += [
                Picture(dataset_dir / row.image, (transform_names(row.transform),), hint=row.transform or "")
                for row in copies[original.sample_id][:COPIES]
            ]
            groups.append(Group(f"{label.id} ({label.text})", tuple(pictures)))
    intro = ["Each row starts with an original; the caption of a copy names what was applied to it."]
    write_contact_sheet(path, f"Augmented copies in {dataset_dir.name}", intro, groups, side=168)
