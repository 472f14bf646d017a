"""A data set and a recipe of some steps for tests of ``riskfuse train``; runs of it that lose a process on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml
from PIL import Image

from dataset_builders.sharegpt import conversation, write_dataset_info
from dataset_builders.task_card import TaskCard

__all__ = ["PATIENCE_S", "adapter", "kill_rank", "wait_until", "write_recipe"]

ROOT = Path(__file__).parents[4]
PATIENCE_S = 1200


def write_recipe(directory: Path, model: Path, card: TaskCard, **changes) -> Path:
    """Eight photos, and a recipe of forty steps with a checkpoint every ten."""
    rows = []
    for i in range(8):
        Image.new("RGB", (112 if i % 2 else 84, 84), (i * 30, 90, 90)).save(directory / f"{i}.png")
        rows.append(conversation(card.prompt("base"), f"{i}.png", card.labels[i % len(card.labels)].text))
    for split in ("train", "val"):
        (directory / f"{split}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    write_dataset_info(directory, [f"{card.task}_train", f"{card.task}_val"], card)
    recipe = {
        "model_name_or_path": str(model),
        "template": "qwen2_vl",
        "image_min_pixels": 56 * 56,
        "image_max_pixels": 112 * 112,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 4,
        "lora_target": "all",
        "dataset_dir": str(directory),
        "dataset": f"{card.task}_train",
        "eval_dataset": f"{card.task}_val",
        "cutoff_len": 1024,
        "output_dir": str(directory / "saves"),
        "logging_steps": 1,
        "save_steps": 10,
        "report_to": "none",
        "per_device_train_batch_size": 1,
        "learning_rate": 1e-3,
        "max_steps": 40,
        "seed": 42,
        "deepspeed": str(ROOT / "ds_configs/zero2.json"),
    }
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | changes, allow_unicode=True), encoding="utf-8")
    return path


def train_command(recipe: Path, *words: object) -> list[str]:
    return [sys.executable, "-m", "launch.cli", "train", str(recipe), *map(str, words)]


def wait_until(reached: Callable[[], bool], *processes: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert all(process.poll() is None for process in processes), [process.returncode for process in processes]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill_rank(output_dir: Path, rank: int) -> None:
    """Kill -9 one process of the run that writes to this directory."""
    for process in psutil.process_iter():
        try:
            words, environment = process.cmdline(), process.environ()
        except psutil.Error:
            continue
        if environment.get("RANK") == str(rank) and any(str(output_dir) in word for word in words):
            os.kill(process.pid, 9)
            return
    raise AssertionError(f"no process of rank {rank} trains into {output_dir}")


def adapter(output_dir: Path) -> bytes:
    return (output_dir / "adapter_model.safetensors").read_bytes()
