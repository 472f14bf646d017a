"""What an out-of-fold run needs to know: flags of the command, checked in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from dataset_builders.config_file import FrozenModel
from dataset_builders.specialist import Choice
from dataset_builders.task_card import BASE
from launch.predict import PredictConfig

__all__ = ["OutOfFoldConfig"]

# What the folds decide themselves.
_OWN_KEYS = frozenset({"dataset_dir", "media_dir", "dataset", "eval_dataset", "output_dir"})


class OutOfFoldConfig(FrozenModel):
    """One out-of-fold run. Paths are relative to the current directory.

    Attributes:
        recipe: LLaMA-Factory recipe of the stage; all folds are trained by it.
        task: Task card.
        data: Data set directory whose folds are trained.
        out: Predictions, one directory a fold.
        saves: Adapters, one directory a fold, with logs and markers of the trainings.
        stage: ``base``, or a specialist of the card.
        mining: For a specialist: the base stage's predictions on the photos of the folds, out-of-fold ones.
        rows: For a specialist: rows of a fold's training set, as in ``riskfuse specialist``.
        seed: For a specialist: decides the random negatives, as in ``riskfuse specialist``.
        predict_data: Data set directory whose photos are scored; ``data`` when None. Its photos and their folds must be
            those of ``data``: it is meant for an augmented copy of it.
        folds: Folds to do; all when None.
        with_copies: Augmented copies of ``data`` take part in training.
        overrides: Keys that replace the recipe's, the same as KEY=VALUE on LLaMA-Factory's command line.
        processes: Training processes on this machine; None means one a GPU, by LLaMA-Factory's own choice.
        engine: Engine of ``riskfuse predict``.
        workers: Ray actors of the prediction; any number gives the same bytes.
        batch_size: Photos in a forward pass of the prediction.
        shard_size: Photos in a part file.
    """

    recipe: Path
    task: Path
    data: Path
    out: Path
    saves: Path
    stage: str = BASE
    mining: tuple[Path, ...] = ()
    rows: PositiveInt | None = None
    seed: NonNegativeInt = 0
    predict_data: Path | None = None
    folds: tuple[NonNegativeInt, ...] | None = None
    with_copies: bool = False
    overrides: Annotated[dict[str, Any], Field(default_factory=dict)]
    processes: PositiveInt | None = None
    engine: Literal["ray", "local"] = "ray"
    workers: PositiveInt = 1
    batch_size: PositiveInt = PredictConfig.model_fields["batch_size"].default
    shard_size: PositiveInt = PredictConfig.model_fields["shard_size"].default

    @model_validator(mode="after")
    def _consistent(self) -> OutOfFoldConfig:
        if taken := sorted(_OWN_KEYS & set(self.overrides)):
            raise ValueError(f"overrides sets {' and '.join(taken)}, which each fold sets from data and saves")
        if self.out.resolve() == self.saves.resolve():
            raise ValueError(f"out and saves are both {self.out}; adapters and predictions need a directory each")
        if self.folds is not None and (not self.folds or len(set(self.folds)) < len(self.folds)):
            raise ValueError("folds is empty or names a fold twice; leave it out for all folds")
        if self.stage == BASE and (self.mining or self.rows):
            raise ValueError("mining and rows are for a specialist; name it as the stage, or leave them out")
        if self.stage != BASE and not self.mining:
            raise ValueError(f"stage {self.stage} needs mining: the base stage's out-of-fold predictions")
        return self

    @property
    def choice(self) -> Choice | None:
        """What decides a specialist's rows; None for the base stage."""
        return None if self.stage == BASE else Choice(self.stage, self.mining, self.seed, self.rows)

    @property
    def scored_data(self) -> Path:
        """Data set directory whose photos are scored."""
        return self.predict_data or self.data
