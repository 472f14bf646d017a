"""Prepares a checkpoint directory with an amplifier: the base's weights are linked, the module's are added."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.files import content_hash, file_sha256, link_or_copy, write_json
from launch.amplifier.guards import CODE_NAME, MODULE, amplifier_section, model_config
from launch.amplifier.options import AmplifierOptions
from launch.predict.fingerprint import model_files
from launch.safetensors_header import tensor_sizes

__all__ = ["CLASS_NAME", "prepare_checkpoint"]

CLASS_NAME = "AmplifiedQwen2_5_VLForConditionalGeneration"
MODEL_TYPE = "qwen2_5_vl"
CODE = Path(__file__).with_name(CODE_NAME)
INDEX = "model.safetensors.index.json"
# A single file of weights must not keep its name: transformers would read it and leave the index aside.
SINGLE, SINGLE_LINK, ADDED = "model.safetensors", "base.safetensors", f"{MODULE}.safetensors"
_REMEDY = "download the checkpoint again, or convert its weights to safetensors"
_LEFT_OUT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".md"})


def prepare_checkpoint(base: str | Path, out: Path, options: AmplifierOptions) -> bool:
    """Write ``out``: the model of ``base`` with an amplifier that does nothing yet.

    The directory appears whole, under its name, when all is in it.

    Args:
        base: Directory of a Qwen2.5-VL checkpoint, one safetensors file or several with an index.
        out: Directory to write, on the file system of ``base`` for hard links; symbolic links otherwise.
        options: Of the amplifier.

    Returns:
        False when ``out`` was there already, made from the same base with the same options and code.

    Raises:
        ConfigError: ``base`` is no such checkpoint, or ``out`` holds something else.
    """
    base = Path(base)
    config = _base_config(base)
    section = {
        **options.model_dump(),
        "base_sha256": content_hash(model_files(str(base))),
        "code_sha256": file_sha256(CODE),
    }
    if out.exists():
        if amplifier_section(out) == section:
            return False
        raise ConfigError(
            f"{out}: exists already, and is not this base with these options and this code; adapters may have been "
            "trained on it. Name another directory, or remove it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed run left
    temporary.mkdir()
    try:
        _link_small_files(base, temporary)
        sizes = _link_weights(base, temporary)
        _write_initial_weights(temporary / ADDED, config, options)
        _write_index(temporary, sizes | {ADDED: tensor_sizes(temporary / ADDED)})
        shutil.copyfile(CODE, temporary / CODE_NAME)
        auto_map = {"AutoModelForImageTextToText": f"{CODE.stem}.{CLASS_NAME}"}
        write_json(
            temporary / "config.json", config | {"architectures": [CLASS_NAME], "auto_map": auto_map, MODULE: section}
        )
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _base_config(base: Path) -> dict[str, Any]:
    if not base.is_dir():
        raise ConfigError(
            f"{base}: no such directory. The name of a model on a hub must be downloaded first, for example "
            f"`hf download {base} --local-dir models/{base.name}`; then name that directory"
        )
    config = model_config(base)
    kind = config.get("model_type")
    if kind != MODEL_TYPE:
        raise ConfigError(f"{base}: expected a checkpoint of model_type {MODEL_TYPE!r}, got {kind!r}")
    if MODULE in config or "auto_map" in config:
        raise ConfigError(f"{base}: has a class of its own already; name the plain checkpoint")
    if "quantization_config" in config:
        raise ConfigError(f"{base}: is quantised; name the plain checkpoint and set quantization_bit in the recipe")
    return config


def _link_small_files(base: Path, directory: Path) -> None:
    """Tokenizer, processor, licence: all that is neither weights, index, config nor a card that describes the base."""
    for file in sorted(base.iterdir()):
        named = file.name.startswith(".") or file.name == "config.json" or file.name.endswith(".index.json")
        if file.is_file() and not named and file.suffix not in _LEFT_OUT_SUFFIXES:
            link_or_copy(file, directory / file.name)


def _link_weights(base: Path, directory: Path) -> dict[str, dict[str, int]]:
    """Link the base's weights; returns file name → tensor name → bytes."""
    files = _weight_files(base)
    for name, file in files.items():
        target = file.resolve()
        try:
            os.link(target, directory / name)
        except OSError:  # another file system: gigabytes are not copied
            (directory / name).symlink_to(target)
    return {name: tensor_sizes(file) for name, file in files.items()}


def _weight_files(base: Path) -> dict[str, Path]:
    """The files that transformers would read, by the name of their link.

    Raises:
        ConfigError: There are none, or files or tensors that the index names are missing: transformers would fill
            them with random numbers, since the prepared directory gets an index of its own.
    """
    if (single := base / SINGLE).is_file():
        return {SINGLE_LINK: single}
    index = base / INDEX
    if not index.is_file():
        raise ConfigError(f"{base}: expected {SINGLE}, or {INDEX} and the files that it names, got neither; {_REMEDY}")
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{index}: not readable ({error!r}); {_REMEDY}") from error
    files = {name: base / name for name in sorted(set(weight_map.values()))}
    if missing := [name for name, file in files.items() if not file.is_file()]:
        raise ConfigError(f"{base}: lacks {', '.join(missing)}, which {INDEX} names; {_REMEDY}")
    held = {name: tensor_sizes(file) for name, file in files.items()}
    if lost := sorted(tensor for tensor, name in weight_map.items() if tensor not in held[name]):
        raise ConfigError(f"{base}: the files lack {len(lost)} tensors that {INDEX} names, {lost[0]} first; {_REMEDY}")
    return files


def _write_initial_weights(file: Path, config: dict[str, Any], options: AmplifierOptions) -> None:
    import torch
    from safetensors.torch import save_file

    from launch.amplifier.modeling_hazard_amplifier import HazardAmplifier

    size = (config.get("text_config") or config)["hidden_size"]
    module = HazardAmplifier(size, options.queries, options.width, options.strength)
    module.reset_parameters(torch.Generator().manual_seed(options.seed))
    tensors = {f"{MODULE}.{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, file, metadata={"format": "pt"})


def _write_index(directory: Path, sizes: dict[str, dict[str, int]]) -> None:
    weight_map = {tensor: name for name, tensors in sizes.items() for tensor in tensors}
    total = sum(size for tensors in sizes.values() for size in tensors.values())
    write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})
