"""The YAML of the DroneVehicle builder, and the rule that grades traffic density."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from dataset_builders.config_file import FrozenModel, read_config
from dataset_builders.drone_vehicle.counts import ANSWER_FORMAT, VEHICLES
from dataset_builders.errors import ConfigError
from dataset_builders.task_card import Prompt, TaskCard, load_task_card

__all__ = ["DensityRule", "DroneVehicleConfig", "load_drone_vehicle_config"]


class DensityRule(FrozenModel):
    """Traffic density as an ordinal label: passenger car units in the frame, cut at thresholds.

    A passenger car unit (PCU, or passenger car equivalent) says how much of the road a vehicle takes, measured in cars;
    traffic engineering uses it to compare mixed traffic (Transportation Research Board, Highway Capacity Manual).

    Attributes:
        pcu: Vehicle class -> passenger car units of one vehicle, > 0.
        at_least: Label id -> smallest sum of a frame that gets this label. All labels of the card's ladder, in falling
            order; the last one is 0.
    """

    pcu: dict[str, Annotated[float, Field(gt=0)]]
    at_least: dict[str, Annotated[float, Field(ge=0)]]

    @model_validator(mode="after")
    def _complete(self) -> DensityRule:
        if sorted(self.pcu) != sorted(VEHICLES):
            raise ValueError(f"pcu names {', '.join(self.pcu)}; expected {', '.join(VEHICLES)}")
        bounds = list(self.at_least.values())
        if not bounds or bounds[-1] != 0 or any(low >= high for high, low in pairwise(bounds)):
            raise ValueError(f"at_least is {bounds}; expected falling numbers that end with 0")
        return self

    def units(self, counts: Mapping[str, int]) -> float:
        """Passenger car units of all vehicles of a frame."""
        return sum(self.pcu[name] * count for name, count in counts.items())

    def label(self, counts: Mapping[str, int]) -> str:
        """Label id of a frame with these counts."""
        units = self.units(counts)
        return next(label for label, bound in self.at_least.items() if units >= bound)


class DroneVehicleConfig(FrozenModel):
    """A data set made from a DroneVehicle tree.

    Attributes:
        task: Task card of the graded task.
        tree: Directory that holds ``train``, ``val`` and ``test``.
        out: Data set directory that is written.
        truth: Whose objects count. ``infrared`` is usual, since at night the RGB photo hides vehicles; ``merged`` adds
            the RGB objects that overlap no infrared one.
        density: The rule of the graded task.
        counts: Prompt of the counting task; ``{format}`` becomes the form of the answer.
        jpeg_quality: Cropped photos are written as PNG, exact to the pixel, when None; otherwise as JPEG of this
            quality, which is smaller.
        workers: Processes; the number changes no byte of the result.
    """

    task: Path
    tree: Path
    out: Path
    truth: Literal["infrared", "rgb", "merged"] = "infrared"
    density: DensityRule
    counts: Prompt
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] | None = None
    workers: Annotated[int, Field(ge=1, le=1024)] = 2

    @model_validator(mode="after")
    def _apart(self) -> DroneVehicleConfig:
        tree, out = self.tree.resolve(), self.out.resolve()
        if tree.is_relative_to(out) or out.is_relative_to(tree):
            raise ValueError(f"out ({self.out}) and tree ({self.tree}) lie in each other; a build clears out")
        return self

    @property
    def truth_modalities(self) -> tuple[str, ...]:
        """Whose annotations count, the leading one first."""
        return ("infrared", "rgb") if self.truth == "merged" else (self.truth,)

    @property
    def counts_prompt(self) -> Prompt:
        """The counting task's prompt with its placeholder filled in."""
        return Prompt(
            system=self.counts.system.strip().replace("{format}", ANSWER_FORMAT),
            user=self.counts.user.strip().replace("{format}", ANSWER_FORMAT),
        )

    def with_workers(self, workers: int) -> DroneVehicleConfig:
        """The same config with another number of processes.

        Raises:
            ConfigError: The number is out of range.
        """
        try:
            return DroneVehicleConfig.model_validate({**self.model_dump(), "workers": workers})
        except ValidationError as error:
            raise ConfigError(f"workers is {workers}: {error.errors()[0]['msg']}") from None

    def content(self) -> dict[str, Any]:
        """What decides the result, as JSON values: everything but ``out`` and ``workers``."""
        return self.model_dump(mode="json", exclude={"out", "workers"})


def load_drone_vehicle_config(path: Path) -> tuple[DroneVehicleConfig, TaskCard]:
    """Read and check a config and its task card. Paths are relative to the current directory.

    Raises:
        ConfigError: A file is missing, is no YAML or breaks a rule, or config and card do not fit together.
    """
    config = read_config(
        path, DroneVehicleConfig, "DroneVehicle config", "the shipped one is recipes/drone_vehicle.yaml"
    )
    card = load_task_card(config.task)
    ladder = [label.id for label in card.ladder]
    if list(config.density.at_least) != ladder:
        raise ConfigError(
            f"{path}: density.at_least names {', '.join(config.density.at_least)}; the ladder of {config.task} is "
            f"{', '.join(ladder)}, the densest first"
        )
    return config, card
