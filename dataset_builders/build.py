"""The order of a build: read, verify, group, split, emit, audit; the completion marker comes last."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dataset_builders.assemble import assemble_rows
from dataset_builders.audit import audit_dataset
from dataset_builders.build_config import BuildConfig
from dataset_builders.dataset_dir import MARKER, clear_dataset_dir, is_complete, photo_sizes, read_marker
from dataset_builders.errors import ConfigError
from dataset_builders.files import content_hash, file_sha256, write_json
from dataset_builders.ingest import ingest_photos
from dataset_builders.manifest import MANIFEST_NAME, ManifestRow, write_manifest
from dataset_builders.sharegpt import DATASET_INFO, dataset_names, write_dataset_info, write_sharegpt
from dataset_builders.sources import Entry, read_sources
from dataset_builders.split import in_turns
from dataset_builders.summary import summarize
from dataset_builders.task_card import TaskCard, load_task_card

__all__ = ["BuildResult", "build_dataset"]

# Part of the fingerprint: raise it when the same inputs give other files.
_VERSION = 1
# Their versions decide bytes: decoding and PNG, hashes, Parquet, folds.
_LIBRARIES = ("pillow", "imagehash", "pyarrow", "scikit-learn")


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did.

    Attributes:
        marker: The content of ``build.json``.
        fresh: False when a complete data set of the same inputs was there already.
    """

    marker: dict[str, Any]
    fresh: bool


def build_dataset(config: BuildConfig) -> BuildResult:
    """Build a data set directory, or do nothing when it is there for the same inputs and config.

    The same inputs and config give the same bytes in every file, whatever the number of workers.

    Raises:
        ConfigError: Config and task card do not fit together.
        DataError: The sources are wrong, nothing is usable, the audit fails, or ``out`` is somebody else's directory.
    """
    card = load_task_card(config.task)
    _check_balance(config, card)
    entries = read_sources(config.sources, card)
    fingerprint = _fingerprint(config, card, entries)
    if is_complete(config.out, fingerprint):
        return BuildResult(read_marker(config.out), fresh=False)
    clear_dataset_dir(config.out)
    settings = config.near_duplicates
    photos = ingest_photos(
        entries,
        config.out,
        max_pixels=config.max_pixels,
        hash_size=settings.hash_size if settings.enabled else None,
        workers=config.workers,
    )
    rows = assemble_rows(entries, photos, config, card)
    for row, photo in zip(rows, photos, strict=True):
        if photo.image and not row.usable:  # verified, but a leak
            (config.out / photo.image).unlink()
    files = _emit(config, card, rows)
    audit_dataset(config.out, rows, card)
    marker = {
        "fingerprint": fingerprint,
        "task": card.task,
        "labels": list(card.label_ids),
        "config": config.content(),
        **summarize(rows, card),
        "photos": photo_sizes(config.out),
        "files": {name: file_sha256(config.out / name) for name in files},
    }
    write_json(config.out / MARKER, marker)
    return BuildResult(marker, fresh=True)


def _check_balance(config: BuildConfig, card: TaskCard) -> None:
    if not isinstance(config.balance, dict):
        return
    unknown = [label for label in config.balance if label not in card.label_ids]
    if unknown:
        raise ConfigError(
            f"balance names {', '.join(unknown)}; task {card.task!r} ({config.task}) has the label ids "
            f"{', '.join(card.label_ids)}"
        )


def _fingerprint(config: BuildConfig, card: TaskCard, entries: Sequence[Entry]) -> str:
    with ThreadPoolExecutor(config.workers) as pool:  # hashing releases the interpreter's lock
        hashes = list(pool.map(_hash_if_readable, [entry.file for entry in entries]))
    return content_hash(
        {
            "version": _VERSION,
            "libraries": {name: version(name) for name in _LIBRARIES},
            "config": config.content(),
            "card": card.model_dump(mode="json"),
            "entries": [[entry.sample_id, entry.label, sha256] for entry, sha256 in zip(entries, hashes, strict=True)],
        }
    )


def _hash_if_readable(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:  # becomes a quarantine row with the reason
        return ""


def _emit(config: BuildConfig, card: TaskCard, rows: Sequence[ManifestRow]) -> list[str]:
    """Write the JSON files and the manifest; returns their names."""
    usable = [row for row in rows if row.usable]
    splits = {split: [row for row in usable if row.split == split] for split in ("train", "val", "test")}
    splits["train"] = in_turns(splits["train"], [row.repeats for row in splits["train"]])
    for split, members in splits.items():
        write_sharegpt(config.out / f"{split}.json", members, card, card.stages[0])
    write_manifest(config.out, rows)
    write_dataset_info(config.out, _registered(config, card, splits["test"]), card)
    return ["train.json", "val.json", "test.json", DATASET_INFO, MANIFEST_NAME]


def _registered(config: BuildConfig, card: TaskCard, test: Sequence[ManifestRow]) -> list[str]:
    """Sets that LLaMA-Factory can load: it empties examples without an answer, so unlabelled tests are not named."""
    test_name = f"{card.task}_test"
    names = [name for name in dataset_names(card) if name != test_name] if config.has_train else []
    if test and all(row.label is not None for row in test):
        names.append(test_name)
    return names
