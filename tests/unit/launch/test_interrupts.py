"""Ctrl-C: one line that says how to go on, exit code 130, no traceback; the same command goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dataset_builders.task_card import load_task_card
from launch.cli import main

ROOT = Path(__file__).parents[3]
CARD = ROOT / "recipes/tasks/corridor.yaml"
PATIENCE_S = 600
PHOTOS = 320


def interrupt(command: list[str], begun: Callable[[], bool], cwd: Path = ROOT) -> tuple[int, str]:
    """Start a process as a terminal does, send SIGINT to all of its group, as Ctrl-C does; exit code and stderr."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # What a shell runs in the background inherits an ignored SIGINT; what a person starts does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + PATIENCE_S
    while not begun():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said


def riskfuse(*words: object) -> list[str]:
    return [sys.executable, "-m", "launch.cli", *map(str, words)]


def assert_quiet_end(code: int, said: str, command: str, *words: object) -> None:
    assert code == 130, said
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"riskfuse {command}: interrupted; "), said
    assert last.endswith(f"with: riskfuse {command} {' '.join(map(str, words))}"), said


def has_file(directory: Path, pattern: str) -> Callable[[], bool]:
    return lambda: any(directory.glob(pattern))


def write_scenes(directory: Path) -> tuple[Path, Path]:
    grades = {"ignition": "high", "combustible": "medium", "few": "low", "clear": "none", "elsewhere": "not_corridor"}
    board = {"name": "train", "stream": 902, "counts": dict.fromkeys(grades.values(), PHOTOS // 5)}
    content = {"task": str(CARD), "out": str(directory / "scenes"), "hard": 0.5, "grades": grades, "boards": [board]}
    path = directory / "scenes.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path, directory / "scenes"


@pytest.fixture
def build_config(tmp_path: Path) -> tuple[Path, Path]:
    """Build config of noise photos of all classes, and the directory that it makes."""
    texts = [label.text for label in load_task_card(CARD).labels]
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(PHOTOS):
        noise = np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((256, 256)).save(photos / f"{index}.jpg")
    rows = "".join(f"{i}.jpg\t{texts[i % 5]}\n" for i in range(PHOTOS))
    (tmp_path / "train.txt").write_text(rows, encoding="utf-8")
    source = {"name": "train", "kind": "label_list", "role": "train"}
    source |= {"path": str(tmp_path / "train.txt"), "images": str(photos)}
    content = {"task": str(CARD), "out": str(tmp_path / "out"), "folds": 3, "balance": 100, "sources": [source]}
    path = tmp_path / "build.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path, tmp_path / "out"


def test_scenes_and_a_pipeline_that_renders_them(tmp_path):
    config, out = write_scenes(tmp_path)
    words = (config, "--workers", 2)
    code, said = interrupt(riskfuse("scenes", *words), has_file(out, ".train_parts/*.jsonl"))
    assert_quiet_end(code, said, "scenes", *words)
    assert "what is done is kept" in said
    kept = sorted(out.glob(".train_parts/*.jsonl"))
    assert kept
    before = [part.stat().st_mtime_ns for part in kept]
    assert main(["scenes", str(config), "--workers", "2"]) == 0
    assert [part.stat().st_mtime_ns for part in kept] == before
    assert len(list((out / "train").glob("*.jpg"))) == PHOTOS // 5 * 5


def test_pipeline(tmp_path):
    """The step's child is interrupted too, and the next run goes on with it."""
    config, out = write_scenes(tmp_path)
    content = yaml.safe_load((ROOT / "recipes/tiny/pipeline.yaml").read_text(encoding="utf-8"))
    content["prepare"] = {
        "command": ["riskfuse", "scenes", str(config), "--workers", "2"],
        "inputs": [str(config)],
        "outputs": [str(out / "scenes.json")],
    }
    for name in ("recipes", "ds_configs", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    words = ("pipeline.yaml", "--to", "prepare")
    code, said = interrupt(riskfuse("run", *words), has_file(out, ".train_parts/*.jsonl"), tmp_path)
    assert_quiet_end(code, said, "run", *words)
    done = subprocess.run(riskfuse("run", *words), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "prepare: was interrupted, goes on" in done.stdout


def test_build_and_augment(build_config, tmp_path, capsys):
    config, out = build_config
    words = (config, "--workers", 2)
    code, said = interrupt(riskfuse("build", *words), has_file(out, "images/train/*"))
    assert_quiet_end(code, said, "build", *words)
    assert not (out / "build.json").exists(), "nothing half-made passes for complete"
    assert main(["build", str(config), "--workers", "1"]) == 0
    assert (out / "build.json").is_file()

    copies = tmp_path / "copies"
    content = yaml.safe_load((ROOT / "recipes/augment/corridor.yaml").read_text(encoding="utf-8"))
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(content | {"task": str(CARD), "rows": 120}), encoding="utf-8")
    words = (policy, "--dataset", out, "--out", copies, "--workers", 2)
    code, said = interrupt(riskfuse("augment", *words), has_file(copies, ".augment_parts/*.jsonl"))
    assert_quiet_end(code, said, "augment", *words)
    assert list(copies.glob(".augment_parts/*.jsonl"))
    capsys.readouterr()
    assert main([*map(str, ("augment", *words)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["fresh"], found["out"]) == (True, str(copies))


def test_message_of_a_command_that_begins_anew(monkeypatch, capsys):
    from launch.commands import fuse

    def interrupted(_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(fuse, "run", interrupted)
    words = ["fuse", "my data", "--task", "t", "--base", "b", "--specialist", "s", "--out", "o"]
    assert main(words) == 130
    expected = "interrupted; begin anew with: riskfuse fuse 'my data' --task t --base b --specialist s --out o\n"
    assert capsys.readouterr().err == f"riskfuse fuse: {expected}"


def test_message_of_a_redo_leaves_the_word_out(monkeypatch, capsys):
    from launch.commands import run

    def interrupted(_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", interrupted)
    assert main(["run", "p.yaml", "--from", "fuse", "--redo"]) == 130
    assert capsys.readouterr().err.endswith("go on with: riskfuse run p.yaml --from fuse\n")


TRAIN = """
import pathlib, sys
import launch.train.run
from launch.cli import main
child = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
launch.train.run.torchrun_command = lambda config: [sys.executable, "-c", child, sys.argv[1]]
sys.exit(main(["train", sys.argv[2], "--no-check", "--processes", "1"]))
"""


def test_train_passes_it_on_and_says_how_to_go_on(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"output_dir": str(tmp_path / "saves"), "model_name_or_path": str(tmp_path)}))
    command = [sys.executable, "-c", TRAIN, str(tmp_path / "begun"), str(recipe)]
    code, said = interrupt(command, (tmp_path / "begun").exists)
    assert code == 130, said
    assert said.strip().splitlines()[-1].startswith("riskfuse train: interrupted; what is done is kept, go on with:")


@pytest.mark.slow
def test_torchrun_that_is_interrupted_writes_no_traceback(tmp_path):
    script = tmp_path / "sleep.py"
    script.write_text(
        "import pathlib, signal, time\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        f"pathlib.Path({str(tmp_path / 'begun')!r}).touch()\ntime.sleep(600)\n"
    )
    words = ["--standalone", "--nproc-per-node", "1", str(script)]
    code, said = interrupt([sys.executable, "-m", "launch.train.torchrun", *words], (tmp_path / "begun").exists)
    assert code == 130, said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("engine", [pytest.param("local", marks=pytest.mark.long), "ray"])
def test_predict(engine, tmp_path, tiny_recipe, photo_dir):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{path.name}\n" for path in sorted(photo_dir.iterdir())), encoding="utf-8")
    out = tmp_path / "predictions"
    words = ("--recipe", tiny_recipe, "--task", CARD, "--stage", "base", "--out", out, "--images", photo_dir)
    words += ("--list", names, "--adapter", "none", "--engine", engine, "--batch-size", 1, "--shard-size", 1)
    code, said = interrupt(riskfuse("predict", *words), has_file(out, "part-*.parquet"))
    assert_quiet_end(code, said, "predict", *words)
    kept = len(list(out.glob("part-*.parquet")))
    assert 0 < kept < 40
    done = subprocess.run(riskfuse("predict", *words), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{kept} parts were there already" in done.stdout
