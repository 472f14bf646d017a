"""Out-of-fold runs: what is planned, refused, kept and made anew; and two real trainings of the tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from pydantic import ValidationError

from dataset_builders.build import build_dataset
from dataset_builders.build_config import BuildConfig
from dataset_builders.errors import ConfigError, DataError, FingerprintMismatch, StepError
from dataset_builders.files import file_sha256
from dataset_builders.manifest import ManifestRow, read_manifest, write_manifest
from dataset_builders.mining import read_target_probabilities
from dataset_builders.task_card import TaskCard
from launch.cli import main
from launch.out_of_fold import MARKER_NAME, OutOfFoldConfig, plan_folds, run_out_of_fold
from launch.pipeline.step import Marker, write_marker
from launch.predict.rows import rows_from_dataset

CARD_PATH = Path(__file__).parents[3] / "recipes/tasks/corridor.yaml"
FOLDS = 2
Make = Callable[..., OutOfFoldConfig]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, card: TaskCard) -> Path:
    """Twenty noise photos in two folds and a test photo."""
    directory = tmp_path_factory.mktemp("built")
    texts = [label.text for label in card.labels]
    for index in range(21):
        noise = np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((56, 56)).save(directory / f"{index}.png")
    (directory / "train.txt").write_text("".join(f"{i}.png\t{texts[i % 5]}\n" for i in range(20)), encoding="utf-8")
    (directory / "test.txt").write_text("20.png\n", encoding="utf-8")
    sources = [
        {"name": role, "kind": "label_list", "role": role, "path": directory / f"{role}.txt", "images": directory}
        for role in ("train", "test")
    ]
    values = {"task": CARD_PATH, "out": directory / "data", "folds": FOLDS, "workers": 1, "sources": sources}
    build_dataset(BuildConfig.model_validate(values))
    return directory / "data"


@pytest.fixture
def data(built: Path) -> Path:
    """The data set, whose manifest a test may change."""
    rows = read_manifest(built)
    yield built
    write_manifest(built, rows)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of a model that is not here: enough to plan with."""
    path = tmp_path / "recipe.yaml"
    values = {"model_name_or_path": "some/model", "template": "qwen2_vl", "output_dir": "elsewhere"}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def make(tmp_path: Path, data: Path, recipe: Path) -> Make:
    """Config of a run; keyword arguments replace fields."""

    def config(**changes: Any) -> OutOfFoldConfig:
        values = {
            "recipe": recipe,
            "task": CARD_PATH,
            "data": data,
            "out": tmp_path / "predictions",
            "saves": tmp_path / "saves",
            "engine": "local",
            "shard_size": 4,
        }
        return OutOfFoldConfig.model_validate(values | changes)

    return config


def copy_of(row: ManifestRow, number: int = 0, **changes: Any) -> ManifestRow:
    sample_id = f"{row.sample_id}~{number:03d}"
    return replace(row, sample_id=sample_id, parent=row.sample_id, split="train", transform="{}", **changes)


def settings(config: OutOfFoldConfig, kind: str) -> list[Any]:
    return [getattr(fold, kind).settings for fold in plan_folds(config).folds]


def test_every_photo_is_scored_in_the_fold_that_its_model_has_not_seen(make: Make, data: Path) -> None:
    plan = plan_folds(make())
    scored = [row.sample_id for fold in range(FOLDS) for row in rows_from_dataset(data, ("train", "val"), (fold,))]
    fitted = [row.sample_id for row in read_manifest(data) if row.split != "test"]
    assert Counter(scored) == dict.fromkeys(fitted, 1)
    assert sum(fold.photos for fold in plan.folds) == len(fitted)
    for fold in plan.folds:
        seen = {row.sample_id for row in fold.sets.train}
        assert not seen & {row.sample_id for row in rows_from_dataset(data, ("train", "val"), (fold.fold,))}


def test_recipe_of_a_fold(make: Make, data: Path) -> None:
    config = make(overrides={"learning_rate": 1e-4, "image_max_pixels": 784})
    fold = plan_folds(config).folds[1]
    used = fold.training.settings["recipe"]
    expected = {
        "dataset_dir": f"{data}/folds",
        "media_dir": str(data),
        "dataset": "corridor_fold1_train",
        "eval_dataset": "corridor_fold1_val",
        "output_dir": f"{config.saves}/fold-1",
        "learning_rate": 1e-4,
        "image_max_pixels": 784,
        "template": "qwen2_vl",
    }
    assert expected.items() <= used.items()


def test_first_fold_s_recipe_is_checked_before_any_training(make: Make) -> None:
    for folds, commands in ((None, [2, 1]), ((1,), [2])):
        steps = [fold.training for fold in plan_folds(make(folds=folds)).chosen]
        shown = [[command.shown for command in step.make_commands()] for step in steps]
        assert [len(texts) for texts in shown] == commands
        assert shown[0][0].startswith("riskfuse check ")
        assert all("llamafactory-cli train" in texts[-1] for texts in shown)


