"""What decides a prediction, as hashes: model, adapter, prompt, answers, pixel budget, numerics and code versions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.files import content_hash, file_sha256

__all__ = ["adapter_files", "differences", "file_identity", "fingerprint", "library_versions", "model_files"]

WHOLE_UP_TO_BYTES = 1 << 30
EDGE_BYTES = 1 << 20
_MODEL_SUFFIXES = frozenset({".safetensors", ".bin", ".json", ".txt", ".jinja", ".py", ".model"})
_ADAPTER_NAMES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
# LLaMA-Factory's records of the training run lie beside a merged or fully tuned model and change nothing.
_TRAINING_RECORDS = frozenset(
    {"trainer_state.json", "trainer_log.jsonl", "all_results.json", "train_results.json", "eval_results.json"}
)
_LIBRARIES = ("riskfuse", "llamafactory", "transformers", "tokenizers", "peft", "torch", "pillow", "pyarrow")


def file_identity(path: Path) -> str:
    """SHA-256 of a file's bytes; of size, first and last MiB for files over 1 GiB, marked ``edges:``.

    Weights of that size come from a hub or a training run, which never change a file in place; hashing them
    whole would take longer than loading them.
    """
    size = path.stat().st_size
    if size <= WHOLE_UP_TO_BYTES:
        return file_sha256(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(EDGE_BYTES))
        file.seek(size - EDGE_BYTES)
        digest.update(file.read(EDGE_BYTES))
    return f"edges:{digest.hexdigest()}"


def model_files(model: str, revision: str | None = None) -> dict[str, str]:
    """File name → identity for a model directory; for a hub name, the name and revision stand for the content."""
    directory = Path(model)
    if not directory.is_dir():
        return {"hub": f"{model}@{revision or 'main'}"}
    found = {
        file.name: file_identity(file)
        for file in sorted(directory.iterdir())
        if file.is_file() and file.suffix in _MODEL_SUFFIXES and file.name not in _TRAINING_RECORDS
    }
    if not any(name.endswith((".safetensors", ".bin")) for name in found):
        raise ConfigError(f"{model}: holds no weights (*.safetensors); expected a model directory")
    return found


def adapter_files(adapter: str | None) -> dict[str, str]:
    """File name → identity for an adapter directory; empty when there is no adapter.

    Raises:
        ConfigError: The directory holds no adapter.
    """
    if adapter is None:
        return {}
    directory = Path(adapter)
    found = {name: file_identity(directory / name) for name in _ADAPTER_NAMES if (directory / name).is_file()}
    if len(found) < 2:
        raise ConfigError(
            f"{adapter}: expected {_ADAPTER_NAMES[0]} and {_ADAPTER_NAMES[1]}, got "
            f"{', '.join(found) or 'neither'}; train first (llamafactory-cli train RECIPE), name another directory "
            "with --adapter, or score the bare base with --adapter none"
        )
    return found


def library_versions(names: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Versions of RiskFuse and of the libraries that compute a prediction, or of some of them."""
    return {name: version(name) for name in names}


def fingerprint(components: dict[str, Any]) -> str:
    """SHA-256 over all components."""
    return content_hash(components)


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Which components differ, in words: ``batch_size (16 there, 8 now), adapter``."""
    parts = []
    for key in sorted(old.keys() | new.keys()):
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        short = all(isinstance(value, str | int) and len(str(value)) <= 40 for value in (before, now))
        parts.append(f"{key} ({before} there, {now} now)" if short else key)
    return ", ".join(parts) or "the list of photos"
