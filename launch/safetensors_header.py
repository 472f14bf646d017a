"""Names and sizes of the tensors in safetensors files; only the headers are read."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from dataset_builders.errors import ConfigError

__all__ = ["tensor_names", "tensor_sizes"]


def tensor_sizes(file: Path) -> dict[str, int]:
    """Tensor name → bytes of a file (format: https://github.com/huggingface/safetensors#format).

    Raises:
        ConfigError: The file is no whole safetensors file.
    """
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
    except (struct.error, ValueError) as error:
        raise ConfigError(f"{file}: no safetensors file ({error}); fetch or write it again") from error
    offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    return {name: end - begin for name, (begin, end) in offsets.items()}


def tensor_names(directory: Path) -> set[str]:
    """Names of all tensors in the safetensors files of a directory."""
    return {name for file in directory.glob("*.safetensors") for name in tensor_sizes(file)}