@pytest.mark.parametrize(
    ("changes", "trains", "predicts"),
    [
        ({"overrides": {"learning_rate": 1e-5}}, True, True),
        ({"overrides": {"logging_steps": 1}}, False, False),
        ({"processes": 2}, True, False),
        ({"engine": "ray", "workers": 2}, False, False),
        ({"shard_size": 8}, False, True),
    ],
)
def test_what_decides_a_fold(make: Make, changes: dict, trains: bool, predicts: bool) -> None:
    for kind, decides in (("training", trains), ("prediction", predicts)):
        assert (settings(make(), kind) != settings(make(**changes), kind)) == decides, kind


def test_verification_of_copies_makes_no_prediction_stale(make: Make, data: Path) -> None:
    rows = read_manifest(data)
    copies = [copy_of(row, image=row.image) for row in rows if row.split == "train"]
    write_manifest(data, [*rows, *copies])
    plan = plan_folds(make())
    assert sum(fold.copies for fold in plan.folds) == len(copies)
    before = settings(make(), "prediction")
    verified = [replace(row, verification_score=0.1, status="dropped", reason="low") for row in copies]
    write_manifest(data, [*rows, *verified])
    assert settings(make(), "prediction") == before
    assert not any(row.problem for row in rows_from_dataset(data, ("train", "val"), (0, 1)))


def test_copies_of_another_data_set_are_scored_in_their_parent_s_fold(make: Make, data: Path, tmp_path: Path) -> None:
    rows = read_manifest(data)
    augmented = tmp_path / "augmented"
    augmented.mkdir()
    copies = [copy_of(row, number) for row in rows if row.split == "train" for number in (0, 1)]
    write_manifest(augmented, [*rows, *copies])
    fold_of = {row.sample_id: row.fold for row in rows}
    plan = plan_folds(make(predict_data=augmented))
    assert sum(fold.copies for fold in plan.folds) == len(copies)
    for fold in plan.folds:
        scored = rows_from_dataset(augmented, ("train", "val"), (fold.fold,))
        assert {fold_of[row.sample_id.split("~")[0]] for row in scored} == {fold.fold}
    fitted = next(row for row in rows if row.fold == 0)
    for strange, words in (
        (copy_of(fitted, fold=1), "is in fold 1, but in fold 0 of"),
        (replace(fitted, sample_id="train/new.png"), "has no such photo"),
    ):
        write_manifest(augmented, [*rows, strange])
        with pytest.raises(DataError, match=words):
            plan_folds(make(predict_data=augmented))
    write_manifest(augmented, [replace(row, sha256="other") for row in rows])
    with pytest.raises(DataError, match="another picture"):
        plan_folds(make(predict_data=augmented))


