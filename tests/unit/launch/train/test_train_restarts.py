"""A lost process costs what was done since the last whole checkpoint, and not a byte of the result."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
from train_data import adapter, kill_rank, train_command, wait_until, write_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tiny_model, card, tmp_path_factory) -> Path:
    """Two processes, never disturbed; returns the recipe."""
    directory = tmp_path_factory.mktemp("undisturbed")
    recipe = write_recipe(directory, tiny_model, card)
    done = subprocess.run(train_command(recipe, "--processes", 2), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return recipe


def test_killed_rank_and_half_written_checkpoint_change_no_byte(undisturbed, tmp_path):
    saves, out = undisturbed.parent / "saves", tmp_path / "killed"
    shutil.copytree(saves / "checkpoint-10", out / "checkpoint-10")
    shutil.copytree(saves / "checkpoint-20", out / "checkpoint-20")
    (out / "checkpoint-20" / "trainer_state.json").unlink()
    command = train_command(undisturbed, f"output_dir={out}", "--processes", 2)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    wait_until((out / "checkpoint-30" / "trainer_state.json").is_file, process)
    kill_rank(out, 1)
    said = (tmp_path / "log").read_text
    assert process.wait() == 0, said()[-4000:]
    assert f"Resuming training from {out}/checkpoint-10" in said()
    assert f"Resuming training from {out}/checkpoint-30" in said()
    assert "start 2 of 4" in said()
    assert adapter(out) == adapter(saves)


def test_what_fails_before_its_first_step_is_not_repeated(undisturbed, tmp_path):
    command = train_command(undisturbed, f"output_dir={tmp_path / 'out'}", "learning_rate=fast", "--no-check")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode not in (0, 2)
    assert "not started again" in done.stderr


@pytest.mark.long
def test_ray_gives_the_bytes_of_torchrun_also_after_a_lost_process(undisturbed, tmp_path):
    out = tmp_path / "on_ray"
    command = train_command(undisturbed, f"output_dir={out}", "--processes", 2, "--ray", "local")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    wait_until((out / "checkpoint-10" / "trainer_state.json").is_file, process)
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if is_ray_train_worker(child)]
    assert len(workers) == 2
    workers[1].kill()
    assert process.wait() == 0, (tmp_path / "log").read_text()[-4000:]
    assert adapter(out) == adapter(undisturbed.parent / "saves")
    assert not list(tmp_path.glob(".*"))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "nothing to do" in again.stderr


def is_ray_train_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in process.cmdline()[0]
    except (psutil.Error, IndexError):
        return False
