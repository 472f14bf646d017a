"""Training curves: what LLaMA-Factory's trainer wrote down while it trained a stage."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.report.run_files import StageFiles

__all__ = ["Curve", "StageCurves", "read_curve", "read_stage_curves"]

POINTS = 240  # of a curve; a line of a phone's width shows no more
STATE_NAME, LOG_NAME = "trainer_state.json", "trainer_log.jsonl"

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curve:
    """One training.

    Attributes:
        train: (step, training loss).
        evaluation: (step, loss on the validation set).
        steps: Steps that were made.
        planned: Steps that were planned.
        epochs: Passes over the training set.
        runtime_s: Duration in seconds; None when the training is not finished.
        skipped: Lines of the log that could not be read, as in a training that goes on.
    """

    train: Points
    evaluation: Points
    steps: int
    planned: int
    epochs: float
    runtime_s: float | None
    skipped: int = 0


@dataclass(frozen=True)
class StageCurves:
    """The trainings of a stage: the main one, and those of the fold models."""

    name: str
    main: Curve | None
    folds: dict[str, Curve]

    @property
    def losses(self) -> tuple[float, ...]:
        """All losses of all its trainings."""
        curves = [curve for curve in (self.main, *self.folds.values()) if curve is not None]
        return tuple(loss for curve in curves for points in (curve.train, curve.evaluation) for _, loss in points)


def read_stage_curves(stage: StageFiles) -> StageCurves:
    """Read what the trainings of a stage wrote down."""
    folds = {name: curve for name, path in stage.folds.items() if (curve := read_curve(path)) is not None}
    return StageCurves(stage.name, read_curve(stage.saves) if stage.saves else None, folds)


def read_curve(directory: Path) -> Curve | None:
    """Read a training's output directory; None when it holds neither log nor state.

    The state of a finished training is preferred. One that goes on, or was interrupted, has the log alone.
    """
    state = _state(directory / STATE_NAME)
    if state is not None:
        history = [entry for entry in state.get("log_history", []) if isinstance(entry, dict)]
        return _curve(history, "step", int(state.get("max_steps") or 0), 0)
    try:
        lines = (directory / LOG_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    entries = [_entry(line) for line in lines if line.strip()]
    read = [entry for entry in entries if entry is not None]
    planned = max((int(entry.get("total_steps") or 0) for entry in read), default=0)
    return _curve(read, "current_steps", planned, len(entries) - len(read))


def _state(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _entry(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _curve(entries: list[dict[str, Any]], step: str, planned: int, skipped: int) -> Curve:
    runtime = [entry["train_runtime"] for entry in entries if _is_number(entry.get("train_runtime"))]
    return Curve(
        train=_points(entries, step, "loss"),
        evaluation=_points(entries, step, "eval_loss"),
        steps=max((int(entry[step]) for entry in entries if _is_number(entry.get(step))), default=0),
        planned=planned,
        epochs=max((float(entry["epoch"]) for entry in entries if _is_number(entry.get("epoch"))), default=0.0),
        runtime_s=float(runtime[-1]) if runtime else None,
        skipped=skipped,
    )


def _points(entries: Iterable[Mapping[str, Any]], step: str, key: str) -> Points:
    """Points in the order of their steps, at most ``POINTS`` with the first and the last among them."""
    # A training that was resumed logs a step twice: the later entry is the one that the model is made of.
    found = {float(e[step]): float(e[key]) for e in entries if _is_number(e.get(step)) and _is_number(e.get(key))}
    points = sorted(found.items())
    if len(points) <= POINTS:
        return tuple(points)
    stride = (len(points) - 1) / (POINTS - 1)
    return tuple(points[round(number * stride)] for number in range(POINTS))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
