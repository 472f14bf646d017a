"""The estimate's properties, and its model states against DeepSpeed's own estimators."""

import importlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.plan.activations import Batch, loss_head
from launch.plan.architecture import find_architecture
from launch.plan.estimate import Memory, estimate_memory, lora_parameters
from launch.plan.settings import Settings, read_settings

ROOT = Path(__file__).parents[4]
MODELS = {size: find_architecture(f"Qwen2.5-VL-{size}-Instruct") for size in ("3B", "7B")}
CHECKPOINTING = {
    "off": {"disable_gradient_checkpointing": True},
    "trained": {},
    "all": {"disable_gradient_checkpointing": True, "gradient_checkpointing": True},
}
models = st.sampled_from(sorted(MODELS))
towers = st.booleans()
ways = st.sampled_from(sorted(CHECKPOINTING))
counts = st.integers(1, 8)
lengths = st.integers(64, 4096)


def zero(stage: int, *, offload: bool = False, bucket: int = 0) -> dict:
    part: dict = {"stage": stage, "reduce_bucket_size": bucket}
    if offload:
        part |= {"offload_optimizer": {"device": "cpu"}}
        part |= {"offload_param": {"device": "cpu"}} if stage == 3 else {}
    return {"deepspeed": {"zero_optimization": part}}


def settings_of(size: str, way: str = "off", frozen: bool = True, **keys) -> Settings:
    keys = {"bf16": True, "lora_dropout": 0.1, "freeze_vision_tower": frozen} | CHECKPOINTING[way] | keys
    return read_settings(keys, MODELS[size], "recipe")


def memory(size: str, batch: Batch, *, gpus: int = 1, **how) -> Memory:
    return estimate_memory(MODELS[size], settings_of(size, **how), batch, gpus=gpus)


@given(models, ways, towers, counts, lengths, st.integers(1, 512))
def test_more_tokens_never_take_less(size, way, frozen, rows, length, more):
    first = memory(size, Batch(rows, length, rows, 1024), way=way, frozen=frozen)
    for larger in (
        Batch(rows, length + more, rows, 1024),
        Batch(rows + 1, length, rows + 1, 1024),
        Batch(rows, length, rows, 1024 + more),
    ):
        assert memory(size, larger, way=way, frozen=frozen).total >= first.total


@given(models, ways, towers, counts, lengths)
def test_parts_are_whole_and_add_up(size, way, frozen, rows, length):
    found = memory(size, Batch(rows, length, rows, 1024), way=way, frozen=frozen)
    assert all(isinstance(value, int) and value >= 0 for value in found.parts.values())
    assert found.total == sum(found.parts.values())


@given(models, towers, counts, lengths)
def test_checkpointing_takes_less(size, frozen, rows, length):
    batch = Batch(rows, length, rows, 2916)
    totals = {way: memory(size, batch, way=way, frozen=frozen).total for way in CHECKPOINTING}
    assert totals["all"] <= totals["trained"]
    assert totals["all"] <= totals["off"]
    if not frozen:
        assert totals["all"] == totals["trained"]


@given(models, st.integers(2, 64), counts)
def test_a_higher_zero_stage_never_takes_more(size, gpus, rows):
    batch = Batch(rows, 1024, rows, 2916)
    totals = [memory(size, batch, gpus=gpus, way="all", **zero(stage)).total for stage in (1, 2, 3)]
    assert totals == sorted(totals, reverse=True)


@given(models, st.sampled_from([1, 2, 3]), st.integers(1, 63))
def test_more_gpus_and_offload_never_take_more(size, stage, gpus):
    batch = Batch(1, 1024, 1, 2916)
    here = memory(size, batch, gpus=gpus + 1, way="all", **zero(stage)).total
    assert memory(size, batch, gpus=gpus + 2, way="all", **zero(stage)).total <= here
    assert memory(size, batch, gpus=gpus + 1, way="all", **zero(stage, offload=True)).total <= here


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_gpu_shards_nothing(stage):
    batch = Batch(1, 1024, 1, 2916)
    first = memory("7B", batch, way="all", **zero(1))
    assert memory("7B", batch, way="all", **zero(stage)).total == first.total


def test_eager_attention_and_dropout_take_more():
    batch = Batch(2, 1024, 2, 2916)
    plain = memory("7B", batch).total
    assert memory("7B", batch, flash_attn="disabled").total > plain
    assert memory("7B", batch, flash_attn="fa2").total == plain
    assert memory("7B", batch, lora_dropout=0.0).total < plain


def test_frozen_tower_keeps_everything_under_llamafactorys_checkpointing_alone():
    batch = Batch(4, 1024, 4, 2916)
    frozen = {way: memory("7B", batch, way=way).activations for way in CHECKPOINTING}
    opened = memory("7B", batch, way="trained", frozen=False).activations
    assert frozen["trained"] > 10 * 2**30 > frozen["all"]
    assert opened < frozen["trained"]


def test_logits_are_three_fp32_arrays():
    batch = Batch(4, 1024, 4, 2916)
    assert loss_head(MODELS["7B"], settings_of("7B"), batch) == 3 * 4 * 4096 * 152064


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "nodes"), [(1, 1), (8, 1), (8, 4)])
@pytest.mark.parametrize("stage", [2, 3])
def test_trained_states_are_deepspeeds(gpus, nodes, stage):
    """DeepSpeed's estimators take all weights for trained; given LoRA's alone, they say what the trained part takes."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    trained = lora_parameters(MODELS["7B"], settings_of("7B"))
    where = {"num_gpus_per_node": gpus, "num_nodes": nodes, "cpu_offload": False}
    found = memory("7B", Batch(1, 64, 1, 64), gpus=gpus * nodes, **zero(stage))
    if stage == 2:
        _, expected = estimate_zero2_model_states_mem_needs(trained, **where)
        states = found.weights - 2 * MODELS["7B"].parameters + found.gradients + found.optimizer
    else:  # DeepSpeed counts no gathered weights beside the largest layer's
        _, expected, _ = estimate_zero3_model_states_mem_needs(trained, 0, cpu_offload_params=False, **where)
        states = found.gradients + found.optimizer
    assert states == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_estimate_is_what_a_real_step_allocates(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = importlib.import_module("plan_memory")
    for arm in benchmark.CPU_ARMS:
        if arm.model == "wide":
            row = benchmark.measure(arm, benchmark.model_directory(arm.model, tmp_path), "cpu")
            assert row["weights_exact"]
            assert 0.95 < row["ratio"] < 1.1, row
