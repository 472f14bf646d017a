"""Training curves and scores for TensorBoard: where they are written, and the scores themselves.

LLaMA-Factory's trainer writes the curves. Scores go through TensorBoard's own writer, which loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["TENSORBOARD", "write_scores"]

TENSORBOARD = "tensorboard"  # directory in a run, a fusion and an output directory

_EVENTS = "events.out.tfevents."  # begins the names of TensorBoard's files


def write_scores(directory: Path, parts: Mapping[str, Any], review: Mapping[str, Any] | None = None) -> None:
    """Write scores as TensorBoard shows them: a run for each system, a chart for each figure of each part.

    Event files that were there before are removed, so that every chart has one point for each system.

    Args:
        directory: The event files go to a directory for each system in it.
        parts: Scores of several systems on the same photos, as in ``score.json``, by what the photos are called.
        review: Calibration and coverage by test source, as in ``score.json``.
    """
    from tensorboard.summary import Writer

    figures: dict[str, dict[str, float]] = {}
    for part, scores in parts.items():
        for system, found in {**scores["levels"], **scores["systems"]}.items():
            figures.setdefault(_file_name(system), {}).update(_of_system(part, found))
    for system, tag, value in _of_review(review or {}):
        figures.setdefault(system, {})[tag] = value
    for system, values in figures.items():
        for old in (directory / system).glob(f"{_EVENTS}*"):
            old.unlink()
        writer = Writer(str(directory / system))
        for tag, value in values.items():
            writer.add_scalar(tag, value, step=0)
        writer.close()


def _of_system(part: str, found: Mapping[str, Any]) -> dict[str, float]:
    classes = {f"{part}/f1_{label}": figures["f1"] for label, figures in found["per_class"].items()}
    return {f"{part}/score": found["score"], f"{part}/error_rate": found["error_rate"], **classes}


def _of_review(review: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """System, tag and value of what is known about the fused probabilities and prediction sets."""
    for source, figures in review.get("reliability", {}).items():
        for state, system in (("before", "fused"), ("after", "fused_for_review")):
            for name in ("log_loss", "brier", "ece"):
                yield system, f"{source}/{name}", figures[state][name]
    for source, figures in review.get("coverage", {}).items():
        yield "fused_for_review", f"{source}/coverage", figures["coverage"]
    for source, count in review.get("queued", {}).items():
        yield "fused_for_review", f"{source}/photos_to_review", count


def _file_name(system: str) -> str:
    """A submission's path, by which ``riskfuse evaluate`` calls it, as the name of one directory."""
    return system.strip("./").replace("/", "_")
