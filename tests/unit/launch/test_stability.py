"""The stability analysis: what is varied, what is reported, and that it goes on where it stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from dataset_builders.errors import ConfigError, DataError
from dataset_builders.manifest import ManifestRow, write_manifest
from launch.cli import main
from launch.stability import StabilityConfig, run_stability
from launch.stability.report import spread_by_kind
from launch.stability.run import _stratified
from launch.stability.variations import list_variations


@pytest.fixture
def settings(tiny_recipe, card_path, card, photo_dir, tmp_path) -> dict:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    rows = []
    for position, path in enumerate(sorted(photo_dir.iterdir())[:12]):
        (data / "images" / path.name).write_bytes(path.read_bytes())
        label = card.label_ids[position % len(card.label_ids)]
        rows.append(ManifestRow(f"b/{path.name}", "b", path.name, position, "test", label, f"images/{path.name}"))
    write_manifest(data, rows)
    paraphrases = tmp_path / "paraphrases.yaml"
    asks = [{"name": "short", "system": "{rules}", "user": "{answers}?"}]
    paraphrases.write_text(yaml.safe_dump({"paraphrases": asks}, allow_unicode=True), encoding="utf-8")
    return {
        "recipe": tiny_recipe,
        "task": card_path,
        "stage": "base",
        "data": data,
        "out": tmp_path / "out",
        "adapters": ("none",),
        "photos": 8,
        "batch_sizes": (4, 1),
        "workers": (),
        "paraphrases": paraphrases,
        "resamples": 20,
    }


def test_each_variation_changes_one_thing(settings, card, tmp_path):
    config = StabilityConfig(**settings | {"adapters": ("one", "two"), "workers": (1, 2)})
    reference, *others = list_variations(config, card, tmp_path)
    assert [v.name for v in others] == [
        "adapter-2",
        "batch-size-1",
        "workers-1",
        "workers-2",
        "bfloat16",
        "prompt-short",
        "views-flip",
    ]
    plain = reference.config.model_dump(exclude={"out"})
    for variation in others:
        changed = {key for key, value in variation.config.model_dump(exclude={"out"}).items() if value != plain[key]}
        assert len(changed - {"engine"}) <= 1
        assert changed
    assert len({v.config.out for v in (reference, *others)}) == len(others) + 1


def test_paraphrases_of_a_specialist_go_into_its_own_prompt(settings, card, tmp_path):
    from dataset_builders.task_card import load_task_card

    stage = card.stages[1]
    variations = list_variations(StabilityConfig(**settings | {"stage": stage}), card, tmp_path)
    asked = load_task_card(next(v for v in variations if v.kind == "prompt").config.task)
    assert asked.specialists[0].prompt.user == "{answers}?"
    assert asked.base == card.base


@pytest.mark.slow
def test_report_of_the_random_model_is_complete_and_resumable(settings, capsys, monkeypatch):
    report = run_stability(StabilityConfig(**settings))
    out = settings["out"]
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        "stability.txt",
        "stability.csv",
        "stability.json",
        "stability.png",
    }
    by_name = {item["name"]: item for item in report.figures["variations"]}
    assert set(by_name) == {"reference", "batch-size-1", "bfloat16", "prompt-short", "views-flip"}
    assert by_name["batch-size-1"]["flips"] == 0
    # By a wide margin: rounding in another order is less than rounding to three digits.
    assert 10 * by_name["batch-size-1"]["max_change"] < by_name["bfloat16"]["max_change"]
    assert 10 * by_name["batch-size-1"]["max_change"] < by_name["prompt-short"]["max_change"]
    assert all(item["photos"] == 8 for item in by_name.values())
    lines = list(csv.DictReader((out / "stability.csv").read_text(encoding="utf-8").splitlines()))
    assert [line["name"] for line in lines] == list(by_name)
    assert json.loads((out / "stability.json").read_text(encoding="utf-8")) == report.figures
    assert (out / "stability.txt").read_text(encoding="utf-8") == report.table
    parts = {path: path.stat().st_mtime_ns for path in out.glob("predictions/*/part-*.parquet")}
    assert run_stability(StabilityConfig(**settings)).figures == report.figures
    assert {path: path.stat().st_mtime_ns for path in out.glob("predictions/*/part-*.parquet")} == parts


def test_mistakes_are_named(settings, card, tmp_path, capsys):
    with pytest.raises(DataError, match="no photos in split 'dev'"):
        run_stability(StabilityConfig(**settings | {"split": "dev"}))
    with pytest.raises(ConfigError, match="no stage 'high_rsik'"):
        run_stability(StabilityConfig(**settings | {"stage": "high_rsik"}))
    other = yaml.safe_load(Path(settings["task"]).read_text(encoding="utf-8").replace("not_corridor", "elsewhere"))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other, allow_unicode=True), encoding="utf-8")
    with pytest.raises(DataError, match=r"labels not_corridor, which .*other.yaml does not have"):
        run_stability(StabilityConfig(**settings | {"task": tmp_path / "other.yaml"}))
    twice = [{"name": "a", "system": "s", "user": "u"}] * 2
    settings["paraphrases"].write_text(yaml.safe_dump({"paraphrases": twice}), encoding="utf-8")
    with pytest.raises(ConfigError, match="different names"):
        list_variations(StabilityConfig(**settings), card, tmp_path)
    words = ["--recipe", "r", "--task", "t", "--stage", "base", "--data", "d", "--out", "o", "--dtypes", "int4"]
    assert main(["stability", *words]) == 2
    assert "dtypes" in capsys.readouterr().err


def test_a_drawn_part_has_every_label_at_its_share_and_no_photo_twice():
    labels = ["rare"] * 6 + ["common"] * 94
    rows = [ManifestRow(str(n), "b", str(n), n, "test", label) for n, label in enumerate(labels)]
    for seed in range(5):
        drawn = _stratified(rows, 50, seed)
        assert len(set(drawn)) == 50
        assert drawn == sorted(drawn)
        assert sum(labels[n] == "rare" for n in drawn) == 3
    assert _stratified(rows, 100, 0) == list(range(100))


def test_spread_counts_the_reference_in():
    found = spread_by_kind(
        [
            {"kind": "reference", "drift": 0.0, "score": 5.0},
            {"kind": "batch_size", "drift": 0.01, "score": 5.2},
            {"kind": "batch_size", "drift": 0.03, "score": 5.1},
        ]
    )
    assert found == {"batch_size": {"largest_drift": 0.03, "score_range": pytest.approx(0.2)}}
