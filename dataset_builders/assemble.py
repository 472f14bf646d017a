"""Entries and photos become manifest rows: quarantine, groups, leaks, folds, balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dataset_builders.build_config import BuildConfig
from dataset_builders.errors import DataError
from dataset_builders.findings import Findings
from dataset_builders.ingest import IngestedPhoto
from dataset_builders.manifest import OK, QUARANTINED, ManifestRow
from dataset_builders.near_duplicates import group_photos
from dataset_builders.sources import Entry
from dataset_builders.split import assign_folds, repeats_for_balance
from dataset_builders.task_card import TaskCard

__all__ = ["assemble_rows"]


def assemble_rows(
    entries: Sequence[Entry], photos: Sequence[IngestedPhoto], config: BuildConfig, card: TaskCard
) -> list[ManifestRow]:
    """Decide about every entry.

    Args:
        entries: Rows of the sources, N.
        photos: What became of their photos, N.
        config: The build config.
        card: The task card.

    Returns:
        One row an entry, in order. A quarantined row keeps its role as the split.

    Raises:
        DataError: All photos of a source are missing, no training photo is usable, there are too few for the folds, or
            a training photo is a near-duplicate of a test photo and ``test_leak`` is ``error``.
    """
    _check_directories(entries, photos)
    rows = [_row(entry, photo) for entry, photo in zip(entries, photos, strict=True)]
    if config.has_train and not any(row.usable and row.split == "train" for row in rows):
        raise DataError(f"no training photo is usable; the first is quarantined because: {_first_reason(rows)}")
    if not any(row.usable for row in rows):
        raise DataError(f"no photo is usable; the first is quarantined because: {_first_reason(rows)}")
    rows = _group(rows, photos, config)
    rows = _quarantine_leaks(rows, config)
    return _split(_number_groups(rows), config, card)


def _row(entry: Entry, photo: IngestedPhoto) -> ManifestRow:
    return ManifestRow(
        sample_id=entry.sample_id,
        source=entry.source,
        name=entry.name,
        position=entry.position,
        split=entry.role,
        label=entry.label,
        image=photo.image,
        source_file=entry.source_file,
        sha256=photo.sha256,
        bytes=photo.size_bytes,
        width=photo.width,
        height=photo.height,
        status=QUARANTINED if photo.reason else OK,
        reason=photo.reason,
    )


def _check_directories(entries: Sequence[Entry], photos: Sequence[IngestedPhoto]) -> None:
    findings = Findings()
    for source in dict.fromkeys(entry.source for entry in entries):
        members = [(entry, photo) for entry, photo in zip(entries, photos, strict=True) if entry.source == source]
        if all(not photo.sha256 for _, photo in members):
            entry, photo = members[0]
            findings.add(
                f"source {source!r}: not one of its {len(members)} photos can be read; {entry.where}: {photo.reason}; "
                "is `images` the right directory?"
            )
    findings.raise_if_any(DataError, "photos are not where the build config says")


def _first_reason(rows: Sequence[ManifestRow]) -> str:
    return next(f"{row.sample_id}: {row.reason}" for row in rows if not row.usable)


def _group(rows: Sequence[ManifestRow], photos: Sequence[IngestedPhoto], config: BuildConfig) -> list[ManifestRow]:
    usable = [index for index, row in enumerate(rows) if row.usable]
    settings = config.near_duplicates
    groups = group_photos(
        [rows[index].sha256 for index in usable],
        [photos[index].perceptual_hash for index in usable] if settings.enabled else None,
        hamming=settings.hamming,
    )
    result = list(rows)
    for index, group in zip(usable, groups, strict=True):
        result[index] = replace(rows[index], group=int(group))
    return result


def _quarantine_leaks(rows: Sequence[ManifestRow], config: BuildConfig) -> list[ManifestRow]:
    tests: dict[int, ManifestRow] = {}
    for row in rows:
        if row.usable and row.split == "test":
            tests.setdefault(row.group, row)
    findings = Findings()
    result = list(rows)
    for index, row in enumerate(rows):
        test = tests.get(row.group) if row.usable and row.split == "train" else None
        if test is None:
            continue
        kind = "the same bytes as" if test.sha256 == row.sha256 else "in one near-duplicate group with"
        reason = f"leak: {kind} the test photo {test.sample_id}"
        findings.add(f"{row.sample_id}: {reason}")
        result[index] = replace(row, status=QUARANTINED, reason=reason, group=-1, image="")
    if config.test_leak == "error":
        findings.raise_if_any(DataError, "training photos leak test photos; remove them or set `test_leak: quarantine`")
    if config.has_train and not any(row.usable and row.split == "train" for row in result):
        raise DataError(
            f"every usable training photo is a near-duplicate of a test photo; the first is {_first_reason(result)}. "
            "Lower `near_duplicates.hamming` if these photos are different ones"
        )
    return result


def _number_groups(rows: Sequence[ManifestRow]) -> list[ManifestRow]:
    numbers: dict[int, int] = {}
    return [replace(row, group=numbers.setdefault(row.group, len(numbers))) if row.usable else row for row in rows]


def _split(rows: Sequence[ManifestRow], config: BuildConfig, card: TaskCard) -> list[ManifestRow]:
    result = list(rows)
    fitted = [index for index, row in enumerate(rows) if row.usable and row.split == "train"]
    if not fitted:
        return result
    labels = [rows[index].label or "" for index in fitted]
    folds = assign_folds(labels, [rows[index].group for index in fitted], folds=config.folds, seed=config.seed)
    in_train = np.flatnonzero(folds != config.val_fold)
    repeats = np.zeros(len(fitted), dtype=np.int32)
    repeats[in_train] = repeats_for_balance(
        [labels[index] for index in in_train], card.label_ids, balance=config.balance, seed=config.seed
    )
    for index, fold, repeat in zip(fitted, folds, repeats, strict=True):
        split = "val" if fold == config.val_fold else "train"
        result[index] = replace(rows[index], split=split, fold=int(fold), repeats=int(repeat))
    return result
