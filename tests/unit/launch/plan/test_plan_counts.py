"""Numbers of weights are exact: those of the real classes, with LoRA where LLaMA-Factory puts it."""

import json

import pytest

from dataset_builders.errors import ConfigError
from launch.plan.architecture import find_architecture, published_config, read_architecture
from launch.plan.estimate import lora_parameters
from launch.plan.settings import read_settings

PUBLISHED = {"Qwen2.5-VL-3B-Instruct": 3_754_622_976, "Qwen2.5-VL-7B-Instruct": 8_292_166_656}


def build_on_meta(name: str):
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    content = published_config(name)
    vision, tied = content.pop("vision_config"), content.pop("tie_word_embeddings")
    config = Qwen2_5_VLConfig(text_config=content, vision_config=vision, tie_word_embeddings=tied)
    config.text_config.tie_word_embeddings = tied
    with torch.device("meta"):
        return Qwen2_5_VLForConditionalGeneration(config)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models(name):
    architecture = find_architecture(f"Qwen/{name}")
    assert architecture.parameters == PUBLISHED[name]
    assert architecture.parameters == sum(p.numel() for p in build_on_meta(name).parameters())


def test_checkpoint_directory(tiny_model):
    from safetensors import safe_open

    with safe_open(tiny_model / "model.safetensors", "pt") as file:
        count = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - no mapping
    assert find_architecture(str(tiny_model)).parameters == count


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"freeze_vision_tower": False},
        {"freeze_vision_tower": False, "freeze_multi_modal_projector": False, "lora_rank": 3},
        {"lora_target": "q_proj,v_proj", "freeze_vision_tower": False},
        {"lora_target": "gate_proj", "freeze_vision_tower": False},
    ],
    ids=str,
)
def test_lora_is_where_llamafactory_puts_it(name, keys):
    from llamafactory.hparams import FinetuningArguments
    from llamafactory.model.model_utils.misc import find_all_linear_modules
    from llamafactory.model.model_utils.visual import patch_target_modules
    from peft import LoraConfig, get_peft_model

    model = build_on_meta(name)
    arguments = FinetuningArguments(**keys)
    targets = arguments.lora_target
    if targets == ["all"]:
        targets = find_all_linear_modules(model, arguments.freeze_vision_tower)
    targets = patch_target_modules(model, arguments, targets)
    trained = get_peft_model(model, LoraConfig(r=arguments.lora_rank, target_modules=targets))
    architecture = find_architecture(name)
    expected = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    assert lora_parameters(architecture, read_settings(keys, architecture, "recipe")) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model_type": "qwen3_vl"}, "qwen2_5_vl"),
        ({"model_type": "qwen2_5_vl"}, "lacks"),
    ],
)
def test_other_models_are_refused(content, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        read_architecture(content, "config.json")
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        find_architecture(str(tmp_path))


def test_unknown_names_and_broken_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="neither a directory"):
        find_architecture("some/model")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not usable"):
        find_architecture(str(tmp_path))
