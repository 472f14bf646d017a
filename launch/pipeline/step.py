"""A step and its marker: what it reads, what it writes, and whether what lies on disk is still its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataset_builders.files import content_hash, file_sha256, write_json

__all__ = ["ASKED_AGAIN", "Command", "Marker", "Step", "digest", "read_marker", "step_inputs", "write_marker"]

_WHOLE_FILE_LIMIT = 64 * 2**20  # bytes; larger files (model weights) are known by size and time of change

ASKED_AGAIN = ""  # key of a step that --redo asked for and that has not begun since


@dataclass(frozen=True)
class Command:
    """A process of a step.

    Attributes:
        argv: The command line that is run.
        shown: The command line that a person would type for it.
        environment: Variables beside the caller's own.
        partial_success: True when exit status 1 means that the work is done but some rows failed, which the command
            listed. Python exits with 1 on any exception too: the step's outputs decide, of which the first must be the
            completion marker that the command always writes last. It is removed before.
    """

    argv: tuple[str, ...]
    shown: str
    environment: dict[str, str] = field(default_factory=dict)
    partial_success: bool = False


@dataclass(frozen=True)
class Step:
    """One step of a pipeline.

    Attributes:
        name: Identifier; names the marker and the log.
        settings: JSON value; what beside the inputs decides the result.
        inputs: Files, or directories with all files in them, that are known by their content.
        listings: Directories of photos that are known by names, sizes and times of change.
        outputs: Files that exist when the step is done and that the marker vouches for.
        owned: Files and directories that only this step writes; removed when they are stale and the marker says that
            the step made them.
        make_commands: Makes the processes to run, one after the other.
        begin: Called before the first process.
        finished: True when an interrupted step is in truth done and must not be run again.
        refuses_strangers: True when the step must not meet ``owned`` paths that this pipeline did not make. The
            commands of the other steps judge by themselves what lies there.
        progress: One line about the running step, or None.
    """

    name: str
    settings: Any
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    owned: tuple[Path, ...]
    make_commands: Callable[[], list[Command]]
    listings: tuple[Path, ...] = ()
    begin: Callable[[], None] = lambda: None
    finished: Callable[[], bool] = lambda: False
    refuses_strangers: bool = False
    progress: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class Marker:
    """What ``steps/NAME.json`` says about a step.

    Attributes:
        complete: False while the step runs and after an interruption.
        key: Hash of settings and inputs, or ``ASKED_AGAIN``.
        inputs: Digest of each input; tells which one changed.
        settings: As in ``Step``.
        outputs: Digest of each output; empty unless complete.
        seconds: Duration of the run that completed it.
        owned: Paths that the step made: nothing of somebody else lay there when it began. None: written by an earlier
            version, which did not record it.
    """

    complete: bool
    key: str
    inputs: dict[str, str]
    settings: Any
    outputs: dict[str, str]
    seconds: float = 0.0
    owned: list[str] | None = None

    def goes_on_as(self, begun: Marker) -> bool:
        """Whether a step that would begin so was interrupted at the same work in the same place."""
        return not self.complete and self.key == begun.key and self.owned in (None, begun.owned)

    def made(self, path: Path) -> bool:
        """Whether the step made what lies there; of an earlier version's, whether an output of it lies there."""
        if self.owned is not None:
            return path.as_posix() in self.owned
        return any(path in (output, *output.parents) for output in map(Path, self.outputs))

    def why_stale(self, settings: Any, inputs: dict[str, str]) -> str:
        """Say in words what differs from the present settings and inputs."""
        if self.key == ASKED_AGAIN:
            return "asked to do it again"
        changed = sorted(path for path in {*self.inputs, *inputs} if self.inputs.get(path) != inputs.get(path))
        if self.settings != settings:
            changed.append("the configuration")
        return f"{', '.join(changed)} changed" if changed else "nothing changed"


def digest(path: Path, *, listing: bool = False) -> str:
    """Digest of a file or of a directory with all that is in it.

    Args:
        path: File or directory; ``missing`` is returned when there is none.
        listing: Use size and time of change instead of content, for directories of photos.
    """
    if path.is_file():
        return _file_digest(path, listing)
    if not path.is_dir():
        return "missing"
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return content_hash([[file.relative_to(path).as_posix(), _file_digest(file, listing)] for file in files])


def _file_digest(path: Path, listing: bool) -> str:
    status = path.stat()
    if listing or status.st_size > _WHOLE_FILE_LIMIT:
        return f"{status.st_size}:{status.st_mtime_ns}"
    return file_sha256(path)


def step_inputs(step: Step) -> dict[str, str]:
    """Digest of each of a step's inputs as they are now."""
    found = {path.as_posix(): digest(path) for path in step.inputs}
    return found | {path.as_posix(): digest(path, listing=True) for path in step.listings}


def read_marker(path: Path) -> Marker | None:
    """Read a marker; None when there is none or it was written by another version."""
    try:
        return Marker(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def write_marker(path: Path, marker: Marker) -> None:
    """Write a marker, atomically."""
    write_json(path, vars(marker))
