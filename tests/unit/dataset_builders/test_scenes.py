"""The renderer: same arguments, same pixels; the label follows from what is visible; plants are documented."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_builders.errors import ConfigError
from dataset_builders.scenes.board import ScenesConfig, load_scenes_config, make_boards, plan_board
from dataset_builders.scenes.compose import FEW_AT_MOST, GENERATOR_VERSION, GRADES, KINDS, Thing, grade_of, render_scene
from dataset_builders.task_card import load_task_card

CARD = Path("recipes/tasks/corridor.yaml")
GRADE_LABELS = {
    "ignition": "high",
    "combustible": "medium",
    "few": "low",
    "clear": "none",
    "elsewhere": "not_corridor",
}


def config(out: Path, **board: object) -> ScenesConfig:
    counts = dict.fromkeys(GRADE_LABELS.values(), 4)
    boards = [{"name": "train", "stream": 901, "counts": counts, **board}]
    return ScenesConfig.model_validate(
        {"task": CARD, "out": out, "hard": 0.5, "grades": GRADE_LABELS, "boards": boards}
    )


def tree_bytes(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()
    }


# Of stream 907, scene 0, difficulty 0.5: pixels that show each thing, mean brightness of the picture's four quarters.
FROZEN = {
    "ignition": ({"foam": 1454, "plastic_box": 1038, "ebike": 4568, "poster": 17}, [40, 46, 32, 33]),
    "combustible": (
        {"bucket": 2285, "kick_scooter": 1869, "conduit": 0, "plastic_box": 1577, "umbrella": 564},
        [95, 118, 88, 84],
    ),
    "few": ({"person": 8878, "bicycle": 1852, "plastic_box": 1159}, [152, 147, 110, 105]),
    "clear": ({}, [165, 163, 125, 135]),
    "elsewhere": ({"extinguisher": 214, "person": 8034, "foam": 0, "plant": 0}, [122, 107, 78, 84]),
}


def thing(kind: str, pixels: int = 2000, share: float = 1.0) -> Thing:
    return Thing(kind, 1, pixels, share, 3.0)


@pytest.mark.parametrize(
    ("place", "things", "grade"),
    [
        ("corridor", [], "clear"),
        ("corridor", ["extinguisher", "poster", "conduit", "person"], "clear"),
        ("corridor", ["shoes"], "few"),
        ("corridor", ["bicycle"] * FEW_AT_MOST, "few"),
        ("corridor", ["bicycle"] * (FEW_AT_MOST + 1), "combustible"),
        ("corridor", ["cardboard", "shoes"], "combustible"),
        ("corridor", ["cardboard", "battery"], "ignition"),
        ("corridor", ["wire"], "ignition"),
        ("street", ["ebike"], "elsewhere"),
        ("room", ["furniture"], "elsewhere"),
    ],
)
def test_dominant_risk_decides(place: str, things: list[str], grade: str) -> None:
    assert grade_of(place, tuple(map(thing, things))) == grade


def test_hidden_evidence_makes_no_label() -> None:
    assert grade_of("corridor", (thing("ebike", share=0.05),)) is None
    assert grade_of("corridor", (thing("shoes", pixels=10),)) is None
    assert grade_of("corridor", (thing("ebike", share=0.05), thing("battery"))) == "ignition"


@pytest.mark.parametrize("grade", GRADES)
def test_scene_is_what_was_asked_for(grade: str) -> None:
    for index in range(4):
        scene = render_scene(grade, 902, index, hard=0.25 * index)
        assert scene.rgb_HWC.shape == (336, 336, 3)
        assert scene.rgb_HWC.dtype == np.uint8
        assert grade_of(scene.place, scene.things) == scene.grade == grade
        for t in scene.things:
            assert t.kind in KINDS
            assert np.count_nonzero(scene.ids_HW == t.object_id) == t.pixels


@pytest.mark.parametrize("grade", GRADES)
def test_generator_is_frozen(grade: str) -> None:
    """A change of what is painted makes another board: raise GENERATOR_VERSION and measure again."""
    assert GENERATOR_VERSION == 1
    scene = render_scene(grade, 907, 0, 0.5)
    pixels: dict[str, int] = {}
    for t in scene.things:
        pixels[t.kind] = pixels.get(t.kind, 0) + t.pixels
    things, quarters = FROZEN[grade]
    assert pixels == things
    means = scene.rgb_HWC.reshape(2, 168, 2, 168, 3).mean((1, 3, 4)).ravel()
    np.testing.assert_allclose(means, quarters, atol=1.5)  # blur and noise may differ in the last bit between CPUs


def test_same_arguments_same_pixels_and_other_streams_other_scenes() -> None:
    first, again = (render_scene("few", 903, 5, 0.5) for _ in range(2))
    assert np.array_equal(first.rgb_HWC, again.rgb_HWC)
    assert not np.array_equal(first.rgb_HWC, render_scene("few", 904, 5, 0.5).rgb_HWC)


def test_second_shot_shows_the_same_things_in_other_pixels() -> None:
    first, second = (render_scene("combustible", 905, 3, 0.4, take) for take in (0, 1))
    assert [t.kind for t in first.things] == [t.kind for t in second.things]
    assert not np.array_equal(first.rgb_HWC, second.rgb_HWC)


def test_unknown_grade_and_difficulty_are_refused() -> None:
    with pytest.raises(ValueError, match="grade"):
        render_scene("nothing", 1, 1, 0.5)
    with pytest.raises(ValueError, match="hard"):
        render_scene("few", 1, 1, 1.5)


def test_board_is_the_same_for_any_worker_count(tmp_path: Path) -> None:
    trees = []
    for workers in (1, 3):
        out = tmp_path / str(workers)
        make_boards(config(out, label_errors=0.2, near_duplicates=0.2), workers, lambda _: None)
        trees.append(tree_bytes(out))
    assert trees[0] == trees[1]


def test_killed_board_goes_on_and_other_settings_start_anew(tmp_path: Path) -> None:
    out = make_boards(config(tmp_path), 1, lambda _: None)
    whole = tree_bytes(out)
    (out / "scenes.json").unlink()
    (out / "train" / "train_00003.jpg").unlink()
    (out / ".train_parts" / "00000.jsonl").unlink()
    make_boards(config(tmp_path), 1, lambda _: None)
    assert tree_bytes(out) == whole
    make_boards(config(tmp_path, stream=906), 1, lambda _: None)
    assert tree_bytes(out)["train/train_00000.jpg"] != whole["train/train_00000.jpg"]


def test_lists_and_plants_are_documented(tmp_path: Path) -> None:
    card = load_task_card(CARD)
    out = make_boards(config(tmp_path, label_errors=0.2, near_duplicates=0.1), 2, lambda _: None)
    written = dict(line.split("\t") for line in (out / "train.txt").read_text(encoding="utf-8").splitlines())
    truth = {row["name"]: row for row in map(json.loads, (out / "train_truth.jsonl").read_text().splitlines())}
    planted = list(csv.DictReader((out / "train_planted.csv").open(encoding="utf-8")))
    wrong = {row["name"] for row in planted if row["planted"] == "label_error"}
    assert wrong == {name for name, text in written.items() if card.id_of(text) != truth[name]["truth"]}
    assert sum(row["planted"] == "near_duplicate" for row in planted) == 2
    assert list(written) == (out / "train_names.txt").read_text().split()
    for name, row in truth.items():
        mask = np.asarray(Image.open(out / "train_masks" / name.replace(".jpg", ".png")))
        for t in row["things"]:
            assert np.count_nonzero(mask == t["object_id"]) == t["pixels"]
    assert Image.open(out / "contact_sheet.png").size == (168 * 8, 168 * 5)


def test_shipped_board_has_the_official_counts() -> None:
    shipped = load_scenes_config(Path("recipes/tiny/scenes.yaml"))
    card = load_task_card(shipped.task)
    train, board_a, board_b = (plan_board(board, card) for board in shipped.boards)
    assert (len(train), len(board_a), len(board_b)) == (3366, 1000, 1000)
    assert [sum(row.truth == label for row in train) for label in card.label_ids] == [106, 460, 636, 1996, 168]
    assert 0.015 < sum(row.label != row.truth for row in train) / 3366 < 0.025
    for board in (board_a, board_b):
        assert all(row.label == row.truth and not row.twin for row in board)
    assert len({board.stream for board in shipped.boards}) == 3


def test_config_findings_name_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "scenes.yaml"
    with pytest.raises(ConfigError, match="no such scenes file"):
        load_scenes_config(path)
    path.write_text("task: recipes/tasks/corridor.yaml\nout: x\nhard: 2\ngrades: {few: low}\nboards: []\n")
    with pytest.raises(ConfigError, match=r"(?s)hard.*boards"):
        load_scenes_config(path)
