"""The YAML of ``riskfuse run``: which data, which recipes, where the results go."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from dataset_builders.config_file import FrozenModel, read_config
from dataset_builders.task_card import BASE

__all__ = [
    "Amplifier",
    "Decision",
    "Inference",
    "Mining",
    "PipelineConfig",
    "Prepare",
    "SpecialistStage",
    "Stage",
    "Training",
    "load_pipeline_config",
]


# Options of ``riskfuse predict`` that ``riskfuse out-of-fold`` has too.
_FOLD_OPTIONS = ("--batch-size", "--shard-size")


class Prepare(FrozenModel):
    """A command that makes the photos, run before everything else; leave it out when the photos are there.

    Attributes:
        command: ``riskfuse …`` or ``python -m …`` as a list of words; both run with the current Python.
        inputs: Files whose change makes the command run again.
        outputs: Files that exist when it is done.
    """

    command: Annotated[tuple[str, ...], Field(min_length=2)]
    inputs: tuple[Path, ...] = ()
    outputs: Annotated[tuple[Path, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _known_program(self) -> Prepare:
        if self.command[0] not in ("riskfuse", "python"):
            raise ValueError(f"command starts with {self.command[0]!r}; it must be riskfuse or python")
        return self


class Amplifier(FrozenModel):
    """How ``riskfuse amplify`` prepares a stage's base model.

    Attributes:
        options: Further options of ``riskfuse amplify`` as a list of words.
    """

    options: tuple[str, ...] = ()


class Stage(FrozenModel):
    """One of the models.

    Attributes:
        recipe: LLaMA-Factory recipe that trains it.
        overrides: Keys that replace the recipe's, the same as KEY=VALUE on LLaMA-Factory's command line.
            ``dataset_dir`` and ``output_dir`` are set by the pipeline.
        amplifier: Trains it on its base with a hazard amplifier, which a step before prepares; null trains without.
        splits: Splits that it is run on.
    """

    recipe: Path
    overrides: Annotated[dict[str, Any], Field(default_factory=dict)]
    amplifier: Amplifier | None = None
    splits: Annotated[tuple[Literal["train", "val", "test"], ...], Field(min_length=1)] = ("train", "val", "test")

    @model_validator(mode="after")
    def _free_keys(self) -> Stage:
        taken = sorted({"dataset_dir", "output_dir"} & set(self.overrides))
        if taken:
            raise ValueError(
                f"overrides sets {' and '.join(taken)}, which the pipeline itself sets from data and saves"
            )
        if missing := {"val", "test"} - set(self.splits):
            raise ValueError(f"splits lacks {' and '.join(sorted(missing))}; fusion is fitted on val and decides test")
        return self


class Mining(FrozenModel):
    """How ``riskfuse specialist`` is started.

    Attributes:
        options: Further options of ``riskfuse specialist`` as a list of words.
    """

    options: tuple[str, ...] = ()


class SpecialistStage(Stage):
    """A second look.

    Attributes:
        splits: As in ``Stage``; nothing is learnt from what a specialist says about its own training photos.
        mining: How its set is made.
    """

    splits: Annotated[tuple[Literal["train", "val", "test"], ...], Field(min_length=1)] = ("val", "test")
    mining: Mining = Mining()


class Training(FrozenModel):
    """How training is started.

    Attributes:
        processes: Processes on this machine; null means one a GPU, by LLaMA-Factory's own choice.
        profile: Hardware profile for all stages; a stage's own ``overrides`` come after it.
    """

    processes: PositiveInt | None = None
    profile: Path | None = None


class Inference(FrozenModel):
    """How ``riskfuse predict`` is started.

    Attributes:
        engine: ``ray`` or ``local``.
        workers: Ray actors.
        options: Further options of ``riskfuse predict`` as a list of words.
    """

    engine: Literal["ray", "local"] = "ray"
    workers: PositiveInt = 1
    options: tuple[str, ...] = ()


class Decision(FrozenModel):
    """How ``riskfuse fuse`` is started.

    Attributes:
        options: Further options of ``riskfuse fuse`` as a list of words.
    """

    options: tuple[str, ...] = ()


class PipelineConfig(FrozenModel):
    """A pipeline. Paths are relative to the current directory, which should be the repository's root.

    Attributes:
        name: Names the directories below; two pipelines with different names never touch each other's results.
        task: The task card.
        prepare: How the photos are made.
        data: Build config; its ``out`` is the data set directory.
        augment: Augmentation policy; every stage is then trained on the copies too, from the directory ``out`` with
            ``_augmented`` behind its name. The policy's own ``dataset`` and ``out`` are not used.
        base: The generalist.
        specialists: The second looks by the task card's names. A specialist of the card that is not listed takes no
            part.
        out_of_fold: Every stage is also trained once for each fold but the validation fold, without that fold:
            negatives are mined and fusion is fitted on photos that the scoring model has not seen. It costs a training
            for each stage and fold.
        training: How training is started.
        inference: How prediction is started.
        decision: How fusion is started.
        fitted: Fusion directory of a finished run: its models (in ``saves``) and its fusion grade the test photos of
            ``data``, and nothing is trained or fitted. ``riskfuse grade`` writes such a pipeline.
        saves: Adapters; ``saves/NAME`` when null.
        predictions: Predictions; ``predictions/NAME`` when null.
        runs: Markers, logs, resolved recipes, fusion and submission; ``runs/NAME`` when null.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    task: Path
    prepare: Prepare | None = None
    data: Path
    augment: Path | None = None
    base: Stage
    specialists: Annotated[dict[str, SpecialistStage], Field(min_length=1)]
    out_of_fold: bool = False
    training: Training = Training()
    inference: Inference = Inference()
    decision: Decision = Decision()
    fitted: Path | None = None
    saves: Path | None = None
    predictions: Path | None = None
    runs: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _several_specialists(cls, values: Any) -> Any:
        if isinstance(values, dict) and (moved := {"specialist", "mining"} & set(values)):
            raise ValueError(
                f"{' and '.join(sorted(moved))}: write `specialists: {{NAME: {{recipe: …, overrides: …, splits: …, "
                "mining: …}}`, where NAME is the specialist's name in the task card"
            )
        return values

    @model_validator(mode="after")
    def _options_of_the_folds(self) -> PipelineConfig:
        strange = [word for word in self.inference.options if word.startswith("--") and word not in _FOLD_OPTIONS]
        if self.out_of_fold and strange:
            raise ValueError(
                f"inference.options holds {', '.join(strange)}, which riskfuse out-of-fold does not know; with "
                f"out_of_fold use only {' and '.join(_FOLD_OPTIONS)}"
            )
        return self

    @model_validator(mode="after")
    def _nothing_to_fit(self) -> PipelineConfig:
        given = [name for name in ("augment", "out_of_fold") if getattr(self, name)]
        given += ["decision"] if self.decision.options else []
        if self.fitted is not None and given:
            raise ValueError(f"fitted: nothing is trained or fitted, so {' and '.join(given)} must be left out")
        return self

    def stage(self, name: str) -> Stage:
        """The stage with this name: ``base`` or a specialist's."""
        return self.base if name == BASE else self.specialists[name]

    @cached_property
    def saves_dir(self) -> Path:
        """Directory of the adapters, one sub-directory a stage."""
        return self.saves or Path("saves") / self.name

    @cached_property
    def predictions_dir(self) -> Path:
        """Directory of the predictions, one sub-directory a stage."""
        return self.predictions or Path("predictions") / self.name

    @cached_property
    def runs_dir(self) -> Path:
        """Directory of markers, logs, resolved recipes, fusion and submission."""
        return self.runs or Path("runs") / self.name


def load_pipeline_config(path: str | Path) -> PipelineConfig:
    """Read and check a pipeline.

    Raises:
        ConfigError: The file is missing, is no YAML or breaks a rule; every finding is in the message.
    """
    path = Path(path)
    return read_config(Path(path), PipelineConfig, "pipeline", "recipes/README.md lists the shipped ones")
