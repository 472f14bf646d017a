"""The decisions of reviewers on disk: one JSON line each, appended and synced, never rewritten."""

from __future__ import annotations

import fcntl
import os
import re
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dataset_builders.errors import ConfigError

__all__ = [
    "DIRECTORY",
    "NOTE_LENGTH",
    "Decision",
    "DecisionStore",
    "ReviewerDecisions",
    "clean_reviewer",
    "read_all",
    "read_decisions",
]

DIRECTORY = "review"  # in the run directory
SUFFIX = ".jsonl"
NAME_LENGTH = 40  # of characters, at most 4 bytes each: a file's name may have 255
NOTE_LENGTH = 2000
STRANGE = re.compile(r"[^\w.-]+")


class Decision(BaseModel):
    """What a reviewer said about a photo; one line of the file.

    Attributes:
        sample_id: Source and name of the photo.
        label: Label identifier; null takes a decision back, or keeps a note on a photo that is not decided yet.
        note: What the reviewer wrote, one text.
        decided: Label identifier that the run had decided, as the reviewer saw it.
        at: When, in UTC, ISO 8601.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_id: Annotated[str, StringConstraints(min_length=1)]
    label: str | None
    note: Annotated[str, Field(max_length=NOTE_LENGTH)] = ""
    decided: str
    at: str


@dataclass(frozen=True)
class ReviewerDecisions:
    """A file as it was read.

    Attributes:
        reviewer: Name of the reviewer.
        path: The file.
        last: Last line of each photo by sample id, in the order in which these lines were written.
        damaged: Numbers of the lines, from 1, that hold no decision: a crash or a full disk left them torn.
    """

    reviewer: str
    path: Path
    last: dict[str, Decision]
    damaged: tuple[int, ...]

    @property
    def labels(self) -> dict[str, str]:
        """Label identifier by sample id, of the photos that are decided."""
        return {key: decision.label for key, decision in self.last.items() if decision.label is not None}

    @property
    def warning(self) -> str | None:
        """What to tell about damaged lines; None when there are none."""
        if not self.damaged:
            return None
        lines = ", ".join(map(str, self.damaged))
        return f"{self.path}: no decision in line {lines}, torn by a crash or a full disk; all other lines are used"


def clean_reviewer(name: str) -> str:
    """A reviewer's name as a file's name: letters, digits, ``_``, ``.`` and ``-`` of any script, without path tricks.

    Raises:
        ConfigError: Nothing of the name is left.
    """
    text = STRANGE.sub("_", unicodedata.normalize("NFKC", name))
    text = text.strip("._-")[:NAME_LENGTH].rstrip("._-")
    if not text:
        raise ConfigError(f"reviewer {name!r}: expected a name with a letter or digit; give another one")
    return text


def read_decisions(directory: Path, reviewer: str) -> ReviewerDecisions:
    """Read a reviewer's file; there are no decisions when it does not exist.

    Args:
        directory: Directory of the files.
        reviewer: A name that ``clean_reviewer`` returned.
    """
    path = directory / f"{reviewer}{SUFFIX}"
    raw = path.read_bytes() if path.is_file() else b""
    last: dict[str, Decision] = {}
    damaged = []
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            decision = Decision.model_validate_json(line)
        except ValidationError:
            damaged.append(number)
            continue
        last.pop(decision.sample_id, None)  # the order is that of the last lines
        last[decision.sample_id] = decision
    return ReviewerDecisions(reviewer, path, last, tuple(damaged))


def read_all(directory: Path) -> list[ReviewerDecisions]:
    """Read the files of all reviewers, by name."""
    return [read_decisions(directory, path.stem) for path in sorted(directory.glob(f"*{SUFFIX}"))]


class DecisionStore:
    """Appends to the files of a directory. Threads and other processes may append to the same files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()

    def append(self, reviewer: str, decision: Decision) -> None:
        """Write one line; it is on the disk when this returns.

        Args:
            reviewer: A name that ``clean_reviewer`` returned.
            decision: The line.

        Raises:
            OSError: It could not be written, for instance because the disk is full.
        """
        line = decision.model_dump_json().encode() + b"\n"
        path = self.directory / f"{reviewer}{SUFFIX}"
        with self._lock, _opened(path) as descriptor:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # a crash left a torn line; it stays a line of its own
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A file's descriptor for appending, locked against other processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
        if is_new:
            _sync_directory(path.parent)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
