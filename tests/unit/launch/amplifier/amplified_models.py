"""Amplified checkpoints, data and a recipe for the amplifier's tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from dataset_builders.sharegpt import conversation, write_dataset_info
from dataset_builders.task_card import TaskCard
from launch.amplifier import AmplifierOptions
from launch.amplifier.answer_tokens import deciding_tokens
from launch.amplifier.checkpoint import prepare_checkpoint
from launch.predict.model import ModelSpec, load_for_prediction
from launch.predict.scorer import LabelScorer

__all__ = ["amplify", "preprocessing", "scores", "shake", "train", "with_auxiliary_loss", "write_training_recipe"]

SIDE = 112


def preprocessing() -> dict:
    return {
        "template": "qwen2_vl",
        "trust_remote_code": True,
        "image_min_pixels": 56 * 56,
        "image_max_pixels": SIDE * SIDE,
    }


def amplify(base: Path, out: Path, **options) -> Path:
    assert prepare_checkpoint(base, out, AmplifierOptions(**options))
    return out


def with_auxiliary_loss(base: Path, card: TaskCard) -> dict:
    return {"auxiliary_weight": 0.5, **deciding_tokens(base, card, card.stages[1])}


def shake(tensors: Path) -> None:
    """Give the module's zero-initialised weights values, so that it has an effect."""
    generator = torch.Generator().manual_seed(5)
    weights = {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(tensors).items()
    }
    save_file(weights, tensors, metadata={"format": "pt"})


def scores(
    model: Path, photos: list[Image.Image], card: TaskCard, *, adapter: Path | None = None, **changes
) -> np.ndarray:
    """Log-probabilities of the specialist's answers, as ``riskfuse predict`` computes them."""
    spec = ModelSpec(str(model), adapter and str(adapter), preprocessing(), "cpu", "auto", 1)
    stage = card.stages[1]
    return LabelScorer(load_for_prediction(spec), card.prompt(stage), card.answers(stage)).score(photos)


def write_training_recipe(directory: Path, model: Path, card: TaskCard, **changes) -> Path:
    """Eight photos of the specialist's two answers, in two sizes, and a recipe of four steps of two."""
    stage = card.stages[1]
    rows = []
    for i in range(8):
        side = SIDE if i % 2 else 84
        Image.new("RGB", (side, 84), (i * 30, 90, 90)).save(directory / f"{i}.png")
        rows.append(conversation(card.prompt(stage), f"{i}.png", card.answers(stage)[i % 2].text))
    (directory / "train.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    write_dataset_info(directory, [f"{card.task}_train"], card)
    recipe = {
        "model_name_or_path": str(model),
        "additional_target": "hazard_amplifier",
        **preprocessing(),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 4,
        "lora_target": "all",
        "freeze_vision_tower": False,
        "dataset_dir": str(directory),
        "dataset": f"{card.task}_train",
        "cutoff_len": 1024,
        "output_dir": str(directory / "saves"),
        "logging_steps": 1,
        "save_steps": 2,
        "report_to": "none",
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "max_steps": 4,
        "seed": 42,
    }
    path = directory / "recipe.yaml"
    content = {key: value for key, value in (recipe | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def train(recipe: Path, *words: str, command: str = "train", **environment: str) -> None:
    """Run the plain ``llamafactory-cli`` in a process of its own."""
    quiet = {"DS_ACCELERATOR": "cpu", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    path = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    argv = [sys.executable, "-m", "llamafactory.cli", command, str(recipe), *words]
    done = subprocess.run(
        argv, env=os.environ | quiet | path | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
