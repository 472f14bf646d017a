"""Is the amplifier where it must be? Libraries drop or freeze a module that they do not know without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.files import file_sha256
from launch.safetensors_header import tensor_names

__all__ = ["CODE_NAME", "MODULE", "amplifier_section", "check_adapter", "check_code", "model_config"]

MODULE = (
    "hazard_amplifier"  # name of the module, of its section in config.json and of LLaMA-Factory's additional_target
)
CODE_NAME = "modeling_hazard_amplifier.py"


def model_config(directory: Path) -> dict[str, Any]:
    """``config.json`` of a model directory; empty when there is none, as for a hub name.

    Raises:
        ConfigError: It is no JSON, as after an interrupted copy.
    """
    file = directory / "config.json"
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise ConfigError(f"{file}: no JSON ({error}), perhaps half of a copy; copy or download it again") from None


def amplifier_section(directory: Path) -> dict[str, Any] | None:
    """The amplifier's section of ``config.json``; None when the model has no amplifier."""
    return model_config(directory).get(MODULE)


def check_code(directory: Path) -> None:
    """Refuse a prepared or exported model whose code is not what ``riskfuse amplify`` put there.

    Raises:
        ConfigError: The Python file is missing or was changed, or the directory brings other code.
    """
    section = amplifier_section(directory)
    if section is None:
        return
    remedy = "prepare it again with riskfuse amplify, or export it again"
    code = directory / CODE_NAME
    if not code.is_file():
        raise ConfigError(f"{directory}: has an amplifier, but {CODE_NAME} is missing; {remedy}")
    if file_sha256(code) != section.get("code_sha256"):
        raise ConfigError(f"{code}: differs from what config.json names as its content, so it is not run; {remedy}")
    sources = {str(name).split(".")[0] for name in model_config(directory).get("auto_map", {}).values()}
    if sources != {code.stem}:
        raise ConfigError(
            f"{directory}: auto_map names {', '.join(sorted(sources)) or 'nothing'}, not {code.stem}; {remedy}"
        )


def check_adapter(model: Path, adapter: Path | None) -> None:
    """Refuse an adapter without the module on a model that has it, and the other way round.

    Raises:
        ConfigError: One has the amplifier, the other one has not.
    """
    if adapter is None or not (adapter / "adapter_model.safetensors").is_file():
        return
    model_has = amplifier_section(model) is not None  # a hub name has none: its code would be foreign
    adapter_has = any(MODULE in name.split(".") for name in tensor_names(adapter))
    if model_has and not adapter_has:
        raise ConfigError(
            f"{adapter}: expected the trained {MODULE} of {model}, got an adapter without it: training had frozen "
            f"it. Set 'additional_target: {MODULE}' in the recipe and train again"
        )
    if adapter_has and not model_has:
        raise ConfigError(
            f"{adapter}: holds a trained {MODULE}, but {model} has no such module and would drop it; set "
            "model_name_or_path to the model that riskfuse amplify prepared"
        )
