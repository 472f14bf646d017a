"""What an out-of-fold run needs to know: flags of the command, checked in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from dataset_builders.config_file import FrozenModel
from launch.predict import PredictConfig

__all__ = ["OutOfFoldConfig"]

# What the folds decide themselves.
_OWN_KEYS = frozenset({"dataset_dir", "media_dir", "dataset", "eval_dataset", "output_dir"})


class OutOfFoldConfig(FrozenModel):
    """One out-of-fold run. Paths are relative to the current directory.

    Attributes:
        recipe: LLaMA-Factory recipe of stage 1; all folds are trained by it.
        task: Task card.
        data: Data set directory whose folds are trained.
        out: Predictions, one directory a fold.
        saves: Adapters, one directory a fold, with logs and markers of the trainings.
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
        return self

    @property
    def scored_data(self) -> Path:
        """Data set directory whose photos are scored."""
        return self.predict_data or self.data
