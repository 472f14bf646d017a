"""What a stability analysis needs to know: flags of the command, and the file of paraphrases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dataset_builders.config_file import FrozenModel
from dataset_builders.task_card import Identifier, Prompt
from launch.predict.views import Views

__all__ = ["Paraphrase", "ParaphraseFile", "StabilityConfig"]

Dtype = Literal["float32", "bfloat16", "float16"]


class Paraphrase(Prompt):
    """Another way to ask the same: ``system`` and ``user`` as in the task card, with its placeholders.

    Attributes:
        name: Names the variation.
    """

    name: Identifier


class ParaphraseFile(FrozenModel):
    """The YAML file of ``--paraphrases``.

    Attributes:
        paraphrases: At least one, for the stage that is analysed.
    """

    paraphrases: Annotated[tuple[Paraphrase, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names(self) -> ParaphraseFile:
        names = [paraphrase.name for paraphrase in self.paraphrases]
        if len(set(names)) < len(names):
            raise ValueError(f"paraphrases must have different names, got {', '.join(names)}")
        return self


class StabilityConfig(FrozenModel):
    """One analysis. Of each list the first entry belongs to the reference; every other one is a variation of it.

    Attributes:
        recipe: Training recipe, as for prediction.
        task: Task card.
        stage: Stage of the card.
        data: Data set directory.
        out: Directory of the report and of all predictions.
        split: Split whose photos are predicted.
        photos: How many of its photos, drawn at random with every label at its share; all when None.
        adapters: Adapter directories of several training seeds; the recipe's own when empty.
        batch_sizes: Photos in a forward pass.
        workers: Numbers of Ray actors; the reference and all other variations run in this process.
        dtypes: Number types of the weights.
        views: Test-time views.
        paraphrases: YAML file of other prompts.
        shard_size: Photos in a part file.
        device: Where the model runs.
        resamples: Bootstrap resamples of the intervals.
        seed: Seed of the draw and of the resamples.
    """

    recipe: Path
    task: Path
    stage: str
    data: Path
    out: Path
    split: str = "test"
    photos: Annotated[int, Field(ge=1)] | None = None
    adapters: tuple[str, ...] = ()
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (8, 1, 32)
    workers: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2)
    dtypes: Annotated[tuple[Dtype, ...], Field(min_length=1)] = ("float32", "bfloat16")
    views: Annotated[tuple[Views, ...], Field(min_length=1)] = ("none", "flip")
    paraphrases: Path | None = None
    shard_size: Annotated[int, Field(ge=1)] = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    resamples: Annotated[int, Field(ge=2)] = 2000
    seed: Annotated[int, Field(ge=0)] = 0
