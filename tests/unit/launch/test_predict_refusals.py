"""What a prediction run refuses, each with one clear message: broken and foreign adapters, full disks, other nodes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataset_builders.errors import ConfigError, StepError
from launch.predict import PredictConfig, predict
from launch.predict.actor_pool import _RayWorker
from launch.predict.engines import score_on_ray
from launch.predict.fingerprint import library_versions
from launch.predict.model import ModelSpec, check_base, load_for_prediction
from launch.predict.parts import ShardScores
from launch.predict.plan import part_header, photo_rows, scoring_job
from launch.predict.rows import cut_shards
from launch.predict.run import _write
from launch.training import has_gpu


@pytest.fixture
def settings(tiny_recipe: Path, card_path: Path, photo_dir: Path, tmp_path: Path) -> dict:
    names = sorted(path.name for path in photo_dir.iterdir())[:4]
    photo_list = tmp_path / "list.txt"
    photo_list.write_text("\n".join(names) + "\n", encoding="utf-8")
    return {
        "recipe": tiny_recipe,
        "task": card_path,
        "stage": "base",
        "images": photo_dir,
        "photo_list": photo_list,
        "engine": "local",
        "out": tmp_path / "predictions",
    }


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    """An untrained LoRA adapter of the tiny model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(tiny_model)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_quantized_weights_keep_their_types(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bitsandbytes itself is not in the lock; its models refuse to be cast, and say ``is_quantized``."""
    import llamafactory.model
    import torch

    plain = llamafactory.model.load_model

    def packed(*args: object, **kwargs: object) -> object:
        model = plain(*args, **kwargs).to(torch.float16)
        model.is_quantized = True
        return model

    monkeypatch.setattr(llamafactory.model, "load_model", packed)
    spec = ModelSpec(str(tiny_model), None, {"template": "qwen2_vl"}, "cpu", "auto", 1)
    assert load_for_prediction(spec).model.dtype is torch.float16
    with pytest.raises(ConfigError, match="--dtype bfloat16: the recipe's quantization_bit decides"):
        load_for_prediction(replace(spec, dtype="bfloat16"))


def test_adapter_that_was_cut_short(settings, adapter):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"adapter_model.safetensors: has \d+ of \d+ bytes, so it was cut short"):
        predict(PredictConfig(**settings, adapter=str(adapter)))
    file.write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match="no safetensors file"):
        predict(PredictConfig(**settings, adapter=str(adapter)))


def test_adapter_of_another_shape(settings, adapter):
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {name: tensor[:, :-1].contiguous() for name, tensor in tensors.items()}, adapter / "adapter_model.safetensors"
    )
    with pytest.raises(ConfigError, match=r"(?s)cannot load the model.*adapter.*size mismatch"):
        predict(PredictConfig(**settings, adapter=str(adapter)))


def test_adapter_of_another_base(tiny_model, adapter, tmp_path):
    check_base(str(tiny_model), str(adapter))
    check_base(str(tiny_model), None)
    same = tmp_path / "moved"
    shutil.copytree(tiny_model, same)
    check_base(str(same), str(adapter))  # the same weights elsewhere
    weights = same / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")
    with pytest.raises(ConfigError, match=f"was trained on {tiny_model}, not on {same}"):
        check_base(str(same), str(adapter))
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    for trained_on, model, refused in (
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct", True),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct", False),
        ("Qwen/Qwen2.5-VL-7B-Instruct", str(tiny_model), False),
        ("/gone/with/its/machine", "Qwen/Qwen2.5-VL-3B-Instruct", False),
    ):
        config["base_model_name_or_path"] = trained_on
        (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        if refused:
            with pytest.raises(ConfigError, match="was trained on"):
                check_base(model, str(adapter))
        else:
            check_base(model, str(adapter))


def test_full_disk(settings, tmp_path):
    config = PredictConfig(**settings, adapter="none")
    shard = cut_shards(photo_rows(config), 4)[0]
    scores = ShardScores(np.zeros((4, 5)), np.zeros(4), ("",) * 4)
    header = part_header(config, scoring_job(config))
    part = tmp_path / "part-00000.parquet"
    (tmp_path / f".{part.name}.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(StepError, match=r"part-00000.parquet: cannot be written: .*goes on where it stopped"):
        _write(part, shard, scores, header)
    assert not list(tmp_path.glob("*part*"))
    _write(part, shard, scores, header)
    assert part.is_file()


def test_node_with_other_versions(settings):
    job = scoring_job(PredictConfig(**settings, adapter="none"))
    with pytest.raises(
        ConfigError, match=r"has other versions: torch \(1.0 there, [\d.+a-z]+ now\).*the same lock file"
    ):
        _RayWorker().load(job, library_versions() | {"torch": "1.0"})


@pytest.mark.slow
@pytest.mark.skipif(has_gpu(), reason="is about machines without one")
def test_gpu_that_nobody_has_is_not_waited_for(settings):
    config = PredictConfig(**(settings | {"engine": "ray", "device": "cuda", "adapter": "none"}))
    with pytest.raises(ConfigError, match="--device cuda: Ray finds no GPU on this machine"):
        predict(config)


@pytest.mark.parametrize(("address", "message"), [("127.0.0.1:9", "no Ray cluster answers"), ("auto", "HOST:PORT")])
def test_cluster_that_is_not_there(settings, address, message):
    job = scoring_job(PredictConfig(**settings, adapter="none"))
    with pytest.raises(ConfigError, match=message):
        next(score_on_ray(job, [], workers=1, address=address))


@pytest.mark.slow
@pytest.mark.long
def test_cluster_that_wants_a_token(settings, tmp_path):
    """As `ray start` makes one where a token lies; without it, the remedy, and with it, predictions."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    token = without | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "5" * 64}
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address", "127.0.0.1"]
    ray += ["--port", str(port), "--num-cpus", "1", "--include-dashboard", "false", "--disable-usage-stats"]
    words = [sys.executable, "-m", "launch.cli", "predict", "--adapter", "none", "--device", "cpu", "--address"]
    words += [f"127.0.0.1:{port}"]
    for name in ("recipe", "task", "stage", "images", "out"):
        words += [f"--{name}", str(settings[name])]
    words += ["--list", str(settings["photo_list"])]
    with (tmp_path / "ray.log").open("wb") as log:
        head = subprocess.Popen(ray, stdout=log, stderr=log, env=token)
    try:
        deadline = time.monotonic() + 60
        while b"Ray runtime started" not in (tmp_path / "ray.log").read_bytes():
            assert time.monotonic() < deadline, (tmp_path / "ray.log").read_text()
            time.sleep(0.2)
        refused = subprocess.run(words, capture_output=True, text=True, env=without, check=False)
        assert refused.returncode == 2, refused.stderr
        assert "lets us not in" in refused.stderr
        assert "RAY_AUTH_MODE=token" in refused.stderr
        assert "Traceback" not in refused.stderr
        let_in = subprocess.run(words, capture_output=True, text=True, env=token, check=False)
        assert let_in.returncode == 0, let_in.stderr
    finally:
        head.terminate()
        head.wait()
