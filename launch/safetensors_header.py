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
        ConfigError: The file is no safetensors file, or it was cut short.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, size)))
    except (struct.error, ValueError) as error:
        raise ConfigError(f"{file}: no safetensors file ({error}); fetch or write it again") from error
    offsets = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
    expected = 8 + length + max((end for _, end in offsets.values()), default=0)
    if size < expected:
        raise ConfigError(f"{file}: has {size} of {expected} bytes, so it was cut short; fetch or write it again")
    return {name: end - begin for name, (begin, end) in offsets.items()}


def tensor_names(directory: Path) -> set[str]:
    """Names of all tensors in the safetensors files of a directory."""
    return {name for file in directory.glob("*.safetensors") for name in tensor_sizes(file)}
