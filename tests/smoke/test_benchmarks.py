"""Benchmarks run, and end with one JSON object; what they measure is not judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dataset_builders.build import build_dataset
from dataset_builders.build_config import BuildConfig
from dataset_builders.manifest import read_manifest
from dataset_builders.scenes.board import ScenesConfig, make_boards
from dataset_builders.task_card import TaskCard

pytestmark = pytest.mark.slow
SMALL = {
    "augment_vs_loop.py": ["--photos", "64", "--side", "112", "--repeats", "1", "--cores", "2"],
    "augmentation.py": ["--arms", "none", "--seeds", "1", "--resamples", "5", "--override", "max_steps=1"],
    "fuse_million.py": ["--rows", "500", "--validation", "300", "--shard-size", "128", "--repeats", "1"],
    "report_large.py": ["--photos", "200", "--validation", "300", "--steps", "3"],
    "second_look.py": ["--resamples", "20"],
    "missed_hazards.py": [],
    "plan_memory.py": ["--arms", "1"],
    "predict_chaos.py": ["--trials", "3", "--photos", "40"],
    "predict_steps.py": ["--photos", "4", "--repeats", "1"],
    "predict_vs_vllm.py": ["--photos", "4", "--repeats", "1", "--cores", "1"],
    "predict_vs_loop.py": ["--photos", "4", "--repeats", "1", "--max-new-tokens", "4", "--cores", "1"],
    "ray_scaling.py": ["--photos", "32", "--shard-size", "4", "--repeats", "1", "--arms", "local,ray_1"],
    "stacking.py": ["--resamples", "20"],
    "train_throughput.py": ["--size", "7b"],
    "verification.py": ["--adapters", "none", "--photos", "10", "--resamples", "5"],
}


@pytest.fixture
def board(tmp_path: Path, card: TaskCard, card_path: Path) -> Path:
    """A built data set of a few scenes, with the board that ``augmentation.py`` scores."""
    scenes = yaml.safe_load(Path("recipes/tiny/scenes.yaml").read_text(encoding="utf-8"))
    boards = [
        {"name": name, "stream": stream, "counts": dict.fromkeys(card.label_ids, 6)}
        for name, stream in (("train", 911), ("board_a", 912))
    ]
    make_boards(ScenesConfig.model_validate(scenes | {"out": tmp_path / "scenes", "boards": boards}), 1, print)
    sources = [
        {
            "kind": "label_list",
            "name": name,
            "role": role,
            "path": tmp_path / "scenes" / f"{name}.txt",
            "images": tmp_path / "scenes" / name,
        }
        for name, role in (("train", "train"), ("board_a", "test"))
    ]
    config = {"task": card_path, "out": tmp_path / "data", "folds": 3, "workers": 1, "sources": sources}
    build_dataset(BuildConfig.model_validate(config))
    return tmp_path / "data"


def run_benchmark(name: str, *arguments: object) -> dict:
    command = [sys.executable, f"benchmarks/{name}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["benchmark"] == Path(name).stem
    return result


def test_every_benchmark_is_run():
    assert set(SMALL) == {path.name for path in Path("benchmarks").glob("*.py")}


OWN_TESTS = {"augmentation.py", "missed_hazards.py", "predict_chaos.py", "predict_vs_vllm.py"}
OWN_TESTS |= {"ray_scaling.py", "second_look.py", "stacking.py"}


# Minutes together, and none that a change of the product often breaks.
LONG = {
    "augment_vs_loop.py",
    "plan_memory.py",
    "predict_steps.py",
    "predict_vs_loop.py",
    "report_large.py",
    "verification.py",
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] if n in LONG else []) for n in sorted(set(SMALL) - OWN_TESTS)]
)
def test_last_line_is_one_json_object_with_ratios(name):
    result = run_benchmark(name, *SMALL[name])
    assert all(ratio > 0 for ratio in result.get("ratios", {}).values())


@pytest.mark.long
def test_ray_is_held_against_the_process_alone():
    result = run_benchmark("ray_scaling.py", *SMALL["ray_scaling.py"])
    assert all(ratio > 0 for ratio in result["ratios"].values())


@pytest.mark.long
def test_deaths_at_random_points_change_no_byte():
    result = run_benchmark("predict_chaos.py", *SMALL["predict_chaos.py"])
    assert result["byte_identical"] == result["trials"] == 3


@pytest.mark.parametrize(
    ("words", "message"), [((), "by --vllm-python"), (("--vllm-python", sys.executable), "no vLLM")]
)
def test_without_vllm_nothing_is_measured_and_it_says_so(words, message):
    command = [sys.executable, "benchmarks/predict_vs_vllm.py", *SMALL["predict_vs_vllm.py"], *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 2
    assert "nothing was measured" in done.stderr
    assert message in done.stderr
    assert not done.stdout


@pytest.mark.long
@pytest.mark.skipif("VLLM_PYTHON" not in os.environ, reason="VLLM_PYTHON names no Python with vLLM")
def test_vllm_says_what_the_scorer_says():
    words = ["--vllm-python", os.environ["VLLM_PYTHON"], *SMALL["predict_vs_vllm.py"]]
    result = run_benchmark("predict_vs_vllm.py", *words)
    assert all(ratio > 0 for ratio in result["ratios"].values())
    assert result["parity_with_scorer"]["vllm_whole"]["photos"] == 4
    assert result["parity_with_scorer"]["vllm_whole"]["max_difference_of_logps"] < 1e-3


def write_decisions_by_hand(out: Path, card: TaskCard, found: float) -> Path:
    """Decisions about 40 photos of which base gets every fourth wrong, and fused the share ``found`` of these right."""
    labels = [card.label_ids[n % len(card.label_ids)] for n in range(40)]
    wrong = [card.label_ids[(n + 1) % len(card.label_ids)] for n in range(40)]
    base = [wrong[n] if n % 4 == 0 else labels[n] for n in range(40)]
    fused = [labels[n] if n < 40 * found else base[n] for n in range(40)]
    systems = {"base": base, "override": base, "fused": fused}
    columns = {
        "sample_id": [f"b/{n:02}" for n in range(40)],
        "source": ["board_b"] * 40,
        "label": labels,
        **{f"{name}_{way}": values for way in ("argmax", "rule") for name, values in systems.items()},
        "submitted": fused,
        f"{card.specialists[0].name}_positive": [0.9 if label == "high" else 0.1 for label in labels],
    }
    out.mkdir()
    pq.write_table(pa.table(columns), out / "decisions.parquet")
    return out


def test_second_look_compares_systems_and_arms(tmp_path, card):
    seeds = [write_decisions_by_hand(tmp_path / name, card, found) for name, found in (("a", 0.5), ("b", 1), ("c", 1))]
    arms = ["--arm", "plain", *seeds[:2], "--arm", "other", seeds[2]]
    result = run_benchmark("second_look.py", *arms, *SMALL["second_look.py"])
    plain = result["arms"]["plain"]
    assert plain["base_argmax"]["error_rate"]["mean"] == pytest.approx(0.25)
    assert plain["fused_argmax"]["error_rate"]["by_seed"] == pytest.approx([0.125, 0])
    assert plain[card.specialists[0].name]["auc"]["mean"] == 1
    difference = {(found["system"], found["against"]): found for found in result["differences"]}
    gain = difference["plain fused_argmax", "plain base_argmax"]
    assert gain["relative_error"]["difference"] == pytest.approx(-0.75)
    assert gain["score"]["interval"][0] > 0
    assert difference["other fused_rule", "plain fused_rule"]["error_rate"]["difference"] == pytest.approx(-0.0625)


def test_second_look_wants_labelled_photos(tmp_path, card):
    directory = write_decisions_by_hand(tmp_path / "a", card, 1)
    command = [sys.executable, "benchmarks/second_look.py", "--arm", "a", str(directory), "--source", "board_c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 1
    assert "decisions.parquet: has no photos of source board_c" in done.stderr


@pytest.fixture
def places(tmp_path, card, monkeypatch):
    """Arguments that name the data and predictions of a run with fold models, simulated."""
    monkeypatch.syspath_prepend(Path("tests/unit/launch/report").resolve())
    from report_data import make_run

    make_run(tmp_path, card, specialists=card.stages[1:], out_of_fold=True, trained=False)
    return ["--data", tmp_path / "data", "--predictions", tmp_path / "predictions"]


def test_missed_hazards_are_counted_by_cause_and_size(places, card, tmp_path):
    names = sorted({row.name: row.label for row in read_manifest(tmp_path / "data") if row.split == "test"}.items())
    battery = {"kind": "battery", "pixels": 800, "visible": True}
    hidden = {"kind": "ebike", "pixels": 5000, "visible": False}
    scenes = [
        {"name": name, "truth": label or card.fallback, "things": [battery, hidden] if label == "high" else [hidden]}
        for name, label in names
    ]
    (tmp_path / "scenes").mkdir()
    lines = "".join(json.dumps(scene) + "\n" for scene in scenes)
    (tmp_path / "scenes" / "a_truth.jsonl").write_text(lines, encoding="utf-8")
    result = run_benchmark("missed_hazards.py", *places, "--scenes", tmp_path / "scenes")
    dangerous = sum(scene["truth"] == "high" for scene in scenes)
    assert result["dangerous"] == dangerous > 0
    assert list(result["cause"]) == ["battery"]
    assert list(result["size"]) == ["under 1200 pixels"]
    assert result["cause"]["battery"]["scenes"] == dangerous >= result["cause"]["battery"]["fused"] > 0
    assert result["false alarms"]["scenes that are not dangerous"]["scenes"] == len(scenes) - dangerous


def test_fusion_and_a_free_combination_are_compared(places):
    result = run_benchmark("stacking.py", *places, *SMALL["stacking.py"])
    # Both see the same simulated answers, of which the specialists' are the better ones.
    scores = {name: found["score"] for name, found in result["systems"].items()}
    assert min(scores["fused_argmax"], scores["stacked_argmax"]) > scores["base_argmax"]
    gain = result["differences"]["stacked_rule - fused_rule"]
    assert gain["score"] == pytest.approx(scores["stacked_rule"] - scores["fused_rule"])


@pytest.mark.long  # the three trainings take a minute
def test_arms_of_augmentation_are_trained_and_scored(board, tmp_path):
    arguments = ["--data", board, "--work", tmp_path / "work", *SMALL["augmentation.py"]]
    arguments += [f"dataset_dir={board}", "per_device_train_batch_size=2"]
    result = run_benchmark("augmentation.py", *arguments)
    assert list(result["arms"]) == ["none"]
    assert result["arms"]["none"]["mean"]["log_loss"] > 0
