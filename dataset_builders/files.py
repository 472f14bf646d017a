"""Atomic writes and content hashes. A file exists whole or not at all; a completion marker comes last."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dataset_builders.stores import Location, StorePath

__all__ = [
    "atomic_path",
    "content_hash",
    "file_sha256",
    "link_or_copy",
    "remove_unfinished",
    "write_bytes",
    "write_json",
    "write_text",
]

_LONG = 128  # bytes of a name; no file system that is in use takes fewer than 143


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there when the block ends well, remove it otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file system that takes the name of the file must take this one too.
    raw = os.fsencode(path.name)
    name = path.name if len(raw) < _LONG else hashlib.sha256(raw).hexdigest()
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(directory: Location) -> None:
    """Remove the temporary files that processes left in a directory when they were killed inside ``atomic_path``.

    For the start of a run that owns the directory: nobody else may be writing there. Stores have none.
    """
    if isinstance(directory, StorePath):
        return
    for path in directory.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def link_or_copy(file: Path, target: Path) -> None:
    """Make ``target`` the same file, by a hard link where the file system has them; an older target is replaced."""
    target.unlink(missing_ok=True)
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(file, target)


def write_bytes(path: Location, content: bytes) -> None:
    """Write a file, atomically: by a rename, in a store by one put."""
    if isinstance(path, StorePath):
        path.write_bytes(content)
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Location, text: str) -> None:
    """Write UTF-8 text with LF line ends, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Location, value: Any) -> None:
    """Write JSON, atomically; Chinese text stays readable and keys keep their order.

    Raises:
        ValueError: A number is infinite or NaN, which JSON has not.
    """
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value, independent of the order of dictionary keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
