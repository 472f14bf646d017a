"""docs/troubleshooting.md quotes what `riskfuse check` and `riskfuse doctor` say, word for word."""

import contextlib
import json
import os
import re
import shutil
import socket
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dataset_builders.sharegpt import conversation, write_dataset_info
from dataset_builders.task_card import load_task_card
from launch.doctor.machine import check_shared_memory
from launch.doctor.network import check_port, check_ray_directory
from launch.doctor.report import render_results
from launch.doctor.tools import check_build_locks, check_compiler
from launch.preflight import check_recipe

ROOT = Path(__file__).parents[2]
CARD = Path("recipes/tasks/corridor.yaml")


def quoted() -> list[str]:
    """Lines of the page's blocks that are output: they have no language."""
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [line for language, block in blocks if not language for line in block.splitlines()]


def example(number: int) -> dict:
    card = load_task_card(CARD)
    return conversation(card.prompt("base"), f"{number}.jpg", card.answers("base")[1].text)


def without_image(row: dict) -> dict:
    return json.loads(json.dumps(row, ensure_ascii=False).replace("<image>", ""))


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Checks the tiny recipe with some keys changed, on four photos."""
    monkeypatch.chdir(tmp_path)
    for name in ("recipes", "models"):
        Path(name).symlink_to(ROOT / name)
    Path("data").mkdir()
    for number in range(4):
        Image.new("RGB", (168, 168), (number * 40, 90, 90)).save(f"data/{number}.jpg")
    write_dataset_info(Path("data"), ["corridor_train", "corridor_val"], load_task_card(CARD))
    Path("data/val.json").write_text(json.dumps([example(3)]), encoding="utf-8")
    recipe = yaml.safe_load(Path("recipes/tiny/base.yaml").read_text(encoding="utf-8"))
    recipe |= {"dataset_dir": "data", "output_dir": "saves/base"}

    def run(*rows: dict, **changes: object) -> list[str]:
        Path("data/train.json").write_text(json.dumps(rows or [example(0)]), encoding="utf-8")
        Path("recipe.yaml").write_text(yaml.safe_dump(recipe | changes), encoding="utf-8")
        return [str(finding) for finding in check_recipe("recipe.yaml", task=CARD)]

    return run


def test_messages_of_check_are_quoted_as_they_are(check):
    said = check(cutoff_len=128)
    said += check(without_image(example(0)), example(1))
    said += [*check(template="qwen2_5_vl"), *check(template="qwen"), *check(template="qwen3_vl")]
    said += [*check(dataset="my_photos"), *check(example(0), example(9))]
    said += [line for line in check(bf16=True) if "no GPU" in line]
    saves = Path("saves/base")
    saves.mkdir(parents=True)
    (saves / "all_results.json").write_text("{}", encoding="utf-8")
    (saves / "trainer_state.json").write_text('{"global_step": 10, "max_steps": 10}', encoding="utf-8")
    said += check()
    shutil.rmtree(saves)
    (saves / "checkpoint-5").mkdir(parents=True)
    said += check(overwrite_output_dir=True)
    shutil.rmtree(saves)
    Path("data/1.jpg").write_bytes(b"no photo")
    said += check(example(0), example(1))
    lines = quoted()
    assert [line for line in said if line not in lines] == []
    ours = [line for line in lines if re.match(r"(error|warning): ", line)]
    assert [line for line in ours if line not in said and "no GPU" not in line] == []


def test_rows_of_doctor_are_quoted_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "torch_extensions"))
    lock = tmp_path / "torch_extensions/py311_cpu/deepspeed_shm_comm/lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.utime(lock, (time.time() - 400,) * 2)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "a_long_path_of_a_batch_system_with_the_number_of_its_job"))
    monkeypatch.setenv("CXX", "c++")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # taken already, as wanted
            stack.enter_context(socket.create_server(("", 29400)))
        port = check_port()
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "/nowhere")
        compiler = check_compiler(0)
    rows = [check_build_locks(), compiler, port, check_shared_memory(64 << 20, 1), check_ray_directory()]
    said = [line.replace(str(tmp_path), "…") for row in rows for line in render_results([row]).splitlines()[:3]]
    assert [line for line in said if line not in quoted()] == []
