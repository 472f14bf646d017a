"""Which photos are predicted, in which order: rows of a data set's manifest, or a list beside a photo directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dataset_builders.errors import DataError, StoreError
from dataset_builders.files import content_hash, file_sha256
from dataset_builders.manifest import QUARANTINED, read_manifest
from dataset_builders.sources.entries import check_rows
from dataset_builders.sources.label_list import read_list
from dataset_builders.stores import Location, StorePath, each, location
from dataset_builders.task_card import TaskCard

__all__ = ["PhotoRow", "Shard", "cut_shards", "rows_from_dataset", "rows_from_list"]

TRIED = 16  # photos of a data set in a store that are asked for before a model is loaded
LIST_SOURCE = "list"  # first part of the sample ids of a bare list


@dataclass(frozen=True, slots=True)
class PhotoRow:
    """One photo to predict.

    Attributes:
        sample_id: Unique within the run.
        image: Path or URI to read, as the predictions name it.
        sha256: Of the source's bytes; of a listed photo in a store, the identity that the store gives it. Empty when it
            cannot be read.
        problem: Why the row is known to fail before it is read; empty otherwise.
        tokens: Visual tokens that the photo becomes; 0 where its size is not known before it is read.
    """

    sample_id: str
    image: str
    sha256: str
    problem: str = ""
    tokens: int = 0


@dataclass(frozen=True)
class Shard:
    """A fixed chunk of the list: the unit of work, of retry and of resume.

    Attributes:
        index: Number of the part file, from 0.
        rows: Its photos, in the order of the list.
    """

    index: int
    rows: tuple[PhotoRow, ...]

    @property
    def content(self) -> str:
        """Hash of which photos these are: ids, paths and bytes."""
        return content_hash([[row.sample_id, row.image, row.sha256, row.problem] for row in self.rows])


def rows_from_dataset(
    dataset_dir: Location,
    splits: tuple[str, ...],
    folds: tuple[int, ...] | None = None,
    tokens_of: Callable[[int, int], int] | None = None,
) -> list[PhotoRow]:
    """Rows of the named splits, split by split, each in the order of the manifest; quarantined photos are among them.

    With ``folds``, only the rows of these folds; quarantined and test photos are in none. Augmented copies that the
    verification dropped are photos like any other: dropping them changes no prediction. ``tokens_of`` gives the visual
    tokens of a width and a height.

    Raises:
        DataError: There is no manifest, a split has no rows, a fold is not in the manifest, or no row is left; or a
            store has none of the first photos.
    """
    manifest = read_manifest(dataset_dir)
    counts = Counter(row.split for row in manifest)
    empty = [split for split in splits if not counts[split]]
    if empty:
        raise DataError(
            f"{dataset_dir}: no photos in split {', '.join(empty)}; it has "
            f"{', '.join(f'{split} ({count})' for split, count in counts.items()) or 'none'}; mend --splits"
        )
    if folds is not None:
        known = sorted({row.fold for row in manifest if row.fold >= 0})
        if unknown := [str(fold) for fold in folds if fold not in known]:
            names = ", ".join(map(str, known)) or "none"
            raise DataError(f"{dataset_dir}: no fold {', '.join(unknown)}; it has {names}; mend --folds")
        manifest = [row for row in manifest if row.fold in folds]
    rows = [
        PhotoRow(
            sample_id=row.sample_id,
            image=str(dataset_dir / row.image) if row.status != QUARANTINED else "",
            sha256=row.sha256,
            problem=f"quarantined: {row.reason}" if row.status == QUARANTINED else "",
            tokens=tokens_of(row.width, row.height) if tokens_of and row.width and row.height else 0,
        )
        for split in splits
        for row in manifest
        if row.split == split
    ]
    if not rows:
        raise DataError(
            f"{dataset_dir}: no photo of fold {', '.join(map(str, folds or ()))} is in split {', '.join(splits)}; the "
            "validation fold is in split val, the others in train; mend --splits or --folds"
        )
    some = [location(row.image) for row in rows if row.image][:TRIED]
    if isinstance(dataset_dir, StorePath) and some and not any(each(_identity, some)):
        raise _nothing_there(dataset_dir, len(some))
    return rows


def rows_from_list(images: Location, photo_list: Location, card: TaskCard) -> list[PhotoRow]:
    """Rows of a text list (``name`` or ``name<TAB>label`` a line) of photos in a directory, in the list's order.

    Raises:
        DataError: List or directory are missing, the list is empty, or rows are wrong (twice, outside the directory);
            or a store has none of the photos.
    """
    listed = read_list(photo_list, source=LIST_SOURCE)
    entries = check_rows(listed, source=LIST_SOURCE, role="test", path=photo_list, images=images, card=card)
    identities = each(_identity, [images / entry.source_file for entry in entries])
    if isinstance(images, StorePath) and not any(identities):
        raise _nothing_there(images, len(entries))
    return [
        PhotoRow(sample_id=entry.sample_id, image=str(images / entry.source_file), sha256=identity)
        for entry, identity in zip(entries, identities, strict=True)
    ]


def _identity(file: Location) -> str:
    """Which bytes these are; empty when they cannot be read."""
    try:
        if isinstance(file, StorePath):
            return file.identity()
        return file_sha256(file) if file.is_file() else ""
    except StoreError:
        raise
    except OSError:  # the worker that reads it says why
        return ""


def _nothing_there(place: Location, photos: int) -> DataError:
    return DataError(
        f"{place}: none of {photos} photos is there and may be read; check the address and the store's credentials"
    )


def cut_shards(rows: list[PhotoRow], shard_size: int) -> list[Shard]:
    """Cut the list into chunks of ``shard_size`` >= 1 rows; only the last one may be shorter."""
    return [
        Shard(index=number, rows=tuple(rows[start : start + shard_size]))
        for number, start in enumerate(range(0, len(rows), shard_size))
    ]