def test_what_is_refused_before_any_work(make: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no fold 7; it has 0, 1"):
        plan_folds(make(folds=(0, 7)))
    leaks = {"tokenized_path": "cache", "adapter_name_or_path": "saves/base", "load_best_model_at_end": True}
    with pytest.raises(ConfigError, match=r"(?s)3 findings.*tokenized_path.*adapter_name_or_path.*load_best"):
        plan_folds(make(overrides=leaks))
    assert plan_folds(make(overrides=dict.fromkeys(leaks)))
    with pytest.raises(ConfigError, match="lr_scheduler_type: got 'reduce_lr_on_plateau', but the photos that a fold"):
        plan_folds(make(overrides={"lr_scheduler_type": "reduce_lr_on_plateau"}))
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"model_name_or_path: got .*merged', but the adapter"):
        plan_folds(make(overrides={"model_name_or_path": str(tmp_path / "main" / "merged")}))
    recipe = tmp_path / "two_sets.yaml"
    recipe.write_text("dataset: corridor_train,other\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="dataset: got corridor_train, other, but a fold trains on its stage's"):
        plan_folds(make(recipe=recipe))
    for changes, words in (
        ({"overrides": {"output_dir": "x", "dataset": "y"}}, "dataset and output_dir"),
        ({"saves": tmp_path / "predictions"}, "a directory each"),
        ({"folds": (1, 1)}, "twice"),
        ({"stage": "high_risk"}, "needs mining"),
        ({"mining": (tmp_path,)}, "for a specialist"),
        ({"rows": 10}, "for a specialist"),
        ({"folds": ()}, "empty"),
    ):
        with pytest.raises(ValidationError, match=words):
            make(**changes)
    assert not (tmp_path / "saves").exists()
    assert not (tmp_path / "predictions").exists()


def pretend(config: OutOfFoldConfig, fold: int) -> None:
    """Leave a complete prediction of a fold, as far as its marker tells."""
    plan = plan_folds(config).folds[fold]
    plan.out.mkdir(parents=True)
    write_marker(
        config.out / "steps" / f"{plan.prediction.name}.json", Marker(True, "", {}, plan.prediction.settings, {})
    )


def test_folds_of_another_recipe_are_not_mixed(make: Make) -> None:
    pretend(make(overrides={"learning_rate": 1.0}), 1)
    with pytest.raises(FingerprintMismatch, match=r"fold-1: not asked for now.*leave out --folds"):
        run_out_of_fold(make(folds=(0,)))


def test_folds_of_a_data_set_with_more_folds_are_not_mixed(make: Make) -> None:
    (make().out / "fold-4").mkdir(parents=True)
    with pytest.raises(FingerprintMismatch, match="fold-4"):
        run_out_of_fold(make())


def test_folds_of_another_stage_are_not_overwritten(make: Make) -> None:
    config = make()
    config.out.mkdir()
    (config.out / MARKER_NAME).write_text('{"stage": "high_risk"}', encoding="utf-8")
    with pytest.raises(FingerprintMismatch, match="holds the folds of stage high_risk, and not of base"):
        run_out_of_fold(config)


def predict_all(data: Path, directory: Path, card: TaskCard) -> Path:
    """Predictions of the base stage on all photos of the folds, as far as mining reads them."""
    rows = [row for row in read_manifest(data) if row.fold >= 0]
    directory.mkdir()
    columns = {f"logp_{label}": [-2.0 - 0.01 * n for n in range(len(rows))] for label in card.label_ids}
    columns |= {"sample_id": [row.sample_id for row in rows], "status": ["ok"] * len(rows)}
    pq.write_table(pa.table(columns), directory / "part-00000.parquet")
    (directory / "predictions.json").write_text("{}", encoding="utf-8")
    return directory


def test_plan_of_a_specialist(make: Make, data: Path, card: TaskCard, tmp_path: Path) -> None:
    mining = {"stage": "high_risk", "mining": (predict_all(data, tmp_path / "mined", card),)}
    plan = plan_folds(make(**mining, rows=6))
    for fold in plan.folds:
        recipe = fold.training.settings["recipe"]
        assert recipe["dataset"] == f"corridor_high_risk_fold{fold.fold}_train"
        assert recipe["eval_dataset"] == f"corridor_high_risk_fold{fold.fold}_val"
        assert "--stage high_risk " in fold.prediction.make_commands()[0].shown
        assert fold.fold not in {row.fold for row in fold.sets.train}
        answers = {card.answer_for("high_risk", str(row.label)).id for row in fold.sets.train}
        assert answers == {"present", "absent"}
    assert plan.folds[0].sets.fingerprint != plan_folds(make()).folds[0].sets.fingerprint
    with pytest.raises(ConfigError, match="no specialist 'third'"):
        plan_folds(make(**mining | {"stage": "third"}))


def test_strange_adapter_is_not_touched(make: Make, data: Path) -> None:
    adapter = make().saves / "fold-0" / "adapter_model.safetensors"
    adapter.parent.mkdir(parents=True)
    adapter.write_bytes(b"ten hours")
    with pytest.raises(FingerprintMismatch, match=r"fold-0, where something lies"):
        run_out_of_fold(make())
    assert adapter.read_bytes() == b"ten hours"


def test_folds_option_of_predict(data: Path, recipe: Path, tmp_path: Path, capsys) -> None:
    rows = read_manifest(data)
    assert {row.sample_id for row in rows_from_dataset(data, ("train", "val"), (1,))} == {
        row.sample_id for row in rows if row.fold == 1
    }
    assert {row.sample_id for row in rows_from_dataset(data, ("test", "val"), (0,))} == {
        row.sample_id for row in rows if row.fold == 0
    }
    with pytest.raises(DataError, match="no photo of fold 0 is in split train"):
        rows_from_dataset(data, ("train",), (0,))
    words = ["predict", "--recipe", recipe, "--task", CARD_PATH, "--stage", "base", "--out", tmp_path / "out"]
    words = [*map(str, words), "--adapter", "none"]
    assert main([*words, "--data", str(data), "--folds", "0,5"]) == 2
    assert "no fold 5; it has 0, 1" in capsys.readouterr().err
    for folds in ("x", ""):
        assert main([*words, "--data", str(data), "--folds", folds]) == 2
        assert "folds" in capsys.readouterr().err
    assert main([*words, "--images", str(data), "--list", "list.txt", "--folds", "0"]) == 2
    assert "a list of photos has none" in capsys.readouterr().err


@pytest.mark.slow
def test_wrong_recipe_is_found_before_any_training(make: Make, tiny_recipe: Path) -> None:
    """The preflight of the first fold is a real one."""
    config = make(recipe=tiny_recipe, overrides={"cutoff_len": 64, "learning_rat": 1})
    with pytest.raises(StepError) as caught:
        run_out_of_fold(config)
    for word in ("riskfuse check", "learning_rat", "cutoff_len"):
        assert word in str(caught.value)
    assert not (config.saves / "fold-0").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, built: Path, tiny_model: Path) -> dict[str, Any]:
    """Both folds, two steps each: fold 0 by itself first, then all."""
    directory = tmp_path_factory.mktemp("trained")
    recipe = {
        "model_name_or_path": str(tiny_model),
        "template": "qwen2_vl",
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_target": "all",
        "image_max_pixels": 56 * 56,
        "image_min_pixels": 56 * 56,
        "cutoff_len": 1024,
        "per_device_train_batch_size": 2,
        "preprocessing_num_workers": 1,
        "report_to": "none",
        "output_dir": "elsewhere",
    }
    (directory / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    words = ["out-of-fold", "recipe.yaml", "--task", CARD_PATH, "--data", built, "--out", "oof", "--saves", "saves"]
    words += ["--override", "max_steps=2", "logging_steps=1", "--engine", "local", "--shard-size", "4"]

    def run(*more: str) -> str:
        command = [sys.executable, "-m", "launch.cli", *map(str, words), *more]
        # Tests that load a model in this process quiet LLaMA-Factory, whose log is read below.
        environment = {name: value for name, value in os.environ.items() if name != "LLAMAFACTORY_VERBOSITY"}
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return {"directory": directory, "run": run, "one": run("--folds", "0"), "all": run()}


@pytest.mark.slow
def test_one_fold_alone_says_what_it_costs(trained: dict[str, Any]) -> None:
    assert "1 of 2 folds: 10 of 20 photos" in trained["one"]
    assert "10 photos (50%) have no out-of-fold prediction" in trained["one"]
    assert "--folds 1" in trained["one"]
    assert "what this costs" not in trained["all"]


@pytest.mark.slow
def test_every_photo_has_one_prediction_by_the_model_of_its_fold(
    trained: dict[str, Any], built: Path, card: TaskCard
) -> None:
    out = trained["directory"] / "oof"
    fitted = {row.sample_id: row.fold for row in read_manifest(built) if row.fold >= 0}
    directories = sorted(out.glob("fold-*"))
    probabilities, _ = read_target_probabilities(
        directories, card, card.specialists[0], read_manifest(built)
    )  # as mining reads them; refuses photos that come twice
    assert probabilities.keys() == fitted.keys()
    for fold, directory in enumerate(directories):
        rows = [row for part in sorted(directory.glob("part-*")) for row in pq.read_table(part).to_pylist()]
        assert {fitted[row["sample_id"]] for row in rows} == {fold}
        adapter = trained["directory"] / f"saves/fold-{fold}/adapter_model.safetensors"
        components = json.loads((directory / "predictions.json").read_text())["components"]
        assert components["adapter"][adapter.name] == file_sha256(adapter)
    marker = json.loads((out / MARKER_NAME).read_text(encoding="utf-8"))
    assert marker["folds"] == {"0": "fold-0", "1": "fold-1"}
    assert (marker["photos"], marker["photos_of_data_set"], marker["copies"]) == (20, 20, 0)


@pytest.mark.slow
def test_nothing_is_trained_or_scored_twice(trained: dict[str, Any]) -> None:
    directory = trained["directory"]
    assert trained["all"].count(": complete") == 2  # training and prediction of fold 0, which was done alone
    files = [*directory.glob("saves/fold-*/*"), *directory.glob("oof/fold-*/*"), *directory.glob("*/logs/*")]
    times = {path: path.stat().st_mtime_ns for path in files}
    marker = directory / "oof" / MARKER_NAME
    before = marker.read_bytes()
    marker.unlink()
    assert trained["run"]().count(": complete") == 4
    assert {path: path.stat().st_mtime_ns for path in files} == times
    assert marker.read_bytes() == before


@pytest.mark.slow
def test_folds_differ_in_what_they_learnt_alone(trained: dict[str, Any]) -> None:
    log = (trained["directory"] / "saves/logs/train_fold-0.log").read_text(encoding="utf-8", errors="replace")
    assert "Loading dataset corridor_fold0_train.json" in log
    assert "Loading dataset corridor_fold0_val.json" in log
    first, second = (trained["directory"] / f"saves/fold-{fold}" for fold in range(FOLDS))
    assert (first / "adapter_model.safetensors").read_bytes() != (second / "adapter_model.safetensors").read_bytes()
    assert (first / "adapter_config.json").read_bytes() == (second / "adapter_config.json").read_bytes()
