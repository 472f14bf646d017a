"""Where everything of a run lies, as the run directory says or as a person says who went without a pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataset_builders.dataset_dir import MARKER
from dataset_builders.errors import ConfigError, DataError
from dataset_builders.task_card import BASE, TaskCard, load_task_card
from fusion.answer import SCORE_NAME
from fusion.fusion_model import MODEL_NAME, load_fusion_model
from launch.pipeline.config import PipelineConfig
from launch.pipeline.fold_steps import OUT_OF_FOLD
from launch.pipeline.plan import FUSION, stages_of, training_data
from launch.pipeline.record import CONFIG_NAME, read_record

__all__ = ["RunFiles", "StageFiles", "find_run"]

RELATIVE = "paths in it are relative to the directory where `riskfuse run` was started; start the report there too"


@dataclass(frozen=True)
class StageFiles:
    """What one stage left.

    Attributes:
        name: Of the stage.
        saves: Output directory of its training; None when nobody said where.
        predictions: Its predictions directory; None when nobody said where.
        folds: Output directories of its fold models, by fold.
    """

    name: str
    saves: Path | None
    predictions: Path | None
    folds: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFiles:
    """What a run left.

    Attributes:
        name: Of the run.
        run: Run directory.
        card: The task.
        dataset: Data set directory that the models were trained on.
        fusion: Fusion directory; None while fusion has not been run.
        stages: Base, then the specialists that take part, in the card's order.
        pipeline: The pipeline as it was read; empty without one.
        versions: Versions of Python and of the libraries; empty without a pipeline.
    """

    name: str
    run: Path
    card: TaskCard
    dataset: Path
    fusion: Path | None
    stages: tuple[StageFiles, ...]
    pipeline: dict[str, Any]
    versions: dict[str, str]


def find_run(
    run: str | Path,
    *,
    task: str | Path | None = None,
    data: str | Path | None = None,
    saves: str | Path | None = None,
    predictions: str | Path | None = None,
) -> RunFiles:
    """Find the files of a run.

    Args:
        run: Run directory of a pipeline, or a fusion directory (or the one above it) that was made by hand.
        task: Task card; the pipeline's when None.
        data: Data set directory; the pipeline's when None.
        saves: Directory with one training a stage; the pipeline's when None.
        predictions: Directory with the predictions of each stage; the pipeline's when None.

    Raises:
        ConfigError: It is no run directory, or what it names is not here.
        DataError: The data set is not complete.
    """
    run = Path(run)
    if not run.is_dir():
        raise ConfigError(f"{run}: no such directory; give the run directory of a pipeline, such as runs/board")
    record = read_record(run) if (run / CONFIG_NAME).is_file() else None
    config = record.pipeline if record is not None else None
    if config is None and (task is None or data is None):
        raise ConfigError(
            f"{run}: holds no {CONFIG_NAME}, so no pipeline made it; say with --task and --data what it was made from"
        )
    card = load_task_card(task if task is not None else _here(run, config).task)
    dataset = Path(data) if data is not None else training_data(_here(run, config)).out
    if not (dataset / MARKER).is_file():
        raise DataError(f"{dataset}: no complete data set; of {run}, {RELATIVE}, or name the data set with --data")
    saves_dir = Path(saves) if saves is not None else config.saves_dir if config else None
    predictions_dir = Path(predictions) if predictions is not None else config.predictions_dir if config else None
    fusion = next((path for path in (run / FUSION, run) if (path / SCORE_NAME).is_file()), None)
    if fusion is None and config is None:
        raise ConfigError(f"{run}: holds no {SCORE_NAME}; give the directory that `riskfuse fuse --out` wrote")
    names = stages_of(config, card) if config else _fused_stages(fusion, card)
    return RunFiles(
        name=config.name if config and config.fitted is None else run.resolve().name,
        run=run,
        card=card,
        dataset=dataset,
        fusion=fusion,
        stages=tuple(_stage(name, saves_dir, predictions_dir) for name in names),
        pipeline=record.as_written if record else {},
        versions=record.versions if record else {},
    )


def _here(run: Path, config: PipelineConfig | None) -> PipelineConfig:
    """The pipeline, if what it names is here."""
    assert config is not None  # the caller asked for --task and --data otherwise
    for path in (config.task, config.data):
        if not path.is_file():
            raise ConfigError(f"{path}: no such file, but {run / CONFIG_NAME} names it; {RELATIVE}")
    return config


def _fused_stages(fusion: Path | None, card: TaskCard) -> tuple[str, ...]:
    """Base and the specialists that were fused, in the card's order."""
    assert fusion is not None  # without a pipeline it was asked for
    fused = load_fusion_model(fusion / MODEL_NAME).targets
    return tuple(name for name in card.stages if name == BASE or name in fused)


def _stage(name: str, saves: Path | None, predictions: Path | None) -> StageFiles:
    folds = sorted((saves / OUT_OF_FOLD / name).glob("fold-*")) if saves else []
    return StageFiles(
        name=name,
        saves=saves / name if saves else None,
        predictions=predictions / name if predictions else None,
        folds={path.name: path for path in folds},
    )
