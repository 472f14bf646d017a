"""One row of the doctor's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["GIB", "Result", "error", "note", "ok", "warning"]

GIB = 1 << 30


@dataclass(frozen=True)
class Result:
    """What was looked at, and what came out.

    Attributes:
        level: ``ok``; ``info``: good to know, and nothing to do; ``warning``: something will be slower, or fails in a
            use that is not the default; ``error``: something will not work.
        name: What was looked at.
        found: What is here.
        problem: What will not work, and why; empty for ``ok``, and where a note needs no reason.
        remedy: How to mend it; empty where there is nothing to mend.
    """

    level: Literal["ok", "info", "warning", "error"]
    name: str
    found: str
    problem: str = ""
    remedy: str = ""


def ok(name: str, found: str) -> Result:
    """Something that works."""
    return Result("ok", name, found)


def note(name: str, found: str, meaning: str = "") -> Result:
    """Something that is good to know."""
    return Result("info", name, found, meaning)


def warning(name: str, found: str, problem: str, remedy: str) -> Result:
    """Something that is slower than it could be, or fails in a use that is not the default."""
    return Result("warning", name, found, problem, remedy)


def error(name: str, found: str, problem: str, remedy: str) -> Result:
    """Something that will not work."""
    return Result("error", name, found, problem, remedy)
