"""Scores as aligned plain text: what the commands print and ``scores.txt`` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusion.systems import SYSTEMS

__all__ = ["align", "format_differences", "format_systems"]

NAMES = {"base": "base only", "override": "hard override", "fused": "fused"}
LEVELS = {"chance": "chance (class shares)", "majority": "majority class"}
GAP = "  "
SMALLEST_P = 0.0001


def format_systems(title: str, scores: Mapping[str, Any], submitted: str | None = None) -> str:
    """One row a system: score with interval, F1 of every class, accuracy, error rate.

    Args:
        title: Heading, without a line end.
        scores: What ``compare_systems`` returned.
        submitted: The system whose labels are submitted; marked with a star.
    """
    labels = list(scores["levels"]["chance"]["per_class"])
    percent = round(100 * scores["interval_level"])
    header = ["", "system", "decision", "score", f"{percent} % interval", *(f"F1 {label}" for label in labels)]
    table = [[*header, "accuracy", "error rate"]]
    for name, figures in scores["levels"].items():
        table.append(_row("", LEVELS[name], "", figures, labels))
    for name, figures in scores["systems"].items():
        system, decision = _split(name)
        table.append(_row("*" if name == submitted else "", system, decision, figures, labels))
    return f"{title}\n{align(table, left=3)}"


def format_differences(scores: Mapping[str, Any]) -> str:
    """One row a pair of systems: differences with intervals, McNemar's p."""
    percent = round(100 * scores["interval_level"])
    interval = f"{percent} % interval"
    table = [["", "difference", "decision", "score", interval, "error rate", interval]]
    table[0] += ["relative", interval, "McNemar p"]
    for item in scores["differences"]:
        (system, decision), (rival, other) = _split(item["system"]), _split(item["against"])
        relative, span = item["relative_error_rate"], item["relative_error_rate_interval"]
        table.append(
            [
                "",
                f"{system} − {rival}",
                decision if decision == other else f"{decision} − {other}",
                f"{item['score']:+.4f}",
                _span(item["score_interval"], "+.3f"),
                f"{100 * item['error_rate']:+.2f} pp",
                _span([100 * x for x in item["error_rate_interval"]], "+.2f"),
                "" if relative is None else f"{100 * relative:+.1f} %",
                "" if span is None else _span([100 * x for x in span], "+.1f"),
                f"{item['mcnemar_p']:.4f}" if item["mcnemar_p"] >= SMALLEST_P else f"< {SMALLEST_P}",
            ]
        )
    head = f"paired differences ({scores['resamples']} bootstrap resamples; error rate: below 0 is better)"
    return f"{head}\n{align(table, left=3)}"


def _row(star: str, system: str, decision: str, figures: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    span = figures.get("score_interval")
    return [
        star,
        system,
        decision,
        f"{figures['score']:.4f}",
        _span(span, ".3f") if span else "",
        *(f"{figures['per_class'][label]['f1']:.3f}" for label in labels),
        f"{figures['accuracy']:.4f}",
        f"{100 * figures['error_rate']:.2f} %",
    ]


def _span(bounds: Sequence[float], spec: str) -> str:
    return f"[{bounds[0]:{spec}}, {bounds[1]:{spec}}]"


def _split(name: str) -> tuple[str, str]:
    """A system's name for people and its decision; a name that is none of ours stands as it is."""
    system, _, decision = name.partition("_")
    return (NAMES[system], decision) if name in SYSTEMS else (name, "")


def align(table: Sequence[Sequence[str]], left: int) -> str:
    """Lines of a table whose columns stand under each other, the first ``left`` of them to the left."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(GAP.join(cells).rstrip())
    return "\n".join(lines)
