"""The order of an augmentation: link the photos, make copies, write the training set, marker last."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dataset_builders.augment.compose import compose_for_label
from dataset_builders.augment.config import AugmentConfig, by_label
from dataset_builders.augment.copies import Copy, Job, make_copies
from dataset_builders.augment.copy_plan import copies_per_photo, rows_per_class
from dataset_builders.augment.training_set import write_training_set
from dataset_builders.dataset_dir import PARTS, check_task, clear_dataset_dir, is_complete, read_marker
from dataset_builders.errors import ConfigError, DataError
from dataset_builders.files import atomic_path, content_hash, link_or_copy, write_text
from dataset_builders.manifest import ManifestRow, read_manifest
from dataset_builders.progress import track
from dataset_builders.task_card import TaskCard, load_task_card

__all__ = ["AugmentResult", "augment_dataset"]

# Part of the fingerprint: raise it when the same inputs give other files.
_VERSION = 1
_LIBRARIES = ("albumentations", "opencv-python-headless", "pyarrow")
_STAMP = "stamp"  # beside the parts: fingerprint of what a killed run was making


@dataclass(frozen=True, slots=True)
class AugmentResult:
    """What was made.

    Attributes:
        marker: The content of ``build.json``.
        fresh: False when complete copies of the same inputs were there already.
    """

    marker: dict[str, Any]
    fresh: bool


def augment_dataset(config: AugmentConfig) -> AugmentResult:
    """Write a data set directory with the photos of another one and augmented copies of its training photos.

    The same inputs and policy give the same bytes, whatever the number of workers and after an interruption.

    Raises:
        ConfigError: Policy and task card do not fit together, or a transform does not exist.
        DataError: The data set is incomplete, of another task, augmented itself, or ``out`` is somebody else's.
    """
    card = load_task_card(config.task)
    _check_labels(config, card)
    source = read_marker(config.dataset)
    rows = read_manifest(config.dataset)
    _check_source(config, card, source, rows)
    for label in card.labels:  # before any work, and with the place of the mistake
        compose_for_label(config, card, label.id)
    fingerprint = content_hash(
        {
            "version": _VERSION,
            "libraries": {name: version(name) for name in _LIBRARIES},
            "config": config.content(),
            "card": card.model_dump(mode="json"),
            "build": source["fingerprint"],
        }
    )
    if is_complete(config.out, fingerprint):
        return AugmentResult(read_marker(config.out), fresh=False)
    _start(config.out, fingerprint)
    _link_photos(config.dataset, config.out, rows)
    wanted = rows_per_class(rows, config, card)
    copies_N = copies_per_photo(rows, config, card, wanted)
    jobs = [
        Job(row.sample_id, str(row.label), row.image, int(count))
        for row, count in zip(rows, copies_N, strict=True)
        if count
    ]
    made = make_copies(jobs, config.out, config, card)
    copies = list(track(made, total=int(copies_N.sum()), title="copies"))
    marker = {
        **source,
        "fingerprint": fingerprint,
        "augment": {
            "config": config.content(),
            "seed": config.seed,
            "rows": wanted,
            "copy_rows": {i: round(by_label(config.copies, i, 0.0) * wanted[i]) for i in card.label_ids},
        },
    }
    written = write_training_set(config.out, [*rows, *_copy_rows(rows, copies_N.tolist(), copies)], card, marker)
    shutil.rmtree(config.out / PARTS, ignore_errors=True)
    return AugmentResult(written, fresh=True)


def _check_labels(config: AugmentConfig, card: TaskCard) -> None:
    known = {*card.label_ids, "default"}
    for field in ("rows", "copies", "strength"):
        value = getattr(config, field)
        unknown = sorted(set(value) - known) if isinstance(value, dict) else []
        if unknown:
            raise ConfigError(
                f"{field} names {', '.join(unknown)}; task {card.task!r} ({config.task}) has the label ids "
                f"{', '.join(card.label_ids)}"
            )


def _check_source(config: AugmentConfig, card: TaskCard, source: dict[str, Any], rows: Sequence[ManifestRow]) -> None:
    check_task(config.dataset, source, card)
    if any(row.parent is not None for row in rows):
        raise DataError(f"{config.dataset}: is augmented already; name the data set that it was made from")
    if not any(row.usable and row.split == "train" for row in rows):
        raise DataError(f"{config.dataset}: has no training photo, so there is nothing to augment")


def _start(out: Path, fingerprint: str) -> None:
    """Clear ``out``, unless it holds the beginning of exactly this work."""
    stamp = out / PARTS / _STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == fingerprint:
        return
    clear_dataset_dir(out)
    write_text(stamp, fingerprint)


def _link_photos(dataset: Path, out: Path, rows: Sequence[ManifestRow]) -> None:
    for name in ("val.json", "test.json", "dataset_info.json"):
        shutil.copyfile(dataset / name, out / name)
    for row in rows:
        target = out / row.image
        if row.usable and not target.exists():
            with atomic_path(target) as temporary:
                link_or_copy(dataset / row.image, temporary)


def _copy_rows(rows: Sequence[ManifestRow], copies_N: Sequence[int], copies: Sequence[Copy]) -> list[ManifestRow]:
    parents = [row for row, count in zip(rows, copies_N, strict=True) for _ in range(count)]
    return [
        replace(
            parent,
            sample_id=copy.sample_id,
            image=copy.image,
            sha256=copy.sha256,
            bytes=copy.bytes,
            width=copy.width,
            height=copy.height,
            parent=parent.sample_id,
            transform=copy.transform,
        )
        for parent, copy in zip(parents, copies, strict=True)
    ]
