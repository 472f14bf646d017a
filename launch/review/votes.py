"""One label a photo from the decisions of several reviewers, and the label file that ``riskfuse build`` reads."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataset_builders.errors import ConfigError, DataError
from dataset_builders.files import write_text
from dataset_builders.task_card import TaskCard
from launch.review.store import ReviewerDecisions

__all__ = ["Conflict", "Export", "collect_votes", "conflicts_path", "export_labels", "write_rest"]

BREAKING = ("\t", "\n", "\r")  # no field of a label list can hold them
MARK = "\ufeff"  # a name that begins with it would lose it as the file's byte order mark


@dataclass(frozen=True)
class Conflict:
    """A photo that was judged but is not exported.

    Attributes:
        source: Test source.
        name: Name of the photo.
        votes: Label identifier and note by reviewer.
        why: The reason.
    """

    source: str
    name: str
    votes: dict[str, tuple[str, str]]
    why: str


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        source: Test source.
        labels: Label identifier by name, in the order of the test list.
        outvoted: Exported photos on which a minority had said something else.
        conflicts: Photos that are not exported.
    """

    source: str
    labels: dict[str, str]
    outvoted: int
    conflicts: tuple[Conflict, ...]


def conflicts_path(out: Path) -> Path:
    """The file beside an exported one that lists what is not in it."""
    return out.with_name(f"{out.stem}-conflicts.csv")


def collect_votes(
    reviewers: Sequence[ReviewerDecisions], photos: Mapping[str, tuple[str, str]], source: str | None
) -> tuple[str, dict[str, dict[str, tuple[str, str]]], int]:
    """Votes of one test source.

    Args:
        reviewers: Their decisions.
        photos: Source and name by sample id, in the order of the test lists.
        source: The source; the one that decisions are of when None.

    Returns:
        The source; label identifier and note by reviewer by sample id, in the order of the list; how many decisions are
        of photos that the run does not have.

    Raises:
        ConfigError: There are decisions of several sources, and none was chosen; or there is no such source.
        DataError: There are no decisions.
    """
    votes: dict[str, dict[str, tuple[str, str]]] = {sample_id: {} for sample_id in photos}
    unknown = 0
    for found in reviewers:
        for sample_id, label in found.labels.items():
            if sample_id in votes:
                votes[sample_id][found.reviewer] = (label, found.last[sample_id].note)
            else:
                unknown += 1
    judged = list(dict.fromkeys(photos[sample_id][0] for sample_id, given in votes.items() if given))
    sources = list(dict.fromkeys(source for source, _ in photos.values()))
    if source is not None and source not in sources:
        raise ConfigError(f"no test source {source!r} in this run; it has {', '.join(sources)}")
    if not judged or (source is not None and source not in judged):
        of = f" of {source}" if source is not None else ""
        raise DataError(f"no photo{of} was decided by a reviewer yet; start `riskfuse review` without --export first")
    if source is None and len(judged) > 1:
        raise ConfigError(
            f"decisions are of the test sources {', '.join(judged)}, and a label file holds names of one; "
            "choose it with --source"
        )
    source = source if source is not None else judged[0]
    return source, {key: given for key, given in votes.items() if given and photos[key][0] == source}, unknown


def export_labels(
    out: Path,
    card: TaskCard,
    source: str,
    votes: Mapping[str, Mapping[str, tuple[str, str]]],
    photos: Mapping[str, tuple[str, str]],
) -> Export:
    """Write ``name<TAB>label text``, UTF-8, LF, and beside it what is not in it; both atomically.

    A label is exported when more than half of those who judged the photo gave it.

    Args:
        out: The label file.
        card: Knows the texts of the labels.
        source: Test source.
        votes: As ``collect_votes`` returns them.
        photos: Source and name by sample id.
    """
    labels: dict[str, str] = {}
    conflicts = []
    outvoted = 0
    for sample_id, given in votes.items():
        name = photos[sample_id][1]
        label, count = Counter(label for label, _ in given.values()).most_common(1)[0]
        why = _objection(name, label, count, [vote for vote, _ in given.values()], card)
        if why:
            conflicts.append(Conflict(source, name, dict(given), why))
            continue
        labels[name] = label
        outvoted += count < len(given)
    write_text(out, "".join(f"{name}\t{card.text_of(label)}\n" for name, label in labels.items()))
    write_text(conflicts_path(out), _table(conflicts, card))
    return Export(source, labels, outvoted, tuple(conflicts))


def write_rest(out: Path, done: Export, photos: Mapping[str, tuple[str, str]]) -> int:
    """Write the names that were not exported, one a line: the test list for a training on the exported ones.

    Args:
        out: The list.
        done: What was exported.
        photos: Source and name by sample id, in the order of the test list.

    Returns:
        How many there are.

    Raises:
        DataError: A name cannot stand in a list.
    """
    names = [name for source, name in photos.values() if source == done.source and name not in done.labels]
    if strange := [name for name in names if not _listable(name)]:
        shown = ", ".join(map(repr, strange[:5]))
        raise DataError(
            f"{out}: {len(strange)} names cannot stand in a list: {shown}; rename these photos and run again"
        )
    write_text(out, "".join(f"{name}\n" for name in names))
    return len(names)


def _listable(name: str) -> bool:
    return name == name.strip() and not name.startswith(MARK) and not any(sign in name for sign in BREAKING)


def _objection(name: str, label: str, count: int, given: Sequence[str], card: TaskCard) -> str:
    """Why a photo cannot be exported; empty when it can."""
    if strange := sorted(set(given) - set(card.label_ids)):
        return f"the task card has no label {', '.join(strange)}"
    if not _listable(name):
        return "the name cannot stand in a label list"
    if 2 * count > len(given):
        return ""
    return "no label has more than half of the votes" if len(given) > 2 else "the reviewers disagree"


def _table(conflicts: Sequence[Conflict], card: TaskCard) -> str:
    """CSV of the conflicts, with byte order mark; a column for each reviewer's label and note."""
    import pyarrow as pa

    from fusion.review_queue import sheet_cells

    reviewers = sorted({reviewer for conflict in conflicts for reviewer in conflict.votes})
    head = ["source", "name", *(part for name in reviewers for part in (name, f"{name}_note")), "reason"]
    rows = [head]
    for conflict in conflicts:
        row = [conflict.source, conflict.name]
        for reviewer in reviewers:
            label, note = conflict.votes.get(reviewer, ("", ""))
            row += [card.text_of(label) if label in card.label_ids else label, note]
        rows.append([*row, conflict.why])
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(
        sheet_cells(pa.array(row, pa.string())).to_pylist() for row in rows
    )
    return "\ufeff" + buffer.getvalue()
