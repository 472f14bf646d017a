import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_builders.augment import copies as copies_module
from dataset_builders.augment.augment import augment_dataset
from dataset_builders.augment.config import AugmentConfig
from dataset_builders.build import build_dataset
from dataset_builders.build_config import BuildConfig
from dataset_builders.dataset_dir import clear_dataset_dir
from dataset_builders.errors import ConfigError, DataError
from dataset_builders.files import file_sha256, write_text
from dataset_builders.manifest import read_manifest
from dataset_builders.task_card import TaskCard

STEPS = [
    {"transform": "HorizontalFlip", "p": 0.5},
    {"transform": "Affine", "p": 0.7, "by_strength": {"rotate": [[0, 0], [-20, 20]]}},
    {"transform": "GaussNoise", "p": 0.5},
]

MakePolicy = Callable[..., AugmentConfig]


@pytest.fixture
def make_policy(make_config: Callable[..., BuildConfig], tmp_path: Path) -> MakePolicy:
    config = make_config(balance=12)
    build_dataset(config)

    def make(**changes: object) -> AugmentConfig:
        fields = {"task": config.task, "dataset": config.out, "out": tmp_path / "augmented", "seed": 3, "workers": 1}
        return AugmentConfig.model_validate({**fields, "transforms": STEPS, **changes})

    return make


def files_of(directory: Path) -> dict[str, str]:
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): file_sha256(path) for path in paths}


def test_copies_of_training_photos_carry_their_parents_fold_group_and_label(make_policy: MakePolicy) -> None:
    config = make_policy()
    result = augment_dataset(config)
    rows = read_manifest(config.out)
    source = read_manifest(config.dataset)
    assert [row.sample_id for row in rows[: len(source)]] == [row.sample_id for row in source]
    by_id = {row.sample_id: row for row in source}
    made = rows[len(source) :]
    assert len(made) == 18  # half of 12 rows in three classes
    for row in made:
        parent = by_id[str(row.parent)]
        assert parent.split == "train"
        assert (row.label, row.fold, row.group, row.split) == (parent.label, parent.fold, parent.group, "train")
        with Image.open(config.out / row.image) as photo:
            assert photo.size == (row.width, row.height)
        assert file_sha256(config.out / row.image) == row.sha256
        json.loads(str(row.transform))
    examples = json.loads((config.out / "train.json").read_text(encoding="utf-8"))
    answers = Counter(example["messages"][-1]["content"] for example in examples)
    assert set(answers.values()) == {12}
    assert len([e for e in examples if "augmented" in e["images"][0]]) == 18
    assert result.fresh
    assert not augment_dataset(config).fresh


def test_photos_and_other_splits_stay_byte_for_byte(make_policy: MakePolicy) -> None:
    config = make_policy()
    augment_dataset(config)
    before, after = files_of(config.dataset), files_of(config.out)
    for name, sha256 in before.items():
        if name not in ("train.json", "manifest.parquet", "build.json"):
            assert after[name] == sha256, name


def test_workers_do_not_change_a_byte(make_policy: MakePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "CHUNK", 4)
    one = make_policy(out=tmp_path / "one")
    two = make_policy(out=tmp_path / "two", workers=2)
    augment_dataset(one)
    augment_dataset(two)
    assert files_of(one.out) == files_of(two.out)
    other = make_policy(out=tmp_path / "other", seed=4)
    augment_dataset(other)
    assert files_of(one.out) != files_of(other.out)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    make_policy: MakePolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "CHUNK", 4)
    whole = make_policy(out=tmp_path / "whole")
    augment_dataset(whole)
    config = make_policy()
    real = copies_module._make_chunk
    made: list[int] = []

    def killed(chunk: copies_module._Chunk) -> list[copies_module.Copy]:
        if chunk.number == 2:
            raise KeyboardInterrupt
        made.append(chunk.number)
        return real(chunk)

    monkeypatch.setattr(copies_module, "_make_chunk", killed)
    with pytest.raises(KeyboardInterrupt):
        augment_dataset(config)
    assert made == [0, 1]
    assert not (config.out / "build.json").exists()
    untouched = {path: path.stat().st_mtime_ns for path in (config.out / "images/augmented").rglob("*.jpg")}
    monkeypatch.setattr(copies_module, "_make_chunk", real)
    augment_dataset(config)
    assert files_of(config.out) == files_of(whole.out)
    assert all(path.stat().st_mtime_ns == time for path, time in untouched.items())


