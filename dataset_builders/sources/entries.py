"""Turns raw rows (name, label text) into checked entries; every structural mistake of a list is found at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dataset_builders.build_config import Role, SourceName
from dataset_builders.errors import DataError
from dataset_builders.findings import Findings
from dataset_builders.stores import Location
from dataset_builders.task_card import TaskCard

__all__ = ["Entry", "RawRow", "check_rows"]

_INVISIBLE = ("Cf", "Zl", "Zp")  # Unicode's categories: format characters, line and paragraph separators


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it was read.

    Attributes:
        name: Path of the photo as the list spells it.
        label: Label text, alias or id; None when the row has none.
        where: File and row, for messages.
    """

    name: str
    label: str | None
    where: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A checked row of a source.

    Attributes:
        source: Name of the source.
        role: ``train`` or ``test``.
        name: As the list spells it.
        position: Row in the list, from 0; blank lines do not count.
        label: Label id; None when unlabelled.
        source_file: Normalised path relative to the image directory, with ``/``.
        file: Where the photo should be; it need not exist. In a store, relative to the image directory.
        where: File and row, for messages.
    """

    source: SourceName
    role: Role
    name: str
    position: int
    label: str | None
    source_file: str
    file: Path
    where: str

    @property
    def sample_id(self) -> str:
        """``<source>/<name>``."""
        return f"{self.source}/{self.name}"


def check_rows(
    rows: Sequence[RawRow], *, source: str, role: Role, path: Location, images: Location, card: TaskCard
) -> list[Entry]:
    """Check the rows of one source.

    Args:
        rows: What the list holds.
        source: Name of the source.
        role: Role of the source.
        path: The list, for messages.
        images: Directory of the photos.
        card: Knows the labels.

    Raises:
        DataError: The list is empty, or rows are wrong: unknown or missing label, name used twice, path that leaves the
            image directory, invisible characters in the name of a photo that is not there. All are in the message.
    """
    if not rows:
        raise DataError(f"{path}: empty; expected one photo a row (source {source!r})")
    if isinstance(images, Path) and not images.is_dir():
        raise DataError(f"{images}: no such directory; it should hold the photos of {path} (source {source!r})")
    findings = Findings()
    seen: dict[str, RawRow] = {}
    entries = []
    for position, row in enumerate(rows):
        source_file = str(PurePosixPath(row.name))
        problem = _path_problem(row.name, images)
        if problem:
            findings.add(f"{row.where}: {row.name!r} {problem}")
        elif source_file in seen:
            findings.add(_duplicate(row, seen[source_file]))
        seen.setdefault(source_file, row)
        entries.append(
            Entry(
                source=source,
                role=role,
                name=row.name,
                position=position,
                label=_label_id(row, card, findings),
                source_file=source_file,
                file=images / source_file if isinstance(images, Path) else Path(source_file),
                where=row.where,
            )
        )
    _check_labelled(rows, role, findings)
    findings.raise_if_any(DataError, f"{path}: wrong rows in source {source!r}")
    return entries


def _path_problem(name: str, images: Location) -> str | None:
    if any(unicodedata.category(character) == "Cc" for character in name):
        return "holds a control character; is `encoding:` right?"
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return f"leaves the image directory; name it relative to {images}, without `..`"
    if not path.name:
        return "names no file"
    if isinstance(images, Path) and not (images / path).resolve().is_relative_to(images.resolve()):
        return f"leaves the image directory through a link; copy the photo into {images}"
    # They may be part of a name; then there is such a photo.
    if (invisible := _invisible(name)) and isinstance(images, Path) and not _exists(images / path):
        return f"holds the invisible {invisible}, and {images} has no such photo; delete it from the list"
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long
        return False


def _invisible(name: str) -> str:
    """Characters that no reader of the list sees, as ``U+XXXX``; without the joiner that emoji are made with."""
    found = {character for character in name if unicodedata.category(character) in _INVISIBLE} - {"\u200d"}
    return ", ".join(f"U+{ord(character):04X}" for character in sorted(found))


def _duplicate(row: RawRow, first: RawRow) -> str:
    if row.label == first.label:
        return f"{row.where}: {row.name!r} stands already in {first.where}; delete one of the rows"
    labels = f"{first.label!r} there and {row.label!r} here"
    return f"{row.where}: {row.name!r} stands already in {first.where}, {labels}; decide for one label"


def _label_id(row: RawRow, card: TaskCard, findings: Findings) -> str | None:
    if row.label is None:
        return None
    label_id = card.id_of(row.label)
    if label_id is None:
        texts = ", ".join(label.text for label in card.labels)
        findings.add(
            f"{row.where}: unknown label {row.label!r}; task {card.task!r} has {texts} (is the encoding right?)"
        )
    return label_id


def _check_labelled(rows: Sequence[RawRow], role: Role, findings: Findings) -> None:
    unlabelled = [row for row in rows if row.label is None]
    if not unlabelled:
        return
    if role == "train" and len(unlabelled) == len(rows):
        findings.add(f"{unlabelled[0].where}: no row has a label; training photos need one (is `role: test` meant?)")
    elif len(unlabelled) < len(rows):
        for row in unlabelled:
            findings.add(f"{row.where}: {row.name!r} has no label, other rows have one; label all rows or none")
