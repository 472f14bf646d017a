"""One thing that preflight found, with its remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        level: ``error`` when training would fail or teach the wrong thing; ``warning`` when it may be meant.
        where: File and key or row.
        problem: What was expected and what was got.
        remedy: How to mend it.
    """

    level: Literal["error", "warning"]
    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.problem}. {self.remedy}"


def error(where: str, problem: str, remedy: str) -> Finding:
    """A finding that must be mended."""
    return Finding("error", where, problem, remedy)


def warning(where: str, problem: str, remedy: str) -> Finding:
    """A finding that may be meant."""
    return Finding("warning", where, problem, remedy)
