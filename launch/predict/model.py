"""Loads model, tokenizer, processor and template through LLaMA-Factory, the way its training does."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from launch.amplifier.guards import MODULE, amplifier_section, check_adapter, check_code, model_config
from launch.predict.fingerprint import model_files

__all__ = ["LoadedModel", "ModelSpec", "check_base", "load_for_prediction", "load_tokenizer_and_template"]


@dataclass(frozen=True)
class ModelSpec:
    """Which model to load, in plain values that travel to Ray workers.

    Attributes:
        model: Directory or hub name of the base or merged model.
        adapter: Adapter directory, or None.
        preprocessing: The recipe's keys for LLaMA-Factory (template, pixel budget, trust_remote_code, …).
        device: ``cpu`` or ``cuda``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        threads: CPU threads of the process, >= 1.
    """

    model: str
    adapter: str | None
    preprocessing: dict[str, Any]
    device: str
    dtype: str
    threads: int


@dataclass(frozen=True)
class LoadedModel:
    """What LLaMA-Factory's loaders return, ready for evaluation.

    Attributes:
        model: The network, in eval mode, adapter merged, without gradients.
        tokenizer: Its tokenizer, as training uses it.
        processor: Image processor and pixel budget.
        template: LLaMA-Factory's chat template with its multimodal plugin.
        device: ``cpu`` or ``cuda``.
    """

    model: Any
    tokenizer: Any
    processor: Any
    template: Any
    device: str


def load_for_prediction(spec: ModelSpec) -> LoadedModel:
    """Load a model for scoring.

    Raises:
        ConfigError: A directory is missing, the template is unknown, the model takes no photos, the adapter belongs to
            another base, or the amplifier would be dropped, is untrained, or runs changed code.
    """
    check_code(Path(spec.model))
    check_adapter(Path(spec.model), None if spec.adapter is None else Path(spec.adapter))
    check_base(spec.model, spec.adapter)
    _set_environment(spec)
    import torch

    torch.set_num_threads(spec.threads)
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import get_infer_args
    from llamafactory.model import load_model, load_tokenizer

    arguments: dict[str, Any] = {
        **spec.preprocessing,
        "model_name_or_path": spec.model,
        "finetuning_type": "lora",
        # The scorer brings its own attention mask, which flash-attention kernels do not take.
        "flash_attn": "sdpa",
    }
    if spec.adapter is not None:
        arguments["adapter_name_or_path"] = spec.adapter
    try:
        model_args, data_args, finetuning_args, _ = get_infer_args(arguments)
        model_args.device_map = {"": torch.device(spec.device)}  # one whole model a worker
        module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
        model = load_model(module["tokenizer"], model_args, finetuning_args, is_trainable=False)
    except (OSError, ValueError, RuntimeError) as error:  # PyTorch's RuntimeError: tensors of other shapes
        raise ConfigError(f"cannot load the model {spec.model!r} (adapter {spec.adapter!r}): {error}") from error
    if module["processor"] is None:
        raise ConfigError(f"{spec.model}: has no image processor; a vision-language model is needed")
    _check_class(model, spec)
    if getattr(model, "is_quantized", False):
        # Packed weights keep the types that they were loaded with; bitsandbytes has put them on the device.
        if spec.dtype != "auto":
            raise ConfigError(f"--dtype {spec.dtype}: the recipe's quantization_bit decides the weights; leave it out")
    else:
        try:
            model = model.to(device=spec.device, dtype=_number_type(spec, model))
        except RuntimeError as error:  # PyTorch's OutOfMemoryError is one
            raise ConfigError(f"{spec.model}: does not go to {spec.device}: {error}") from error
    model.eval()
    return LoadedModel(model, module["tokenizer"], module["processor"], template, spec.device)


def check_base(model: str, adapter: str | None) -> None:
    """Refuse an adapter that was trained on another base: with the same shapes it would load, and answer nonsense.

    The adapter's ``base_model_name_or_path`` is held against the model: two directories by their weights and
    amplifiers, two hub names by their text. A directory and a hub name, or a directory that is gone, cannot be compared
    and pass.

    Raises:
        ConfigError: It names another model.
    """
    file = Path(adapter or "") / "adapter_config.json"
    if adapter is None or not file.is_file():
        return
    trained_on = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") or model
    if trained_on == model or Path(trained_on).is_dir() != Path(model).is_dir():
        return
    local = Path(model).is_dir()
    # Without either directory: that of another machine says nothing, a hub name does.
    differs = _weights(trained_on) != _weights(model) if local else not Path(trained_on).is_absolute()
    if differs:
        raise ConfigError(
            f"{adapter}: was trained on {trained_on}, not on {model}; name the right adapter with --adapter, set "
            "model_name_or_path in the recipe, or train again"
        )


def _weights(model: str) -> dict[str, Any]:
    """The weights' identities, and the amplifier's options: its strength is in no tensor."""
    files = {name: one for name, one in model_files(model).items() if name.endswith((".safetensors", ".bin"))}
    return files | {MODULE: amplifier_section(Path(model))}


def load_tokenizer_and_template(model: str, preprocessing: dict[str, Any]) -> tuple[Any, Any]:
    """LLaMA-Factory's tokenizer and chat template alone, without the weights.

    Raises:
        ConfigError: There is no tokenizer, or the template is unknown.
    """
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import get_infer_args
    from llamafactory.model import load_tokenizer

    try:
        model_args, data_args, _, _ = get_infer_args({**preprocessing, "model_name_or_path": model})
        tokenizer = load_tokenizer(model_args)["tokenizer"]
        return tokenizer, get_template_and_fix_tokenizer(tokenizer, data_args)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the tokenizer of {model!r}: {error}") from error


def _set_environment(spec: ModelSpec) -> None:
    os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "ERROR")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_NUM_THREADS", str(spec.threads))
    if spec.device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _number_type(spec: ModelSpec, model: Any) -> Any:
    import torch

    if spec.dtype != "auto":
        return getattr(torch, spec.dtype)
    # CPUs without bfloat16 units run it eight times slower than float32.
    return torch.float32 if spec.device == "cpu" else model.dtype


def _check_class(model: Any, spec: ModelSpec) -> None:
    """A checkpoint that names its own class must be loaded as that class: the plain one drops modules silently."""
    remote = model_config(Path(spec.model)).get("auto_map", {})
    wanted = {str(name).rsplit(".", 1)[-1] for key, name in remote.items() if key.startswith("AutoModel")}
    if wanted and type(model).__name__ not in wanted:
        raise ConfigError(
            f"{spec.model}: expected the class {' or '.join(sorted(wanted))}, got {type(model).__name__}; "
            "set 'trust_remote_code: true' in the recipe"
        )
