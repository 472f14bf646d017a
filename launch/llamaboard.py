"""A recipe as LlamaBoard, LLaMA-Factory's page, reads it: values of its fields by their names, all else as JSON.

LlamaBoard has defaults of its own where a recipe is silent, and adds arguments that no field shows. Every field is
written, so that its `Preview command` is the recipe: the same keys with the same values.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import yaml

from dataset_builders.errors import ConfigError
from dataset_builders.files import write_text
from launch.recipe import TrainingRecipe

__all__ = ["CONFIG_DIR", "config_name", "extra_arguments", "llamaboard_values", "write_llamaboard_config"]

CONFIG_DIR = "llamaboard_config"  # LlamaBoard looks for it in the directory where it was started

# Key of a recipe, name of its field, value of the empty field: a text field when that is a text.
_FIELDS: tuple[tuple[str, str, Any], ...] = (
    ("finetuning_type", "top.finetuning_type", ""),
    ("template", "top.template", ""),
    ("dataset_dir", "train.dataset_dir", ""),
    ("learning_rate", "train.learning_rate", ""),
    ("num_train_epochs", "train.num_train_epochs", ""),
    ("max_grad_norm", "train.max_grad_norm", ""),
    ("max_samples", "train.max_samples", str(10**9)),
    ("cutoff_len", "train.cutoff_len", 0),
    ("per_device_train_batch_size", "train.batch_size", 0),
    ("gradient_accumulation_steps", "train.gradient_accumulation_steps", 0),
    ("val_size", "train.val_size", 0),
    ("lr_scheduler_type", "train.lr_scheduler_type", ""),
    ("logging_steps", "train.logging_steps", 0),
    ("save_steps", "train.save_steps", 0),
    ("warmup_steps", "train.warmup_steps", 0),
    ("neftune_noise_alpha", "train.neftune_alpha", 0),
    ("packing", "train.packing", False),
    ("neat_packing", "train.neat_packing", False),
    ("train_on_prompt", "train.train_on_prompt", False),
    ("mask_history", "train.mask_history", False),
    ("resize_vocab", "train.resize_vocab", False),
    ("use_llama_pro", "train.use_llama_pro", False),
    ("enable_thinking", "train.enable_thinking", False),
    ("lora_rank", "train.lora_rank", 0),
    ("lora_dropout", "train.lora_dropout", 0),
    ("loraplus_lr_ratio", "train.loraplus_lr_ratio", 0),
    ("create_new_adapter", "train.create_new_adapter", False),
    ("use_rslora", "train.use_rslora", False),
    ("use_dora", "train.use_dora", False),
    ("additional_target", "train.additional_target", ""),
    ("freeze_vision_tower", "train.freeze_vision_tower", False),
    ("freeze_multi_modal_projector", "train.freeze_multi_modal_projector", False),
    ("freeze_language_model", "train.freeze_language_model", False),
    ("image_max_pixels", "train.image_max_pixels", ""),
    ("image_min_pixels", "train.image_min_pixels", ""),
    ("video_max_pixels", "train.video_max_pixels", ""),
    ("video_min_pixels", "train.video_min_pixels", ""),
)
# Keys with a field that is written in another way below.
_OTHERS = {
    "model_name_or_path", "stage", "do_train", "dataset", "lora_alpha", "lora_target", "report_to", "output_dir",
    "bf16", "fp16", "pure_bf16",
}  # fmt: skip
# LlamaBoard passes these with every training; its extra arguments come after them.
_ADDED = {
    "plot_loss": False,
    "trust_remote_code": False,
    "include_num_input_tokens_seen": False,
    "ddp_timeout": 1800,
}
_OVERWRITES = ("galore_", "apollo_", "badam_", "swanlab_", "pissa_", "freeze_trainable_", "freeze_extra_")
_RANGES = {"save_steps": range(10, 5001), "logging_steps": range(1, 1001), "warmup_steps": range(5001)}
_KEEPS_FALSE = {  # of all keys that are true by default
    "enable_thinking", "use_reentrant_gc", "double_quantization", "freeze_vision_tower", "freeze_multi_modal_projector"
}  # fmt: skip


def config_name(recipe: Path) -> str:
    """Name of a recipe's file in LlamaBoard: ``base.yaml``, ``tiny-base.yaml``."""
    parent = recipe.resolve().parent.name
    return f"{recipe.stem}.yaml" if parent == "recipes" else f"{parent}-{recipe.stem}.yaml"


def write_llamaboard_config(recipe: TrainingRecipe, name: str) -> Path:
    """Write a recipe for the LlamaBoard that is started in the current directory.

    The model's path is no part of such a file: LlamaBoard remembers one for each of the names in its list, in
    ``llamaboard_cache``. It is remembered here by LLaMA-Factory's own function, and the name is selected.

    Args:
        recipe: The recipe.
        name: Name of the file in ``llamaboard_config``.

    Returns:
        The file.

    Raises:
        ConfigError: The recipe is not one that LlamaBoard can show; all reasons are in the message.
    """
    from llamafactory.webui.common import save_config

    values = llamaboard_values(recipe)
    path = Path(CONFIG_DIR) / name
    write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    save_config("", None, values["top.model_name"], recipe.model_name_or_path)
    return path


