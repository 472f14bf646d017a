"""The YAML of ``riskfuse augment``: which data set, how many copies of each class, by which transforms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from dataset_builders.config_file import FrozenModel, read_config
from dataset_builders.errors import ConfigError

__all__ = ["AugmentConfig", "OneOf", "Transform", "by_label", "load_augment_config"]

Share = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=2)]
Value = TypeVar("Value")
DEFAULT = "default"


class Transform(BaseModel):
    """One transform: a class of albumentations or of VL-ADAS, with its own parameters beside these fields.

    Attributes:
        transform: Name of the class, such as ``Perspective`` or ``SemanticColorJitter``.
        p: Probability that it is applied to a copy.
        by_strength: Parameters that grow with the class's strength: name -> [value at strength 0, value at strength 1].
            Both values have the same shape (a number, or nested lists of numbers) and are interpolated element by
            element; whole numbers stay whole, and odd ones odd (kernel sizes must be).
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    transform: str
    p: Share = 1.0
    by_strength: dict[str, tuple[Any, Any]] = {}

    @model_validator(mode="after")
    def _no_parameter_twice(self) -> Transform:
        twice = sorted(set(self.by_strength) & set(self.parameters))
        if twice:
            raise ValueError(f"{self.transform}: {', '.join(twice)} stands beside and in by_strength; keep one")
        for name, (weak, strong) in self.by_strength.items():
            if _shape(weak) != _shape(strong):
                raise ValueError(f"{self.transform}: by_strength.{name}: {weak} and {strong} differ in shape")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters that do not depend on the strength."""
        return dict(self.__pydantic_extra__ or {})

    def parameters_at(self, strength: float) -> dict[str, Any]:
        """All parameters for a strength."""
        grown = {name: _interpolate(weak, strong, strength) for name, (weak, strong) in self.by_strength.items()}
        return self.parameters | grown


class OneOf(FrozenModel):
    """A choice: with probability ``p`` one of the transforms is applied, picked in proportion to their own ``p``."""

    one_of: Annotated[tuple[Transform, ...], Field(min_length=2)]
    p: Share = 1.0


class AugmentConfig(FrozenModel):
    """An augmented data set.

    Attributes:
        task: The task card.
        dataset: Complete data set directory whose training photos get copies.
        out: Data set directory that is written: the same photos, and the copies.
        seed: Decides everything random.
        rows: Wanted rows of every class in ``train.json``, or of the classes named by label id; a class that has more
            photos keeps one row a photo. None: as many rows as the data set has.
        copies: Share of a class's rows that are augmented copies: one value, or by label id with ``default``. One share
            for all classes is the safe choice: where only the rare class is augmented, the traces of augmentation
            (a soft photo, a painted border) predict the label.
        strength: 0 (weakest) to 1 (full; up to 2): one value, or by label id with ``default``.
        jpeg_quality: Of the copies.
        workers: Processes; the number changes no byte of the result.
        transforms: Applied in this order to every copy.
    """

    task: Path
    dataset: Path
    out: Path
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    rows: PositiveInt | dict[str, PositiveInt] | None = None
    copies: Share | dict[str, Share] = 0.5
    strength: Strength | dict[str, Strength] = 1.0
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 92
    workers: Annotated[int, Field(ge=1, le=1024)] = 2
    transforms: Annotated[tuple[Transform | OneOf, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _two_directories(self) -> AugmentConfig:
        out, dataset = self.out.resolve(), self.dataset.resolve()
        if out == dataset or out.is_relative_to(dataset) or dataset.is_relative_to(out):
            raise ValueError(f"out ({self.out}) and dataset ({self.dataset}) must be two directories, side by side")
        return self

    def with_changes(self, changes: Mapping[str, Any]) -> AugmentConfig:
        """The same policy with other values of some fields.

        Raises:
            ConfigError: A value breaks a rule.
        """
        try:
            return AugmentConfig.model_validate({**self.model_dump(), **changes})
        except ValidationError as error:
            raise ConfigError(f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None

    def content(self) -> dict[str, Any]:
        """What decides the result, as JSON values: everything but directories and ``workers``."""
        return self.model_dump(mode="json", exclude={"dataset", "out", "workers"})


def by_label(value: Value | Mapping[str, Value], label_id: str, otherwise: Value) -> Value:
    """The value for a label: its own, else the mapping's ``default``, else ``otherwise``."""
    if isinstance(value, Mapping):
        return value.get(label_id, value.get(DEFAULT, otherwise))
    return value


def load_augment_config(path: str | Path) -> AugmentConfig:
    """Read and check an augmentation policy. Paths in it are relative to the current directory.

    Raises:
        ConfigError: The file is missing, is no YAML or breaks a rule; every finding is in the message.
    """
    return read_config(Path(path), AugmentConfig, "augmentation policy", "the shipped ones are in recipes/augment/")


def _shape(value: Any) -> Any:
    return [_shape(item) for item in value] if isinstance(value, list | tuple) else isinstance(value, int | float)


def _interpolate(weak: Any, strong: Any, strength: float) -> Any:
    if isinstance(weak, list | tuple):
        return tuple(_interpolate(a, b, strength) for a, b in zip(weak, strong, strict=True))
    value = weak + (strong - weak) * strength
    if not (isinstance(weak, int) and isinstance(strong, int)):
        return value
    if weak % 2 and strong % 2:
        return weak + 2 * round((value - weak) / 2)
    return round(value)
