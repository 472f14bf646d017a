"""The report of a stability analysis as text and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from fusion.score_table import align

__all__ = ["format_csv", "format_table", "spread_by_kind"]

COLUMNS = ("name", "kind", "photos", "failed", "flips", "drift", "max_change", "mean_change", "score", "score_change")


def spread_by_kind(variations: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """By kind of variation: the largest drift, and with labels the range of the score, the reference included."""
    reference, *others = variations
    found: dict[str, dict[str, float]] = {}
    for kind in dict.fromkeys(item["kind"] for item in others):
        group = [item for item in others if item["kind"] == kind]
        found[kind] = {"largest_drift": max(item["drift"] for item in group)}
        if "score" in reference:
            scores = [reference["score"], *(item["score"] for item in group)]
            found[kind]["score_range"] = max(scores) - min(scores)
    return found


def format_table(figures: Mapping[str, Any]) -> str:
    """One row a variation, then one row a kind."""
    scored = "score" in figures["variations"][0]
    head = ["", "variation", "photos", "flips", "drift", "max |Δp|", "mean |Δp|"]
    table = [[*head, "score", "change", "95 % interval"] if scored else head]
    for item in figures["variations"]:
        row = ["", item["name"], str(item["photos"]), str(item["flips"]), f"{100 * item['drift']:.2f} %"]
        row += [f"{item['max_change']:.2e}", f"{item['mean_change']:.2e}"]
        if scored:
            low, high = item["score_change_interval"]
            row += [f"{item['score']:.4f}", f"{item['score_change']:+.4f}", f"[{low:+.3f}, {high:+.3f}]"]
        table.append(row)
    kinds = [["", "kind", "largest drift", "range of the score"] if scored else ["", "kind", "largest drift"]]
    for kind, item in figures["by_kind"].items():
        cells = ["", kind, f"{100 * item['largest_drift']:.2f} %"]
        kinds.append([*cells, f"{item['score_range']:.4f}"] if scored else cells)
    title = f"stage {figures['stage']}, {figures['photos']} photos, each variation against the reference"
    return f"{title}\n{align(table, left=2)}\n\n{align(kinds, left=2)}\n"


def format_csv(figures: Mapping[str, Any]) -> str:
    """One row a variation; columns that do not apply are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(figures["variations"])
    return text.getvalue()
