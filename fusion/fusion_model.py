"""``fusion.json``: everything needed to apply the fusion again, and what it was fitted on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dataset_builders.errors import DataError
from dataset_builders.files import write_json
from fusion.fit import Calibration, Decision
from fusion.guard import Guard
from fusion.review import ReviewModel
from fusion.systems import Applied, Parameters, apply_parameters

__all__ = ["MODEL_NAME", "FittedOn", "FusionModel", "SecondLooks", "load_fusion_model"]

MODEL_NAME = "fusion.json"


class SecondLooks(BaseModel):
    """What one specialist contributed to the fit.

    Attributes:
        rows: How many of the rows it answered.
        positives: How many of the rows have one of its targets.
        fingerprint: Of its predictions.
        prior_source: Where its training prior comes from: a file's name, or ``fitted``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: Annotated[int, Field(ge=0)]
    positives: Annotated[int, Field(ge=0)]
    fingerprint: str
    prior_source: str


class FittedOn(BaseModel):
    """Where the parameters come from.

    Attributes:
        mode: ``one split``, the validation split alone; or ``out of fold``, all folds with held-out models.
        rows: Labelled rows that the base model answered.
        rows_hash: SHA-256 of their sample ids and labels.
        task_hash: SHA-256 of the task card.
        base_fingerprint: Of the base model's predictions.
        second_looks: By specialist.
        components: By stage, what the fingerprint of its predictions is of; empty in files of earlier versions.
        held_out: Hash of the fingerprints of the folds' predictions, by stage; empty when fitted on one split.
        seed: Seed of the cross-fitting and of all intervals.
        folds: Folds of the cross-fitting.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["one split", "out of fold"]
    rows: Annotated[int, Field(ge=1)]
    rows_hash: str
    task_hash: str
    base_fingerprint: str
    second_looks: dict[str, SecondLooks]
    components: dict[str, dict[str, Any]] = {}
    held_out: dict[str, str]
    seed: int
    folds: int


class FusionModel(BaseModel):
    """A fitted fusion.

    Attributes:
        version: Version of this file's layout.
        task: Name of the task.
        labels: Label identifiers; the order of all columns and offsets.
        targets: Labels that each specialist speaks about, by its name.
        parameters: Calibrators, coefficients, offsets.
        decisions: Chosen decision of ``base`` and of ``fused``.
        review: Calibrator of the fused probabilities and thresholds of the prediction sets.
        guard: Whether fusion pays, and so whether fused or base is submitted.
        calibration: Cross-fitted reliability on the rows of the fit, by stage.
        fitted_on: Where the parameters come from.
        notes: What the user should know about the fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    version: Literal[3] = 3
    task: str
    labels: tuple[str, ...]
    targets: dict[str, tuple[str, ...]]
    parameters: Parameters
    decisions: dict[str, Decision]
    review: ReviewModel
    guard: Guard
    calibration: dict[str, Calibration]
    fitted_on: FittedOn
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> FusionModel:
        sizes = {len(self.labels), len(self.parameters.base_offsets), len(self.parameters.fused_offsets)}
        if len(sizes) > 1:
            raise ValueError(f"labels, base_offsets and fused_offsets must be equally many, got {sorted(sizes)}")
        if set(self.decisions) != {"base", "fused"}:
            raise ValueError(f"decisions must hold base and fused, got {sorted(self.decisions)}")
        if set(self.targets) != (names := {specialist.name for specialist in self.parameters.specialists}):
            raise ValueError(f"targets are of {sorted(self.targets)}, parameters of {sorted(names)}")
        if unknown := {label for targets in self.targets.values() for label in targets} - set(self.labels):
            raise ValueError(f"targets {sorted(unknown)} are not among the labels {self.labels}")
        return self

    @property
    def submitted(self) -> str:
        """Name of the system whose labels are submitted."""
        system = "fused" if self.guard.submits_fused else "base"
        return f"{system}_{self.decisions[system]}"

    @property
    def targets_SK(self) -> NDArray[np.bool_]:  # noqa: N802 - an array's name carries its axes
        """True for the targets of each specialist, in the order of the parameters and of ``labels``."""
        return np.array([[k in self.targets[s.name] for k in self.labels] for s in self.parameters.specialists])

    def apply(self, base_logps_NK: NDArray[np.float64], looks_SN2: NDArray[np.float64]) -> Applied:
        """All systems' answers for N photos; failed rows are NaN. See ``fusion.systems.apply_parameters``."""
        return apply_parameters(self.parameters, base_logps_NK, looks_SN2, self.targets_SK)

    def save(self, path: Path) -> None:
        """Write the model, atomically; infinity is written as the text ``Infinity``, for JSON has no such number."""
        write_json(path, json.loads(self.model_dump_json()))


def load_fusion_model(path: str | Path) -> FusionModel:
    """Read ``fusion.json``.

    Raises:
        DataError: The file is missing or not a fusion model of this version; every finding is in the message.
    """
    path = Path(path)
    try:
        return FusionModel.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; make it with `riskfuse fuse`") from None
    except ValidationError as error:
        findings = "\n".join(f"  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise DataError(f"{path}: not a fusion model of this version:\n{findings}") from None
