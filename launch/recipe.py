"""A LLaMA-Factory training recipe as RiskFuse sees it: plain YAML, read without LLaMA-Factory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builders.config_file import read_yaml
from dataset_builders.errors import ConfigError

__all__ = ["TrainingRecipe", "load_recipe"]

# LLaMA-Factory's fields that decide what a model is and how photos and prompts become its inputs. Prediction
# takes them from the training recipe, so that both agree by construction.
PREPROCESSING_KEYS = (
    "template",
    "trust_remote_code",
    "image_max_pixels",
    "image_min_pixels",
    "image_do_pan_and_scan",
    "crop_to_patches",
    "default_system",
    "enable_thinking",
    "use_fast_tokenizer",
    "split_special_tokens",
    "add_tokens",
    "add_special_tokens",
    "resize_vocab",
    "model_revision",
    "cache_dir",
    "rope_scaling",
    "quantization_bit",
    "quantization_method",
)


@dataclass(frozen=True)
class TrainingRecipe:
    """One recipe file.

    Attributes:
        path: Where it was read.
        raw: All its keys and values, as written.
    """

    path: Path
    raw: Mapping[str, Any]

    @property
    def model_name_or_path(self) -> str:
        """Directory or hub name of the base model."""
        return self._required("model_name_or_path")

    @property
    def template(self) -> str:
        """LLaMA-Factory's name of the chat template."""
        return self._required("template")

    @property
    def output_dir(self) -> str:
        """Where training leaves the adapter, or the whole model when no adapter is trained."""
        return self._required("output_dir")

    @property
    def trains_adapter(self) -> bool:
        """False for full and freeze tuning, whose output directory holds a whole model."""
        return self.raw.get("finetuning_type", "lora") not in ("full", "freeze")

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The recipe's keys that decide how photos and prompts become a model's inputs."""
        return {key: self.raw[key] for key in PREPROCESSING_KEYS if key in self.raw}

    def _required(self, key: str) -> str:
        value = self.raw.get(key)
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{self.path}: expected a text for {key!r}, got {value!r}; add it to the recipe")
        return value


def load_recipe(path: str | Path) -> TrainingRecipe:
    """Read a recipe.

    Raises:
        ConfigError: The file is missing, is no UTF-8 YAML or no mapping of keys.
    """
    path = Path(path)
    raw = read_yaml(path, "recipe", "the shipped ones are in recipes/")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, got {type(raw).__name__}; see recipes/README.md")
    return TrainingRecipe(path=path, raw=raw)
