"""``config.json`` in the run directory: the pipeline as it was read, and the versions that it ran with."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dataset_builders.errors import ConfigError, DataError
from dataset_builders.files import write_json
from launch.pipeline.config import PipelineConfig

__all__ = ["CONFIG_NAME", "RunRecord", "read_json", "read_record", "write_record"]

CONFIG_NAME = "config.json"
_REPORTED_VERSIONS = ("riskfuse", "llamafactory", "torch", "transformers", "peft", "deepspeed", "ray", "datasets")


@dataclass(frozen=True)
class RunRecord:
    """What ``config.json`` says: the pipeline, its text as it was written, versions of Python and of the libraries."""

    pipeline: PipelineConfig
    as_written: dict[str, Any]
    versions: dict[str, str]


def write_record(config: PipelineConfig) -> None:
    """Write ``config.json``, atomically."""

    def version(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    versions = {"python": platform.python_version(), "platform": sys.platform}
    versions |= {name: found for name in _REPORTED_VERSIONS if (found := version(name))}
    write_json(config.runs_dir / CONFIG_NAME, {"pipeline": config.model_dump(mode="json"), "versions": versions})


def read_record(run: Path) -> RunRecord:
    """Read ``config.json`` of a run directory.

    Raises:
        ConfigError: It is not a pipeline of this version.
        DataError: It is missing or damaged.
    """
    content = read_json(run / CONFIG_NAME)
    try:
        return RunRecord(
            PipelineConfig.model_validate(content["pipeline"]), content["pipeline"], content.get("versions", {})
        )
    except (KeyError, ValidationError) as error:
        raise ConfigError(
            f"{run / CONFIG_NAME}: not a pipeline of this version ({error}); run the pipeline again with it"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: The file is missing or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; the step that writes it has not been run") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); remove it and run the step that writes it again") from error
    if not isinstance(value, dict):
        raise DataError(
            f"{path}: expected a JSON object, got {type(value).__name__}; run the step that writes it again"
        )
    return value
