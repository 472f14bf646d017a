"""The competition's format: a text file with one photo a row, ``name<TAB>label`` or only names."""

from __future__ import annotations

import re

from dataset_builders.build_config import LabelListSource
from dataset_builders.errors import DataError
from dataset_builders.findings import Findings
from dataset_builders.sources.entries import RawRow
from dataset_builders.sources.text import AUTO, read_text
from dataset_builders.stores import Location

__all__ = ["read_label_list", "read_list"]

# Spaces instead of a tab are taken for the separator only where no other reading is possible: what stands before them
# ends like a photo's name, and what follows is one word that does not.
_SUFFIX = r"\.(?:jpe?g|png|bmp|gif|tiff?|webp)"
_SPACED = re.compile(rf"(?P<name>.*{_SUFFIX})\s+(?P<label>\S+)", re.IGNORECASE)
_PHOTO = re.compile(rf".*{_SUFFIX}", re.IGNORECASE)


def read_label_list(source: LabelListSource) -> list[RawRow]:
    """Read the rows of a source that is a label list; see ``read_list``."""
    return read_list(source.path, source=source.name, encoding=source.encoding)


def read_list(path: Location, *, source: str, encoding: str = AUTO) -> list[RawRow]:
    """Read the rows of a label list. Blank lines are no rows; CR LF and LF both end a line.

    Args:
        path: The list.
        source: Name of the source, for messages.
        encoding: As in ``LabelListSource``.

    Raises:
        DataError: The file is missing, its encoding is unknown, or lines have more than two fields.
    """
    # Not splitlines(): it also breaks at characters that may stand in a name, such as U+2028.
    lines = read_text(path, encoding=encoding).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    findings = Findings()
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        name, label, rest = _split(line.strip())
        if rest:
            findings.add(f"{where}: expected name<TAB>label, got {2 + len(rest)} fields: {line.strip()!r}")
        rows.append(RawRow(name=name, label=label, where=where))
    findings.raise_if_any(DataError, f"{path}: wrong rows in source {source!r}")
    return rows


def _split(line: str) -> tuple[str, str | None, list[str]]:
    if "\t" in line:
        name, label, *rest = (field.strip() for field in line.split("\t"))
        return name, label or None, rest
    spaced = _SPACED.fullmatch(line)
    if spaced and not _PHOTO.fullmatch(line):
        return spaced["name"], spaced["label"], []
    return line, None, []
