"""A tree with every known trap builds, its counts are the truth, and every trap is listed or counted."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from dataset_builders.build import build_dataset
from dataset_builders.build_config import load_build_config
from dataset_builders.drone_vehicle import (
    VEHICLES,
    DroneVehicleConfig,
    build_drone_vehicle,
    load_drone_vehicle_config,
    parse_counts,
)
from dataset_builders.drone_vehicle.__main__ import main
from dataset_builders.drone_vehicle.emit import PAIRS_NAME
from dataset_builders.drone_vehicle.synthetic import LEAK, LEAST_PAIRS, make_tree
from dataset_builders.drone_vehicle.synthetic_traps import TRAPS
from dataset_builders.drone_vehicle.vehicles import DROP_REASONS
from dataset_builders.errors import DataError
from dataset_builders.manifest import read_manifest
from dataset_builders.task_card import TaskCard

ROOT = Path(__file__).parents[4]


def write_config(path: Path, **changes: Any) -> tuple[DroneVehicleConfig, TaskCard]:
    content = yaml.safe_load((ROOT / "recipes/drone_vehicle.yaml").read_text(encoding="utf-8"))
    content |= {"task": str(ROOT / content["task"]), "workers": 1} | {key: str(value) for key, value in changes.items()}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_drone_vehicle_config(path)


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The smallest tree that has every trap, and its truth."""
    tree = tmp_path_factory.mktemp("trapped") / "tree"
    return tree, make_tree(tree, pairs=LEAST_PAIRS)


@pytest.fixture(scope="module")
def built(trapped: tuple[Path, dict[str, Any]]) -> tuple[DroneVehicleConfig, dict[str, Any]]:
    """The data set of that tree and its marker."""
    tree, _ = trapped
    config, card = write_config(tree.parent / "config.yaml", tree=tree, out=tree.parent / "out")
    result = build_drone_vehicle(config, card)
    assert result.fresh
    assert not build_drone_vehicle(config, card).fresh
    return config, result.marker


def check_counts(config: DroneVehicleConfig, marker: dict[str, Any], pairs: dict[str, Any]) -> None:
    """Every usable pair has its true counts, and the marker their sums."""
    table = {row["sample_id"]: row for row in pq.read_table(config.out / PAIRS_NAME).to_pylist()}
    rows = {row.sample_id: row for row in read_manifest(config.out)}
    assert rows.keys() == table.keys() == pairs.keys()
    for sample_id, pair in pairs.items():
        if not rows[sample_id].usable:
            continue
        row, truth = table[sample_id], pair["counts"]["infrared"]
        assert {name: row[name.replace(" ", "_")] for name in VEHICLES} == truth, sample_id
        assert row["passenger_car_units"] == config.density.units(truth)
        assert rows[sample_id].label == config.density.label(truth)
        dropped = {reason: row[f"dropped_{reason}"] for reason in DROP_REASONS if row[f"dropped_{reason}"]}
        assert dropped == pair["dropped"], sample_id
    for split, vehicles in marker["vehicles"].items():
        usable = [pairs[key] for key, row in rows.items() if row.usable and row.split == split]
        assert vehicles == {name: sum(pair["counts"]["infrared"][name] for pair in usable) for name in VEHICLES}


def check_traps(marker: dict[str, Any], truth: dict[str, Any]) -> None:
    """Every trap is listed with its reason, or counted."""
    reasons = {item["sample_id"]: item["reason"] for item in marker["quarantined"]}
    expected = {key: pair["reason"] for key, pair in truth["pairs"].items() if pair["reason"]}
    assert reasons.keys() == expected.keys()
    assert all(expected[key] in reasons[key] for key in expected), reasons
    assert marker["dropped_objects"] == {"nameless": 3, "shapeless": 2, "degenerate": 2, "outside": 3}
    spelled = {"feright_car", "feright car", "feright", "freight_car", "Freight Car", "truvk", "BUS"}
    assert set(marker["respelled_names"]) == spelled
    assert marker["strays"] == truth["strays"]
    assert marker["photos_without_border"] == 2
    assert marker["clipped_vehicles"] > 50


def test_tree_has_every_trap(trapped: tuple[Path, dict[str, Any]]) -> None:
    pairs = trapped[1]["pairs"]
    assert len(pairs) == LEAST_PAIRS
    assert Counter(pair["trap"] for pair in pairs.values() if pair["trap"]) == Counter([*TRAPS, LEAK])


def test_counts_are_the_truth_and_every_trap_is_found(
    trapped: tuple[Path, dict[str, Any]], built: tuple[DroneVehicleConfig, dict[str, Any]]
) -> None:
    check_counts(*built, trapped[1]["pairs"])
    check_traps(built[1], trapped[1])


