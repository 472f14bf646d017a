"""What vLLM would leave out or load otherwise without a word is refused before its server is started."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from dataset_builders.errors import ConfigError
from launch.predict.model import ModelSpec
from launch.predict.vllm.engine import VllmServerSpec, adapted_name, check_model, serve_command, vllm_versions

MODEL = "models/tiny-qwen2_5-vl"
LANGUAGE = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
TOWER = "base_model.model.model.visual.blocks.0.attn.qkv.lora_A.weight"
WHOLE = "base_model.model.lm_head.modules_to_save.weight"


def spec(adapter: Path | None = None, model: str = MODEL, **preprocessing) -> ModelSpec:
    return ModelSpec(model, adapter and str(adapter), {"template": "qwen2_vl", **preprocessing}, "cpu", "auto", 1)


@pytest.fixture
def adapter(tmp_path):
    def write(*tensors: str, rank: int = 8) -> Path:
        save_file({name: np.zeros(1, dtype=np.float32) for name in tensors}, tmp_path / "adapter_model.safetensors")
        config = {"r": rank, "base_model_name_or_path": MODEL}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        return tmp_path

    return write


def server(extra: tuple[str, ...] = ()) -> VllmServerSpec:
    return VllmServerSpec(Path("python"), "float32", 1024, extra, Path("vllm.log"), 60)


def test_an_environment_without_vllm(tmp_path):
    with pytest.raises(ConfigError, match=r"has no vLLM. It needs an environment of its own"):
        vllm_versions(Path(sys.executable))
    with pytest.raises(ConfigError, match="cannot be run"):
        vllm_versions(tmp_path / "python")


@pytest.mark.parametrize(
    ("tensors", "what"), [((LANGUAGE, TOWER), "the vision tower"), ((LANGUAGE, WHOLE), "whole modules")]
)
def test_adapters_that_reach_beyond_the_language_model(adapter, tensors, what):
    with pytest.raises(ConfigError, match=rf"also changes {what} .*llamafactory-cli export .*--merged"):
        check_model(spec(adapter(*tensors)))
    check_model(spec(adapter(LANGUAGE)))
    check_model(spec())


def test_models_with_code_of_their_own(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "a.B"}}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"class of its own .*--engine ray or local"):
        check_model(spec(model=str(tmp_path)))


def test_recipes_that_change_the_model_while_it_is_loaded():
    with pytest.raises(ConfigError, match="quantization_bit changes the model while"):
        check_model(spec(quantization_bit=4))


def test_the_command_line(adapter):
    words = serve_command(spec(), server(("--gpu-memory-utilization", "0.8")))
    assert words[:5] == ["python", "-m", "vllm.entrypoints.openai.api_server", "--model", MODEL]
    assert words[-2:] == ["--gpu-memory-utilization", "0.8"]
    assert "--enable-lora" not in words
    with_adapter = spec(adapter(LANGUAGE, rank=12))
    words = serve_command(with_adapter, server())
    assert words[words.index("--max-lora-rank") + 1] == "16", "the next one that vLLM has kernels for"
    assert words[words.index("--lora-modules") + 1] == f"{adapted_name(with_adapter)}={with_adapter.adapter}"
    with pytest.raises(ConfigError, match="rank 513 is over 512"):
        serve_command(spec(adapter(LANGUAGE, rank=513)), server())