def test_a_copy_of_a_photo_with_the_longest_name_has_a_name_that_fits() -> None:
    names = {copies_module._copy_name(f"images/train/{name}", 2) for name in ("火" * 83 + ".jpg", "火" * 84 + ".png")}
    assert len(names) == 2
    assert all(name.startswith("images/augmented/train/") and name.endswith("~002.jpg") for name in names)
    assert max(len(name.rpartition("/")[2].encode()) for name in names) <= 255
    assert copies_module._copy_name("images/train/a/b.jpg", 1) == "images/augmented/train/a/b.jpg~001.jpg"


def test_a_part_is_read_whatever_its_names_hold(make_policy: MakePolicy, card: TaskCard, tmp_path: Path) -> None:
    copy = copies_module.Copy("train/a\u2028b.jpg~001", "images/augmented/a\u2028b.jpg~001.jpg", "0", 1, 2, 3, "{}")
    part = tmp_path / "set" / copies_module.PARTS / "000000.jsonl"
    write_text(part, json.dumps(asdict(copy), ensure_ascii=False) + "\n")
    jobs = [copies_module.Job("train/a\u2028b.jpg", "hot", "images/a\u2028b.jpg", 1)]
    assert list(copies_module.make_copies(jobs, tmp_path / "set", make_policy(), card)) == [copy]


def test_a_killed_run_is_forgotten_when_the_directory_is_cleared(
    make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "CHUNK", 4)
    config = make_policy()
    real = copies_module._make_chunk

    def killed(chunk: copies_module._Chunk) -> list[copies_module.Copy]:
        if chunk.number == 2:
            raise KeyboardInterrupt
        return real(chunk)

    monkeypatch.setattr(copies_module, "_make_chunk", killed)
    with pytest.raises(KeyboardInterrupt):
        augment_dataset(config)
    monkeypatch.setattr(copies_module, "_make_chunk", real)
    clear_dataset_dir(config.out)  # as any other build there does
    augment_dataset(config)
    assert all((config.out / row.image).is_file() for row in read_manifest(config.out) if row.usable)


def test_a_changed_policy_starts_anew(make_policy: MakePolicy) -> None:
    augment_dataset(make_policy())
    config = make_policy(rows=20, copies=0.25)
    assert augment_dataset(config).fresh
    assert sum(row.parent is not None for row in read_manifest(config.out)) == 15


def test_transforms_are_drawn_independently(make_policy: MakePolicy) -> None:
    steps = [{"transform": "HorizontalFlip", "p": 0.5}, {"transform": "VerticalFlip", "p": 0.5}]
    config = make_policy(transforms=steps, rows=100, copies=0.8)
    augment_dataset(config)
    rows = [row for row in read_manifest(config.out) if row.parent is not None]
    seen = Counter(tuple(step["transform"] for step in json.loads(str(row.transform))) for row in rows)
    assert len(rows) == 240
    assert len(seen) == 4  # neither, one, the other, both
    assert min(seen.values()) > 40


def test_a_stronger_class_changes_more(make_policy: MakePolicy) -> None:
    steps = [{"transform": "RandomGamma", "by_strength": {"gamma_limit": [[100, 100], [200, 200]]}}]
    config = make_policy(transforms=steps, strength={"hot": 0.0, "default": 1.0}, jpeg_quality=100)
    augment_dataset(config)
    rows = read_manifest(config.out)
    by_id = {row.sample_id: row for row in rows}

    def change(label: str) -> float:
        pairs = [(row, by_id[row.parent]) for row in rows if row.parent is not None and row.label == label]
        pixels = [
            [np.asarray(Image.open(config.out / row.image).convert("RGB"), float) for row in pair] for pair in pairs
        ]
        return float(np.mean([np.abs(copy - original).mean() for copy, original in pixels]))

    assert 2 * change("hot") < change("cold")  # at strength 0 only JPEG coding is left


def test_unknown_labels_and_foreign_data_sets_are_refused(make_policy: MakePolicy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="strength names lukewarm"):
        augment_dataset(make_policy(strength={"lukewarm": 1.0}))
    with pytest.raises(DataError, match="not complete"):
        augment_dataset(make_policy(dataset=tmp_path / "nothing"))
    config = make_policy()
    augment_dataset(config)
    with pytest.raises(DataError, match="augmented already"):
        augment_dataset(make_policy(dataset=config.out, out=tmp_path / "twice"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="not touched"):
        augment_dataset(make_policy(out=tmp_path / "mine"))