@pytest.mark.slow
def test_200_pairs_in_two_processes(tmp_path: Path) -> None:
    truth = make_tree(tmp_path / "tree", pairs=200, seed=5)
    assert len(truth["pairs"]) == 200
    config, card = write_config(tmp_path / "c.yaml", tree=tmp_path / "tree", out=tmp_path / "out")
    marker = build_drone_vehicle(config.model_copy(update={"workers": 2}), card).marker
    check_counts(config, marker, truth["pairs"])
    check_traps(marker, truth)


def test_frames_are_the_photos_without_their_border(
    trapped: tuple[Path, dict[str, Any]], built: tuple[DroneVehicleConfig, dict[str, Any]]
) -> None:
    config, _ = built
    table = {row["sample_id"]: row for row in pq.read_table(config.out / PAIRS_NAME).to_pylist()}
    for row in read_manifest(config.out)[::7]:
        if not row.usable:
            continue
        for image, ending in ((row.image, "img"), (table[row.sample_id]["infrared_image"], "imgr")):
            file = next((trapped[0] / row.split / f"{row.split}{ending}").glob(f"{row.name}.*"))
            whole_HWC = np.asarray(Image.open(file))
            cut = whole_HWC[100:612, 100:740] if whole_HWC.shape[:2] == (712, 840) else whole_HWC
            with Image.open(config.out / image) as frame:
                np.testing.assert_array_equal(np.asarray(frame), cut, err_msg=image)


def test_conversations_show_rgb_then_infrared_and_agree_with_the_tables(
    built: tuple[DroneVehicleConfig, dict[str, Any]],
) -> None:
    config, marker = built
    rows = {row.image: row for row in read_manifest(config.out) if row.usable}
    infrared = {row["sample_id"]: row for row in pq.read_table(config.out / PAIRS_NAME).to_pylist()}
    assert len(marker["files"]) == 6 + 6 + 3
    for split in ("train", "val", "test"):
        grades = json.loads((config.out / f"{split}.json").read_text(encoding="utf-8"))
        totals = json.loads((config.out / f"counts_{split}.json").read_text(encoding="utf-8"))
        of_split = [row for row in rows.values() if row.split == split]
        assert len(grades) == len(totals) == len(of_split) > 0
        for row, grade, total in zip(of_split, grades, totals, strict=True):
            assert grade["images"] == total["images"] == [row.image, infrared[row.sample_id]["infrared_image"]]
            for example in (grade, total):
                system, user, _ = (message["content"] for message in example["messages"])
                assert user.startswith("<image><image>")
                assert (system + user).count("<image>") == 2
            assert grade["messages"][-1]["content"] == row.label
            counts = parse_counts(total["messages"][-1]["content"])
            assert counts == {name: infrared[row.sample_id][name.replace(" ", "_")] for name in VEHICLES}


def test_one_photo_alone_goes_through_the_ordinary_build(
    built: tuple[DroneVehicleConfig, dict[str, Any]], tmp_path: Path
) -> None:
    text = (ROOT / "recipes/data/drone_vehicle_rgb.yaml").read_text(encoding="utf-8")
    text = text.replace("data/drone_vehicle_rgb", str(tmp_path / "alone"))  # before the shorter path
    text = text.replace("data/drone_vehicle/", f"{built[0].out}/").replace("recipes/tasks", str(ROOT / "recipes/tasks"))
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("rgb", "infrared"), encoding="utf-8")  # as its header says
    marker = build_dataset(load_build_config(path).with_workers(1)).marker
    assert all(item["reason"].startswith("leak") for item in marker["quarantined"])
    assert sum(marker["counts"]["test"].values()) == sum(built[1]["counts"]["test"].values())


@pytest.mark.parametrize("truth", ["rgb", "merged"])
def test_other_truths_count_other_objects(tmp_path: Path, trapped: tuple[Path, dict[str, Any]], truth: str) -> None:
    tree, truths = trapped
    config, card = write_config(tmp_path / "c.yaml", tree=tree, out=tmp_path / "out", truth=truth)
    build_drone_vehicle(config.model_copy(update={"jpeg_quality": 90}), card)
    table = {row["sample_id"]: row for row in pq.read_table(config.out / PAIRS_NAME).to_pylist()}
    # Every object that the RGB annotation holds is in the infrared one too: merging adds nothing.
    key = "rgb" if truth == "rgb" else "infrared"
    for row in read_manifest(config.out):
        if row.usable:
            counts = {name: table[row.sample_id][name.replace(" ", "_")] for name in VEHICLES}
            assert counts == truths["pairs"][row.sample_id]["counts"][key], row.sample_id


