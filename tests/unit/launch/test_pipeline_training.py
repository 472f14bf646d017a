"""What LLaMA-Factory's output directory tells, and which environment its training is started with."""

import json

import pytest

from dataset_builders.errors import ConfigError
from launch.training import (
    TrainingState,
    has_gpu,
    remove_broken_checkpoints,
    training_environment,
    training_progress,
    training_state,
)


def write_state(directory, step, steps):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "trainer_state.json").write_text(json.dumps({"global_step": step, "max_steps": steps}))


def test_absent_partial_finished(tmp_path):
    out = tmp_path / "out"
    assert training_state(out) is TrainingState.ABSENT
    out.mkdir()
    assert training_state(out) is TrainingState.ABSENT
    write_state(out / "checkpoint-5", 5, 10)
    assert training_state(out) is TrainingState.PARTIAL
    (out / "all_results.json").write_text("{}")
    write_state(out, 5, 10)
    assert training_state(out) is TrainingState.PARTIAL
    write_state(out, 10, 10)
    assert training_state(out) is TrainingState.FINISHED


def test_half_written_state_is_partial(tmp_path):
    (tmp_path / "all_results.json").write_text("{}")
    (tmp_path / "trainer_state.json").write_text('{"global_step": 1')
    assert training_state(tmp_path) is TrainingState.PARTIAL


def deepspeed_checkpoint(directory, ranks):
    write_state(directory, 5, 10)
    shards = directory / "global_step5"
    shards.mkdir()
    (directory / "latest").write_text("global_step5")
    for rank in range(ranks):
        (shards / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(b"")
        (directory / f"rng_state_{rank}.pth").write_bytes(b"")


def test_whole_checkpoints_stay(tmp_path):
    write_state(tmp_path / "checkpoint-5", 5, 10)
    deepspeed_checkpoint(tmp_path / "checkpoint-10", 2)
    assert remove_broken_checkpoints(tmp_path) == []


@pytest.mark.parametrize("lost", ["trainer_state.json", "latest", "rng_state_1.pth"])
def test_half_written_checkpoint_is_removed_and_the_one_before_stays(tmp_path, lost):
    deepspeed_checkpoint(tmp_path / "checkpoint-5", 2)
    deepspeed_checkpoint(tmp_path / "checkpoint-10", 2)
    (tmp_path / "checkpoint-10" / lost).unlink()
    assert remove_broken_checkpoints(tmp_path) == [tmp_path / "checkpoint-10"]
    assert (tmp_path / "checkpoint-5").is_dir()


def test_progress_is_the_last_logged_step(tmp_path):
    assert training_progress(tmp_path) is None
    log = tmp_path / "trainer_log.jsonl"
    first = {"current_steps": 10, "total_steps": 300, "loss": 1.5, "remaining_time": "0:09:00"}
    log.write_text(json.dumps(first) + "\n")
    assert training_progress(tmp_path) == "step 10/300, loss 1.500, 0:09:00 left"
    log.write_text(json.dumps(first) + '\n{"current_st')
    assert training_progress(tmp_path) is None


def test_environment_of_two_cpu_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    has_gpu.cache_clear()
    environment = training_environment({"model_name_or_path": str(tmp_path), "deepspeed": "zero2.json"}, 2)
    has_gpu.cache_clear()
    assert environment["FORCE_TORCHRUN"] == "1"
    assert environment["NPROC_PER_NODE"] == "2"
    assert environment["DS_ACCELERATOR"] == "cpu"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert int(environment["OMP_NUM_THREADS"]) >= 1


def test_who_trains_on_several_machines_may_be_reached(monkeypatch):
    recipe = {"model_name_or_path": "hub/model"}
    assert training_environment(recipe, 1)["PET_RDZV_BACKEND"] == "loopback"
    assert "PET_RDZV_BACKEND" not in training_environment(recipe, 1, alone=False)
    monkeypatch.setenv("NNODES", "2")
    assert not {"PET_RDZV_BACKEND", "GLOO_SOCKET_IFNAME"} & training_environment(recipe, 1).keys()


def test_an_interface_that_is_named_is_taken(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    assert training_environment({"model_name_or_path": "hub/model"}, 1)["GLOO_SOCKET_IFNAME"] == "eth7"


def test_deepspeed_without_gpu_needs_a_number_of_processes(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    has_gpu.cache_clear()
    with pytest.raises(ConfigError, match="processes"):
        training_environment({"model_name_or_path": "hub/model", "deepspeed": "zero2.json"}, None)
    has_gpu.cache_clear()
