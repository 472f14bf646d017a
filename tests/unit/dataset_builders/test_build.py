"""A whole build: files, quarantine, determinism, completion, and whose directory it may clear."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_task import CARD, make_photo

from dataset_builders.build import build_dataset
from dataset_builders.build_config import BuildConfig
from dataset_builders.dataset_dir import read_marker
from dataset_builders.errors import ConfigError, DataError
from dataset_builders.manifest import read_manifest

Make = Callable[..., BuildConfig]
HOT = CARD["ladder"][0]["text"]


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def load(config: BuildConfig, name: str) -> list[dict]:
    return json.loads((config.out / name).read_text(encoding="utf-8"))


def append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def quarantined(config: BuildConfig) -> dict[str, str]:
    return {row.name: row.reason for row in read_manifest(config.out) if not row.usable}


def test_files_agree_with_each_other(make_config: Make) -> None:
    config = make_config(balance=12)
    marker = build_dataset(config).marker
    rows = read_manifest(config.out)
    assert [row.sample_id for row in rows] == [
        *(f"train/t{i:02d}.jpg" for i in range(30)),
        *(f"test/x{i}.png" for i in (3, 1, 4, 0, 2)),
    ]
    assert [row.position for row in rows] == [*range(30), *range(5)]
    assert Counter(row.split for row in rows) == {"train": 24, "val": 6, "test": 5}
    assert all((row.split == "val") == (row.fold == 0) for row in rows)
    assert all((row.fold == -1) == (row.split == "test") == (row.label is None) for row in rows)
    assert all((row.repeats > 0) == (row.split == "train") for row in rows)
    train = load(config, "train.json")
    assert marker["counts"]["train_rows"] == {"hot": 12, "warm": 12, "cold": 12}
    assert Counter(e["images"][0] for e in train) == {r.image: r.repeats for r in rows if r.split == "train"}
    answers = {row.image: row.label for row in rows}
    texts = {label["id"]: label["text"] for label in CARD["ladder"]}
    for example in [*train, *load(config, "val.json")]:
        system, user, assistant = example["messages"]
        assert [m["role"] for m in example["messages"]] == ["system", "user", "assistant"]
        assert system["content"].startswith("Rules:\n危险：burns")
        assert user["content"] == "<image>One of 危险、注意、安全."
        assert assistant["content"] == texts[answers[example["images"][0]]]
    test = load(config, "test.json")
    assert [e["images"][0] for e in test] == [f"images/test/x{i}.png" for i in (3, 1, 4, 0, 2)]
    assert all([m["role"] for m in e["messages"]] == ["system", "user"] for e in test)


def test_sets_are_registered_up_front_but_an_unlabelled_test(make_config: Make, lists: tuple[Path, Path]) -> None:
    config = make_config()
    build_dataset(config)
    names = ["tiny_train", "tiny_val", "tiny_second_train", "tiny_second_val"]
    info = json.loads((config.out / "dataset_info.json").read_bytes())
    assert list(info) == names
    assert info["tiny_second_train"]["file_name"] == "second_train.json"
    lists[1].write_text("".join(f"x{i}.png\t{HOT}\n" for i in range(5)), encoding="utf-8")
    build_dataset(config)
    assert list(json.loads((config.out / "dataset_info.json").read_bytes())) == [*names, "tiny_test"]
    assert load(config, "test.json")[0]["messages"][-1] == {"role": "assistant", "content": HOT}


def test_same_bytes_for_any_worker_count_and_place(make_config: Make, photos: Path, tmp_path: Path) -> None:
    make_photo(3).convert("CMYK").save(photos / "t03.jpg")
    (photos / "t04.jpg").write_bytes(b"")
    build_dataset(make_config(out=tmp_path / "one", workers=1, balance=20))
    build_dataset(make_config(out=tmp_path / "three", workers=3, balance=20))
    one = bytes_of(tmp_path / "one")
    assert one == bytes_of(tmp_path / "three")
    build_dataset(make_config(out=tmp_path / "seed", balance=20, seed=8))
    assert one["train.json"] != (tmp_path / "seed/train.json").read_bytes()


def test_plain_photos_are_linked_and_others_written_anew(make_config: Make, photos: Path, tmp_path: Path) -> None:
    make_photo(3).convert("CMYK").save(photos / "t03.jpg")
    config = make_config()
    build_dataset(config)
    assert (config.out / "images/train/t00.jpg").samefile(photos / "t00.jpg")
    row = read_manifest(config.out)[3]
    assert (row.image, row.source_file) == ("images/train/t03.png", "t03.jpg")
    with Image.open(config.out / row.image) as image:
        assert (image.mode, image.format) == ("RGB", "PNG")


def test_names_that_collide_after_the_suffix_changes(make_config: Make, photos: Path, lists: tuple[Path, Path]) -> None:
    grey = make_photo(50).convert("L")
    grey.save(photos / "same.bmp")
    make_photo(51).convert("L").save(photos / "same.gif")
    make_photo(52).save(photos / "same.png")
    make_photo(53).convert("L").save(photos / "same.gif.png")
    lists[1].write_text("same.bmp\nsame.gif\nsame.png\nsame.gif.png\n", encoding="utf-8")
    config = make_config()
    build_dataset(config)
    rows = [row for row in read_manifest(config.out) if row.split == "test"]
    assert [Path(row.image).name for row in rows] == ["same.bmp.png", "same.gif.1.png", "same.png", "same.gif.png"]
    for row, seed in zip(rows, (50, 51, 52, 53), strict=True):
        expected = np.asarray(make_photo(seed).convert("L" if seed != 52 else "RGB").convert("RGB"), dtype=int)
        with Image.open(config.out / row.image) as image:
            assert np.abs(np.asarray(image, dtype=int) - expected).max() <= 8  # GIF has a palette


def test_photo_problems_become_rows_and_no_name_is_lost(
    make_config: Make, photos: Path, lists: tuple[Path, Path]
) -> None:
    (photos / "x0.png").unlink()
    (photos / "x1.png").write_bytes(b"")
    (photos / "x2.png").write_text("I am text", encoding="utf-8")
    (photos / "x3.png").write_bytes((photos / "t00.jpg").read_bytes()[:-300])
    make_photo(1, (300, 300)).save(photos / "t05.jpg")
    (photos / "t06.jpg").unlink()
    (photos / "t06.jpg").mkdir()
    config = make_config(max_pixels=300 * 300 - 1, workers=2)
    marker = build_dataset(config).marker
    reasons = quarantined(config)
    assert {name: reason.split(":")[0].split(" (")[0] for name, reason in reasons.items()} == {
        "t05.jpg": "300 x 300 pixels are over the limit of 89999",
        "t06.jpg": "unreadable",
        "x3.png": "broken photo",
        "x1.png": "empty file",
        "x0.png": "missing",
        "x2.png": "not a photo in a known format",
    }
    assert [item["sample_id"].split("/")[1] for item in marker["quarantined"]] == list(reasons)
    rows = read_manifest(config.out)
    assert [row.name for row in rows if row.split == "test"] == [f"x{i}.png" for i in (3, 1, 4, 0, 2)]
    for row in rows:
        if not row.usable:
            assert (row.image, row.group, row.fold, row.repeats) == ("", -1, -1, 0)
            assert row.split == row.source
    assert len(load(config, "test.json")) == 1


def test_names_as_long_as_a_file_system_takes(make_config: Make, photos: Path, lists: tuple[Path, Path]) -> None:
    longest, grown, unknown = "楼" * 83 + ".jpeg", "楼" * 84 + ".gi", "楼" * 86  # 254, 255 and 258 bytes
    make_photo(50).save(photos / longest)
    make_photo(51).convert("L").save(photos / grown, "GIF")  # becomes a .png
    for name in (longest, grown, unknown):
        append(lists[1], name)
    config = make_config()
    build_dataset(config)
    assert (config.out / "images/test" / longest).is_file()
    assert [reason[:10] for reason in quarantined(config).values()] == ["name too l", "unreadable"]


def test_wrong_directory_is_an_error_not_a_wall_of_rows(make_config: Make, photos: Path) -> None:
    for path in photos.glob("x*"):
        path.unlink()
    with pytest.raises(DataError, match=r"source 'test': not one of its 5 photos can be read; .*test.txt:1: missing"):
        build_dataset(make_config())


def test_nothing_usable_is_an_error(make_config: Make, photos: Path) -> None:
    for path in photos.glob("t*"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"no training photo is usable; .*train/t00.jpg: not a photo"):
        build_dataset(make_config())


def test_leaks_leave_training_or_stop_the_build(make_config: Make, photos: Path) -> None:
    shutil.copy(photos / "x0.png", photos / "t07.jpg")  # the same bytes
    Image.open(photos / "x1.png").convert("RGB").save(photos / "t08.jpg", quality=70)  # a near-duplicate
    config = make_config()
    build_dataset(config)
    assert quarantined(config) == {
        "t07.jpg": "leak: the same bytes as the test photo test/x0.png",
        "t08.jpg": "leak: in one near-duplicate group with the test photo test/x1.png",
    }
    assert not (config.out / "images/train/t07.jpg").exists()
    with pytest.raises(DataError, match=r"(?s)2 findings.*train/t07.jpg: leak.*train/t08.jpg: leak"):
        build_dataset(make_config(test_leak="error"))
    exact = make_config(near_duplicates={"enabled": False})
    build_dataset(exact)
    assert list(quarantined(exact)) == ["t07.jpg"]


def test_near_duplicates_share_a_fold_and_contradictions_are_listed(
    make_config: Make, photos: Path, lists: tuple[Path, Path]
) -> None:
    for index in range(6):
        Image.open(photos / f"t{index:02d}.jpg").save(photos / f"copy{index}.jpg", quality=60)
        append(lists[0], f"copy{index}.jpg\t{HOT}")
    shutil.copy(photos / "t01.jpg", photos / "twin.jpg")
    append(lists[0], f"twin.jpg\t{HOT}")
    config = make_config()
    marker = build_dataset(config).marker
    rows = {row.name: row for row in read_manifest(config.out)}
    for index in range(6):
        left, right = rows[f"t{index:02d}.jpg"], rows[f"copy{index}.jpg"]
        assert (left.group, left.fold, left.split) == (right.group, right.fold, right.split)
    assert marker["groups"] == {"count": 6, "photos": 13, "largest": 3}
    assert marker["contradictions"] == [["train/t01.jpg: warm", "train/twin.jpg: hot"]]


def test_missing_class_fails_the_audit_and_leaves_no_marker(make_config: Make, lists: tuple[Path, Path]) -> None:
    text = lists[0].read_text(encoding="utf-8").replace(CARD["ladder"][2]["text"], HOT)
    lists[0].write_text(text, encoding="utf-8")
    config = make_config()
    with pytest.raises(DataError, match=r"class cold \(安全\) has no photo in train and val: it has 0 photos"):
        build_dataset(config)
    with pytest.raises(DataError, match="not complete"):
        read_marker(config.out)


def test_second_build_does_nothing_until_something_changes(
    make_config: Make, photos: Path, lists: tuple[Path, Path]
) -> None:
    config = make_config()
    assert build_dataset(config).fresh
    before = {p: p.stat().st_mtime_ns for p in config.out.rglob("*.*")}
    again = build_dataset(config.with_workers(2))
    assert not again.fresh
    assert again.marker == read_marker(config.out)
    assert {p: p.stat().st_mtime_ns for p in config.out.rglob("*.*")} == before

    (config.out / "second_train.json").write_text("[]", encoding="utf-8")  # made for this build: stale with the next
    make_photo(77).save(photos / "t00.jpg")
    assert build_dataset(config).fresh
    assert not (config.out / "second_train.json").exists()
    (config.out / "images/train/t01.jpg").unlink()
    assert build_dataset(config).fresh
    photo = config.out / "images/train/t01.jpg"
    photo.unlink()  # a link: the photo itself stays
    photo.write_bytes(b"")
    assert build_dataset(config).fresh
    assert photo.stat().st_size
    (config.out / "val.json").write_text("[]", encoding="utf-8")
    assert build_dataset(config).fresh
    lists[1].write_text("x4.png\n", encoding="utf-8")
    assert build_dataset(config).fresh
    assert [p.name for p in (config.out / "images/test").iterdir()] == ["x4.png"]
    assert build_dataset(make_config(val_fold=1)).fresh
    assert not build_dataset(make_config(val_fold=1)).fresh


def test_killed_build_is_done_again(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    build_dataset(config)
    whole = bytes_of(config.out)
    (config.out / "build.json").unlink()
    (config.out / "train.json").write_text("[", encoding="utf-8")
    (config.out / "images/train" / f".t00.jpg.{os.getpid()}.tmp").write_bytes(b"half")
    assert build_dataset(config).fresh
    assert bytes_of(config.out) == whole


def test_other_peoples_directories_are_not_touched(make_config: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="not empty and no RiskFuse data set"):
        build_dataset(make_config())
    assert (tmp_path / "out/thesis.json").read_text(encoding="utf-8") == "{}"
    with pytest.raises(DataError, match="is a file"):
        build_dataset(make_config(out=tmp_path / "out/thesis.json"))


def test_test_photos_alone(make_config: Make) -> None:
    config = make_config()
    alone = config.model_copy(update={"sources": config.sources[1:]})
    marker = build_dataset(alone).marker
    assert marker["counts"]["test"] == {"unlabelled": 5}
    assert load(alone, "train.json") == []
    assert json.loads((alone.out / "dataset_info.json").read_bytes()) == {}


def test_config_and_card_must_fit(make_config: Make, card_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"balance names tepid; .* hot, warm, cold"):
        build_dataset(make_config(balance={"tepid": 3}))
    text = card_path.read_text(encoding="utf-8").replace("One of {answers}.", "<image> One of {answers}.")
    card_path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="holds <image>"):
        build_dataset(make_config())