def content_of(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_same_bytes_for_any_number_of_workers_and_after_a_kill(tmp_path: Path, trapped: tuple[Path, Any]) -> None:
    contents = []
    for workers in (2, 1):
        config, card = write_config(tmp_path / f"{workers}.yaml", tree=trapped[0], out=tmp_path / str(workers))
        config = config.model_copy(update={"jpeg_quality": 90, "workers": workers})
        build_drone_vehicle(config, card)
        contents.append(content_of(config.out))
    assert contents[0] == contents[1]
    (config.out / "build.json").unlink()
    (config.out / "train.json").write_text("[]")
    shutil.rmtree(config.out / "images" / "infrared")
    assert build_drone_vehicle(config, card).fresh
    assert content_of(config.out) == contents[0]
    next((config.out / "images" / "infrared" / "val").iterdir()).unlink()
    assert build_drone_vehicle(config, card).fresh


def test_generator_is_deterministic_and_careful(tmp_path: Path, trapped: tuple[Path, dict[str, Any]]) -> None:
    make_tree(tmp_path / "again", pairs=LEAST_PAIRS)
    assert content_of(tmp_path / "again") == content_of(trapped[0])
    with pytest.raises(DataError, match=f"ask for {LEAST_PAIRS} or more"):
        make_tree(tmp_path / "again", pairs=LEAST_PAIRS - 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="no synthetic tree"):
        make_tree(tmp_path / "mine", pairs=LEAST_PAIRS)


def test_unknown_names_are_listed_with_file_and_object(tmp_path: Path, trapped: tuple[Path, Any]) -> None:
    tree = shutil.copytree(trapped[0], tmp_path / "tree")
    for stem in ("00001", "00003"):
        path = tree / "val" / "vallabelr" / f"{stem}.xml"
        path.write_text(path.read_text().replace("</annotation>", "<object><name>tank</name></object></annotation>"))
    config, card = write_config(tmp_path / "c.yaml", tree=tree, out=tmp_path / "out")
    with pytest.raises(DataError, match=r"2 findings(.|\n)*vallabelr/00003.xml: object \d+: unknown name 'tank'"):
        build_drone_vehicle(config, card)
    assert not config.out.exists()


def test_wrong_trees_are_refused_with_the_place(tmp_path: Path, trapped: tuple[Path, Any]) -> None:
    config, card = write_config(tmp_path / "c.yaml", tree=tmp_path / "tree", out=tmp_path / "out")
    with pytest.raises(
        DataError, match="no such directory; `tree` must name the directory that holds train, val, test"
    ):
        build_drone_vehicle(config, card)
    tree = shutil.copytree(trapped[0], tmp_path / "tree")
    shutil.move(tree / "val" / "valimgr", tree / "valimgr")
    shutil.rmtree(tree / "test" / "testlabelr")
    (tree / "test" / "testlabelr").mkdir()
    shutil.copy(tree / "train" / "trainimg" / "00001.jpg", tree / "train" / "trainimg" / "00001.png")
    with pytest.raises(DataError) as caught:
        build_drone_vehicle(config, card)
    message = str(caught.value)
    assert "3 findings" in message
    assert "val/valimgr: no such directory; " in message
    assert "tree/valimgr should be moved there" in message
    assert "test/testlabelr: holds no .xml" in message
    assert "trainimg/00001.png: 00001.jpg has the same stem" in message


def test_rgb_annotations_may_be_missing_when_infrared_ones_count(tmp_path: Path, trapped: tuple[Path, Any]) -> None:
    tree = shutil.copytree(trapped[0], tmp_path / "tree")
    for split in ("train", "val", "test"):
        shutil.rmtree(tree / split / f"{split}label")
    config, card = write_config(tmp_path / "c.yaml", tree=tree, out=tmp_path / "out")
    assert build_drone_vehicle(config.model_copy(update={"jpeg_quality": 90}), card).fresh


def test_thresholds_that_leave_a_class_empty_are_refused(tmp_path: Path, trapped: tuple[Path, Any]) -> None:
    config, card = write_config(tmp_path / "c.yaml", tree=trapped[0], out=tmp_path / "out")
    rule = config.density.model_copy(update={"at_least": {"congested": 500, "dense": 15, "moderate": 6, "sparse": 0}})
    with pytest.raises(DataError, match=r"no train pair has the density label congested.*change `density.at_least`"):
        build_drone_vehicle(config.model_copy(update={"density": rule, "jpeg_quality": 90}), card)


def test_command_prints_a_summary_or_one_message(
    tmp_path: Path, trapped: tuple[Path, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(tmp_path / "c.yaml", tree=trapped[0], out=tmp_path / "out")
    text = (tmp_path / "c.yaml").read_text().replace("jpeg_quality: null", "jpeg_quality: 90")
    (tmp_path / "c.yaml").write_text(text)
    assert main([str(tmp_path / "c.yaml")]) == 0
    assert "dropped objects: nameless 3, shapeless 2, degenerate 2, outside 3" in capsys.readouterr().out
    assert main([str(tmp_path / "c.yaml")]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main([str(tmp_path / "c.yaml"), "--workers", "0"]) == 2
    assert "workers is 0" in capsys.readouterr().err
    (tmp_path / "c.yaml").write_text(text.replace(str(trapped[0]), str(tmp_path / "none")))
    assert main([str(tmp_path / "c.yaml")]) == 2
    assert "no such directory" in capsys.readouterr().err
