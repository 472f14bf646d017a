"""The submission file: ``name<TAB>label text``, one row a photo, the list's names in the list's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_builders.errors import DataError
from dataset_builders.files import atomic_path
from dataset_builders.sources.text import AUTO, read_text
from dataset_builders.task_card import TaskCard

__all__ = ["LabelFile", "read_label_file", "read_submission", "write_submission"]

# They would break a row in two, or a field; no encoding of the format can hold them.
BREAKING = ("\t", "\n", "\r")


@dataclass(frozen=True)
class LabelFile:
    """Rows of a file in the competition's format.

    Attributes:
        names: As the file spells them, in its order.
        labels: Label identifiers, as many.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]


def write_submission(path: Path, names: Sequence[str], labels: Sequence[str], card: TaskCard) -> None:
    """Write a submission, atomically: UTF-8, LF, one row a photo.

    Args:
        path: The file.
        names: Names of the test list, in its order.
        labels: Label identifier of each.
        card: Knows the texts of the labels.

    Raises:
        DataError: A name occurs twice or cannot be written in this format, or there are more names than labels.
    """
    if len(names) != len(labels):
        raise DataError(f"{path}: {len(names)} names but {len(labels)} labels; every photo needs exactly one label")
    if len(set(names)) != len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{path}: names occur twice in the test list: {', '.join(twice[:10])}; rename these photos")
    text = "\n".join(names)
    if "\t" in text or "\r" in text or text.count("\n") != max(len(names) - 1, 0):
        broken = [name for name in names if any(character in name for character in BREAKING)]
        raise DataError(f"{path}: names with a tab or line break cannot be submitted: {broken[:10]}; rename the photos")
    del text
    texts = {label.id: label.text for label in card.labels}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{name}\t{texts[label]}\n" for name, label in zip(names, labels, strict=True))


def read_label_file(path: str | Path, card: TaskCard) -> LabelFile:
    """Read a labelled list, the truth that a submission is scored against.

    UTF-8 with or without byte order mark, GB18030, LF or CR LF. Blank lines are no rows. Labels may be spelled by
    text, alias or identifier.

    Raises:
        DataError: The file is missing or empty, a row is not ``name<TAB>label``, a label is unknown, or a name occurs
            twice; every finding is in the message.
    """
    path = Path(path)
    findings: list[str] = []
    rows = _read_fields(path, findings, blank_lines=True)
    names, labels = [], []
    for number, name, text in rows:
        label = card.id_of(text)
        if label is None:
            findings.append(f"row {number}: unknown label {text!r}; expected {_texts(card)}")
        names.append(name.strip())
        labels.append(label or "")
    findings += _repeated([number for number, _, _ in rows], names)
    _raise(path, "not a complete label file", findings)
    if not names:
        raise DataError(f"{path}: empty; expected name<TAB>label, one photo a row")
    return LabelFile(tuple(names), tuple(labels))


def read_submission(path: str | Path, truth: LabelFile, card: TaskCard) -> LabelFile:
    """Read a submission and hold it against the list that it must answer.

    Args:
        path: The submission.
        truth: Names in the required order.
        card: Knows the texts of the labels; only these texts are answers.

    Raises:
        DataError: Rows are malformed, names are missing, foreign, repeated or in another order, or labels are unknown;
            every finding is in the message, with its row.
    """
    path = Path(path)
    findings: list[str] = []
    rows = _read_fields(path, findings, blank_lines=False)
    ids = {label.text: label.id for label in card.labels}
    findings += [
        f"row {number}: unknown label {text!r}; expected {_texts(card)}" for number, _, text in rows if text not in ids
    ]
    numbers, names = [number for number, _, _ in rows], [name for _, name, _ in rows]
    findings += _repeated(numbers, names)
    known, given = set(truth.names), set(names)
    findings += [
        f"row {number}: {name!r} is not in the list; remove the row"
        for number, name in zip(numbers, names, strict=True)
        if name not in known
    ]
    findings += [
        f"missing: {name!r} (row {row} of the list) has no answer"
        for row, name in enumerate(truth.names, start=1)
        if name not in given
    ]
    findings += _misplaced(numbers, names, truth)
    _raise(path, "not a complete submission", findings)
    return LabelFile(tuple(names), tuple(ids[text] for _, _, text in rows))


def _read_fields(path: Path, findings: list[str], *, blank_lines: bool) -> list[tuple[int, str, str]]:
    """Rows as (line number from 1, name, label text); what has not two fields becomes a finding.

    A list may have blank lines. A submission may not: who reads it row by row would count them.
    """
    # Not splitlines(): it also breaks at characters that may stand in a name, such as U+2028.
    lines = read_text(path, encoding=AUTO).split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        fields = line.removesuffix("\r").split("\t")
        if fields == [""]:
            if number < len(lines) and not blank_lines:
                findings.append(f"row {number}: empty; remove it")
            continue
        if len(fields) != 2:
            findings.append(f"row {number}: expected name<TAB>label, got {len(fields)} fields: {line[:80]!r}")
            continue
        rows.append((number, fields[0], fields[1].strip()))
    return rows


def _repeated(numbers: Sequence[int], names: Sequence[str]) -> list[str]:
    first: dict[str, int] = {}
    findings = []
    for number, name in zip(numbers, names, strict=True):
        if name in first:
            findings.append(f"row {number}: {name!r} stands already in row {first[name]}; one row a photo")
        first.setdefault(name, number)
    return findings


def _misplaced(numbers: Sequence[int], names: Sequence[str], truth: LabelFile) -> list[str]:
    """The first row that breaks the list's order among the names that both sides have."""
    place = {name: row for row, name in enumerate(truth.names)}
    last = -1
    for number, name in zip(numbers, names, strict=True):
        at = place.get(name)
        if at is None:
            continue
        if at < last:
            return [f"row {number}: {name!r} stands after {truth.names[last]!r}; keep the order of the list"]
        last = at
    return []


def _raise(path: Path, headline: str, findings: Sequence[str]) -> None:
    if findings:
        count = f"{len(findings)} finding{'s' if len(findings) > 1 else ''}"
        raise DataError("\n".join([f"{path}: {headline} ({count}):", *(f"  {finding}" for finding in findings)]))


def _texts(card: TaskCard) -> str:
    return ", ".join(label.text for label in card.labels)
