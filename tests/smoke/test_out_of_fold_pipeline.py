"""A pipeline with ``out_of_fold: true``: four real trainings of two steps, and a fusion that is fitted on all folds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from smoke_data import write_pipeline

from dataset_builders.manifest import read_manifest

# Each part is tested apart: the folds in unit/launch/test_out_of_fold.py, the pipeline in test_end_to_end.py.
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    directory = tmp_path_factory.mktemp("out_of_fold")
    write_pipeline(
        directory,
        tiny_model,
        overrides={"max_steps": 2},
        high_risk={"mining": {"options": ["--rows", "24"]}},
        folds=2,
        name="folds",
        out_of_fold=True,
        training={"processes": 1},
        inference={"engine": "local", "options": ["--batch-size", "4"]},
    )
    _run(directory)
    return directory


def _run(directory: Path) -> str:
    command = [sys.executable, "-m", "launch.cli", "run", "pipeline.yaml"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_fusion_is_fitted_on_all_training_photos(directory: Path) -> None:
    rows = [row for row in read_manifest(directory / "data") if row.usable and row.fold >= 0]
    fitted_on = json.loads((directory / "runs/folds/fusion/fusion.json").read_text(encoding="utf-8"))["fitted_on"]
    assert (fitted_on["mode"], fitted_on["rows"]) == ("out of fold", len(rows))
    looks = fitted_on["second_looks"]["high_risk"]
    assert (looks["rows"], looks["positives"]) == (len(rows), sum(row.label == "high" for row in rows))
    score = json.loads((directory / "runs/folds/fusion/score.json").read_text(encoding="utf-8"))
    assert score["validation"]["rows"] == len(rows)
    assert score["submitted"] in score["test"]["b"]["systems"]


def test_no_specialist_was_trained_on_a_photo_of_its_fold_and_all_negatives_could_be_mined(directory: Path) -> None:
    data = directory / "data"
    fold_of = {row.image: row.fold for row in read_manifest(data)}
    for stem in ("corridor_fold", "corridor_high_risk_fold"):  # fold 0 is the main models' validation fold
        examples = json.loads((data / f"folds/{stem}1_train.json").read_text(encoding="utf-8"))
        assert examples
        assert 1 not in {fold_of[example["images"][0]] for example in examples}
    counts = json.loads((data / "high_risk.json").read_text(encoding="utf-8"))["train"]
    assert counts["negatives_without_prediction"] == 0
    assert counts["hard_negatives"] > 0


def test_second_run_finds_everything_complete(directory: Path) -> None:
    assert _run(directory).count(": complete") == 11
