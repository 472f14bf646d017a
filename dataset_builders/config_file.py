"""Reads the YAML files that people write: one way to find them, to parse them and to say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dataset_builders.errors import ConfigError

__all__ = ["FrozenModel", "read_config", "read_yaml"]


class FrozenModel(BaseModel):
    """Base of all configurations: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, what: str, where: str) -> Any:
    """Parse a YAML file.

    Args:
        path: File to read, UTF-8.
        what: What it is, for messages: ``task card``.
        where: Where a person finds one: ``the shipped ones are in recipes/tasks/``.

    Raises:
        ConfigError: The file is missing or is no UTF-8 YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {what}; {where}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory; expected a {what}; {where}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as UTF-8 YAML: {error}") from error


def read_config(path: Path, model: type[Model], what: str, where: str) -> Model:
    """Parse a YAML file and check it; arguments as in ``read_yaml``.

    Raises:
        ConfigError: As ``read_yaml``, or the file breaks a rule of ``model``; every finding is in the message.
    """
    try:
        return model.model_validate(read_yaml(path, what, where))
    except ValidationError as error:
        findings = "\n".join(
            f"  {'.'.join(map(str, item['loc'])) or '(top level)'}: {item['msg']}" for item in error.errors()
        )
        raise ConfigError(f"{path}: not a valid {what}:\n{findings}") from None