def llamaboard_values(recipe: TrainingRecipe) -> dict[str, Any]:
    """Value of each of LlamaBoard's fields.

    Raises:
        ConfigError: As in ``write_llamaboard_config``.
    """
    raw, defaults = recipe.raw, _defaults()
    if problems := _problems(recipe, defaults):
        raise ConfigError(f"{recipe.path}: LlamaBoard cannot show this recipe:\n  " + "\n  ".join(problems))
    given = defaults | dict(raw)
    precision = next((kind for kind in ("pure_bf16", "bf16", "fp16") if given.get(kind)), "fp32")
    values = {
        "top.model_name": _model_name(recipe),
        "top.model_path": recipe.model_name_or_path,
        "top.checkpoint_path": [],
        "top.quantization_bit": "none",
        "top.rope_scaling": "none",
        "top.booster": "auto",
        "train.training_stage": "Supervised Fine-Tuning",
        "train.dataset": _listed(given["dataset"]),
        "train.compute_type": precision,
        "train.lora_alpha": given["lora_alpha"] or 2 * given["lora_rank"],
        "train.lora_target": ",".join(_listed(given["lora_target"])),
        "train.report_to": (_listed(given["report_to"]) or ["none"])[0],
        "train.use_galore": False,
        "train.use_apollo": False,
        "train.use_badam": False,
        "train.use_swanlab": False,
        "train.use_pissa": False,
        "train.ds_stage": "none",
        "train.output_dir": str(raw["output_dir"]),
    }
    for key, field, empty in _FIELDS:
        value = given[key] if given[key] is not None else empty
        values[field] = str(value) if isinstance(empty, str) else value
    return values | {"train.extra_args": json.dumps(extra_arguments(recipe), ensure_ascii=False)}


def extra_arguments(recipe: TrainingRecipe) -> dict[str, Any]:
    """What no field holds: LlamaBoard's `Extra arguments`."""
    known = {key for key, _, _ in _FIELDS} | _OTHERS
    extra = _ADDED | {key: value for key, value in recipe.raw.items() if key not in known}
    trackers = _listed(recipe.raw.get("report_to"))
    return extra | ({"report_to": trackers} if len(trackers) > 1 else {})


def _problems(recipe: TrainingRecipe, defaults: dict[str, Any]) -> list[str]:
    raw = recipe.raw
    found = [f"it has no {key}" for key in ("stage", "dataset", "output_dir", "template") if not raw.get(key)]
    if raw.get("stage", "sft") != "sft":
        found.append(f"its stage is {raw['stage']}; only sft is converted")
    if raw.get("output_dir") and "/" not in str(raw["output_dir"]):
        found.append(
            f"output_dir: LlamaBoard would put {raw['output_dir']!r} elsewhere; name a directory in another one"
        )
    for key, value in raw.items():
        if key.startswith(_OVERWRITES):
            found.append(f"{key}: LlamaBoard overwrites it; set it in the page")
        if key in _RANGES and value not in _RANGES[key]:
            found.append(f"{key}: LlamaBoard takes {_RANGES[key].start} to {_RANGES[key].stop - 1}, got {value}")
        # Its command leaves out what is false or empty, so that the default would hold.
        if (value is None or value is False or value == "") and defaults.get(key) and key not in _KEEPS_FALSE:
            found.append(f"{key}: LlamaBoard cannot turn it off, and {defaults[key]!r} would hold")
    return found


def _defaults() -> dict[str, Any]:
    """LLaMA-Factory's own values where a recipe is silent."""
    from llamafactory.hparams import DataArguments, FinetuningArguments, ModelArguments, TrainingArguments

    found = {}
    for cls in (TrainingArguments, FinetuningArguments, ModelArguments, DataArguments):
        for field in dataclasses.fields(cls):
            value = field.default if field.default is not dataclasses.MISSING else None
            found[field.name] = getattr(value, "value", value)
    return found


def _model_name(recipe: TrainingRecipe) -> str:
    """A name in LlamaBoard's list of a model with this template that takes photos: for others it hides their fields."""
    from llamafactory.extras.constants import DEFAULT_TEMPLATE, MULTIMODAL_SUPPORTED_MODELS, SUPPORTED_MODELS

    model = recipe.model_name_or_path
    names = [
        name
        for name in SUPPORTED_MODELS
        if name in MULTIMODAL_SUPPORTED_MODELS and DEFAULT_TEMPLATE.get(name) == recipe.template
    ]
    if not names:
        raise ConfigError(
            f"{recipe.path}: LlamaBoard has no model that takes photos by the template {recipe.template!r}"
        )
    by_path = [name for name in names if model in SUPPORTED_MODELS[name].values() or name in Path(model).name]
    alike = [name for name in names if name.startswith("Qwen2.5-VL")]
    return [*by_path, *alike, *names][0]


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        value = value.split(",")
    return [str(part).strip() for part in value or []]
