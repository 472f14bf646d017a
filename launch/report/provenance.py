"""Where a run comes from: times, configuration, versions and fingerprints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from fusion.fusion_model import FusionModel
from fusion.predictions import MARKER_NAME
from launch.pipeline.record import read_json
from launch.pipeline.step import read_marker
from launch.report.run_files import RunFiles

__all__ = ["Provenance", "StepTime", "read_provenance"]


@dataclass(frozen=True)
class StepTime:
    """A step of the pipeline: its duration, and when it ended (UTC, to the minute)."""

    name: str
    seconds: float
    complete: bool
    ended: str


@dataclass(frozen=True)
class Provenance:
    """Where a run comes from.

    Attributes:
        steps: In the order in which they ended; without the report itself, which is being written.
        seconds: Of all steps together.
        versions: Of Python and of the libraries.
        fingerprints: (kind, name, value) of what was read and made.
        texts: (title, text) of the pipeline and the resolved recipes, as YAML.
    """

    steps: tuple[StepTime, ...]
    seconds: float
    versions: dict[str, str]
    fingerprints: tuple[tuple[str, str, str], ...]
    texts: tuple[tuple[str, str], ...]


def read_provenance(files: RunFiles, dataset_fingerprint: str, model: FusionModel | None) -> Provenance:
    """Read markers, recipes and fingerprints of a run."""
    steps = tuple(_steps(files.run))
    recipes = sorted((files.run / "recipes").glob("*.yaml"))
    texts = [("pipeline", _yaml(files.pipeline))] if files.pipeline else []
    texts += [(f"recipes/{path.name}", path.read_text(encoding="utf-8", errors="replace")) for path in recipes]
    return Provenance(
        steps=steps,
        seconds=sum(step.seconds for step in steps),
        versions=files.versions,
        fingerprints=tuple(_fingerprints(files, dataset_fingerprint, model)),
        texts=tuple(texts),
    )


def _steps(run: Path) -> list[StepTime]:
    found = []
    for path in sorted((run / "steps").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        marker = read_marker(path)
        if marker is not None and path.stem != "report":
            ended = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M")
            found.append(StepTime(path.stem, marker.seconds, marker.complete, ended))
    return found


def _fingerprints(files: RunFiles, dataset: str, model: FusionModel | None) -> list[tuple[str, str, str]]:
    found = [("data set", files.dataset.as_posix(), dataset)]
    for stage in files.stages:
        path = stage.predictions / MARKER_NAME if stage.predictions else None
        if path is not None and path.is_file():
            found.append(("predictions", stage.name, str(read_json(path).get("fingerprint", ""))))
    if model is not None:
        found.append(("task card", model.task, model.fitted_on.task_hash))
        found.append(("rows of the fit", model.fitted_on.mode, model.fitted_on.rows_hash))
        found += [("out of fold", stage, value) for stage, value in model.fitted_on.held_out.items()]
    for path in sorted((files.run / "steps").glob("train_*.json")):
        marker = read_marker(path)
        outputs = marker.outputs if marker is not None else {}
        found += [("adapter", name, value) for name, value in outputs.items() if name.endswith(".safetensors")]
    return found


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
