"""The doctor's table, and the same for scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from launch.doctor.result import Result

__all__ = ["has_errors", "render_results", "results_as_json"]


def has_errors(results: Sequence[Result]) -> bool:
    """Whether something will not work."""
    return any(result.level == "error" for result in results)


def render_results(results: Sequence[Result]) -> str:
    """A row for each result; under it what will not work and why, and the remedy."""
    width = max((len(result.name) for result in results), default=0)
    lines = []
    for result in results:
        lines.append(f"{result.level:<7}  {result.name:<{width}}  {result.found}")
        lines += [f"{'':<7}  {'':<{width}}    {text}" for text in (_sentence(result.problem), result.remedy) if text]
    counts = Counter(result.level for result in results)
    lines += ["", f"{counts['error']} errors, {counts['warning']} warnings, {counts['ok'] + counts['info']} others"]
    verdict = "something will not work, see above" if counts["error"] else "all that the CPU default needs is here"
    lines.append(verdict)
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def results_as_json(results: Sequence[Result]) -> dict[str, Any]:
    """The results for scripts: ``ok`` is false when one of them is an error."""
    return {"ok": not has_errors(results), "findings": [asdict(result) for result in results]}
