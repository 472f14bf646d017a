"""Decisions as a test states them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from launch.review.store import Decision, DecisionStore

__all__ = ["decided", "write_decisions"]


def decided(sample_id: str, label: str | None, note: str = "") -> Decision:
    return Decision(sample_id=sample_id, label=label, note=note, decided="none", at="2026-01-02T03:04:05+00:00")


def write_decisions(directory: Path, reviewer: str, labels: Mapping[str, str | None]) -> None:
    store = DecisionStore(directory)
    for sample_id, label in labels.items():
        store.append(reviewer, decided(sample_id, label))
