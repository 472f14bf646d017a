"""Later photos through a finished run: its models and its fusion, nothing trained or fitted anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dataset_builders.errors import ConfigError
from dataset_builders.files import write_text
from dataset_builders.task_card import BASE
from fusion.fusion_model import MODEL_NAME
from launch.pipeline.config import PipelineConfig
from launch.pipeline.plan import FUSION
from launch.pipeline.processes import alone_in
from launch.pipeline.record import CONFIG_NAME, read_record

__all__ = ["SOURCE", "grading_pipeline"]

BUILD_NAME = "build.yaml"
SOURCE = "photos"  # name of the one source; sample ids begin with it


def grading_pipeline(run: Path, photos: Path, out: Path, photo_list: Path | None) -> PipelineConfig:
    """Write a build config for the photos to ``out`` and derive the pipeline that grades them from a finished run's.

    Args:
        run: Run directory of a pipeline that has fused.
        photos: Directory of photos.
        out: Run directory of the new photos, which holds their data set and predictions too.
        photo_list: Names below ``photos``, one a line, perhaps with a label; all photos of the directory when None.

    Returns:
        The pipeline; it reads the recipes that ``run`` keeps, not those from which they came.

    Raises:
        ConfigError: ``run`` is no finished run, or ``out`` is it or another run.
        StepError: Another grading works in ``out``.
    """
    if not (run / CONFIG_NAME).is_file():
        raise ConfigError(f"{run}: holds no {CONFIG_NAME}; give the run directory of a pipeline, such as runs/board")
    record = read_record(run)
    config = record.pipeline
    fitted = run / FUSION
    if not (fitted / MODEL_NAME).is_file():
        raise ConfigError(f"{fitted / MODEL_NAME}: no such file; finish the run first: riskfuse run its pipeline")
    if out.resolve() == run.resolve():
        raise ConfigError(f"{out}: is the finished run itself; give the new photos a directory of their own")
    if (out / CONFIG_NAME).is_file() and read_record(out).pipeline.fitted != fitted:
        raise ConfigError(
            f"{out}: holds another run, which would be lost; give the new photos a directory of their own"
        )
    source: dict[str, Any] = {"kind": "image_folder", "name": SOURCE, "role": "test", "path": photos.as_posix()}
    if photo_list is not None:
        source |= {"kind": "label_list", "path": photo_list.as_posix(), "images": photos.as_posix()}
    build = {"task": config.task.as_posix(), "out": (out / "data").as_posix(), "sources": [source]}
    header = f"# Photos graded by {run.as_posix()}; written by riskfuse grade.\n"
    out.mkdir(parents=True, exist_ok=True)
    with alone_in(out):  # a grading at work there reads the file
        write_text(out / BUILD_NAME, header + yaml.safe_dump(build, sort_keys=False, allow_unicode=True, width=1000))
    stages = {name: {"recipe": run / "recipes" / f"{name}.yaml"} for name in (BASE, *config.specialists)}
    return PipelineConfig.model_validate(
        {
            "name": config.name,
            "task": config.task,
            "data": out / BUILD_NAME,
            "base": stages.pop(BASE),
            "specialists": stages,
            "inference": config.inference,
            "fitted": fitted,
            "saves": config.saves_dir,
            "predictions": out / "predictions",
            "runs": out,
        }
    )
