"""The last words of a pipeline: the score table, the time of each step, and where everything lies."""

from __future__ import annotations

from pathlib import Path

from dataset_builders.files import write_text
from dataset_builders.task_card import load_task_card
from launch.pipeline.config import PipelineConfig
from launch.pipeline.console import format_seconds
from launch.pipeline.plan import FUSION, REPORT_NAME, stages_of, training_data
from launch.pipeline.step import Step, read_marker

__all__ = ["write_summary"]


def write_summary(config: PipelineConfig, steps: list[Step]) -> str:
    """Write ``summary.txt`` to the run directory and return its text."""
    fusion = config.runs_dir / FUSION
    parts = [_scores(fusion), _fallbacks(fusion), _times(config, steps), _places(config)]
    text = "\n\n".join(part for part in parts if part)
    write_text(config.runs_dir / "summary.txt", text + "\n")
    return f"\n{text}"


def _scores(fusion: Path) -> str:
    table = fusion / "scores.txt"
    return table.read_text(encoding="utf-8").rstrip() if table.is_file() else ""


def _fallbacks(fusion: Path) -> str:
    rows = (fusion / "fallback.txt").read_text(encoding="utf-8").splitlines()
    if not rows:
        return ""
    return f"{len(rows)} photos were answered by the fallback label; {fusion / 'fallback.txt'} lists them"


def _times(config: PipelineConfig, steps: list[Step]) -> str:
    rows = []
    for step in steps:
        marker = read_marker(config.runs_dir / "steps" / f"{step.name}.json")
        rows.append((step.name, marker.seconds if marker else 0.0))
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {format_seconds(seconds):>12}" for name, seconds in rows]
    total = format_seconds(sum(seconds for _, seconds in rows))
    return "\n".join(["time of each step, when it was last run", *lines, f"  {'together':<{width}}  {total:>12}"])


def _places(config: PipelineConfig) -> str:
    stages = stages_of(config, load_task_card(config.task))
    fusion = config.runs_dir / FUSION
    places = {
        "report": config.runs_dir / REPORT_NAME,
        "submission": fusion / "b-submit.txt",
        "scores": f"{fusion / 'score.json'}, {fusion / 'scores.txt'}",
        "decisions": fusion / "decisions.parquet",
        "data set": training_data(config).out,
        "adapters": ", ".join(str(config.saves_dir / name) for name in stages),
        "predictions": ", ".join(str(config.predictions_dir / name) for name in stages),
        "recipes": config.runs_dir / "recipes",
        "logs": config.runs_dir / "logs",
    }
    width = max(len(name) for name in places)
    return "\n".join(["where everything lies", *(f"  {name:<{width}}  {place}" for name, place in places.items())])
