"""Sets that leave one fold out: nothing of the fold is in them, and the validation fold's set is the build's own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_predictions import predict

from dataset_builders.augment.copy_plan import balanced_repeats
from dataset_builders.build import build_dataset
from dataset_builders.build_config import BuildConfig
from dataset_builders.errors import DataError
from dataset_builders.files import content_hash
from dataset_builders.fold_sets import FoldSet, plan_fold_sets, write_fold_sets
from dataset_builders.manifest import ManifestRow, read_manifest, write_manifest
from dataset_builders.sharegpt import stage_of
from dataset_builders.specialist import Choice, build_specialist
from dataset_builders.task_card import TaskCard

Make = Callable[..., BuildConfig]


@pytest.fixture
def dataset(make_config: Make, photos: Path, lists: tuple[Path, Path]) -> Path:
    """Three folds, balanced; t03.jpg is nearly t00.jpg, x9.png is broken and so in no fold."""
    with Image.open(photos / "t00.jpg") as photo:
        photo.save(photos / "t03.jpg", quality=70)
    (photos / "broken.jpg").write_bytes(b"")
    with lists[0].open("a", encoding="utf-8") as file:
        file.write("broken.jpg\t2\n")
    config = make_config(folds=3, val_fold=1, balance=12)
    build_dataset(config)
    return config.out


def read(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))


def photo_of(row: ManifestRow) -> str:
    return row.parent or row.sample_id


def augmented(dataset: Path) -> Path:
    """The data set with two copies of every other training photo, as an augmentation leaves it."""
    originals = read_manifest(dataset)
    parents = [row for row in originals if row.usable and row.split == "train"][::2]
    copies = [
        replace(
            row,
            sample_id=f"{row.sample_id}~{n:03d}",
            parent=row.sample_id,
            transform="{}",
            sha256=content_hash([row.sha256, n]),
        )
        for row in parents
        for n in (0, 1)
    ]
    plan = {"rows": {"hot": 12, "warm": 12, "cold": 12}, "copy_rows": {"hot": 6, "warm": 6, "cold": 6}, "seed": 3}
    repeats = balanced_repeats([*originals, *copies], plan["rows"], plan["copy_rows"], seed=plan["seed"])
    rows = [replace(row, repeats=int(n)) for row, n in zip([*originals, *copies], repeats, strict=True)]
    write_manifest(dataset, rows)
    marker = json.loads((dataset / "build.json").read_text(encoding="utf-8"))
    (dataset / "build.json").write_text(json.dumps(marker | {"augment": plan}), encoding="utf-8")
    return dataset


def test_set_without_the_validation_fold_is_the_build_s_own(dataset: Path, card: TaskCard) -> None:
    write_fold_sets(dataset, card, plan_fold_sets(dataset, card))
    for split in ("train", "val"):
        assert (dataset / f"folds/tiny_fold1_{split}.json").read_bytes() == (dataset / f"{split}.json").read_bytes()


@pytest.mark.parametrize("with_copies", [False, True])
def test_nothing_of_a_fold_is_in_its_set_and_every_photo_is_held_out_once(
    dataset: Path, card: TaskCard, with_copies: bool
) -> None:
    rows = [row for row in read_manifest(augmented(dataset)) if row.usable and row.split != "test"]
    sets = plan_fold_sets(dataset, card, with_copies=with_copies)
    originals = {row.sample_id for row in rows if row.parent is None}
    assert Counter(row.sample_id for fold_set in sets for row in fold_set.val) == dict.fromkeys(originals, 1)
    for fold_set in sets:
        held_out = [row for row in rows if row.fold == fold_set.fold]
        train = set(fold_set.train)
        assert not {photo_of(row) for row in train} & {photo_of(row) for row in held_out}
        assert not {row.group for row in train} & {row.group for row in held_out}
        taking_part = {row for row in rows if row.fold != fold_set.fold and (with_copies or row.parent is None)}
        assert train <= taking_part
        assert {photo_of(row) for row in train} == {photo_of(row) for row in taking_part}  # itself or a copy
        assert Counter(row.label for row in fold_set.train) == {"hot": 12, "warm": 12, "cold": 12}


def choice_by(dataset: Path, directory: Path) -> Choice:
    """The specialist, mined by predictions of every photo: each one is as probable as its place in the manifest."""
    rows = [row for row in read_manifest(dataset) if row.usable and row.split != "test"]
    return Choice(
        "second", (predict(directory, {row.sample_id: 0.9 - 0.02 * n for n, row in enumerate(rows)}),), rows=30
    )


def test_specialist_s_set_without_the_validation_fold_is_that_of_riskfuse_specialist(
    dataset: Path, card: TaskCard, tmp_path: Path
) -> None:
    choice = choice_by(dataset, tmp_path / "base")
    build_specialist(dataset, card, choice)
    write_fold_sets(dataset, card, plan_fold_sets(dataset, card, choice=choice))
    for split in ("train", "val"):
        ours, theirs = dataset / f"folds/tiny_second_fold1_{split}.json", dataset / f"second_{split}.json"
        assert ours.read_bytes() == theirs.read_bytes()
    assert stage_of("tiny_second_fold1_train", card) == "second"


@pytest.mark.parametrize("with_copies", [False, True])
def test_specialist_s_folds_hold_nothing_of_the_fold_and_mine_the_hardest_of_the_others(
    dataset: Path, card: TaskCard, tmp_path: Path, with_copies: bool
) -> None:
    choice = choice_by(dataset, tmp_path / "base")  # copies have no prediction: they come by lot alone
    second = card.specialist("second").model_copy(update={"negatives_per_positive": 0.5})
    card = card.model_copy(update={"specialists": (second,)})
    place = {row.sample_id: n for n, row in enumerate(read_manifest(dataset))}
    sets = plan_fold_sets(augmented(dataset), card, with_copies=with_copies, choice=choice)
    rows = [row for row in read_manifest(dataset) if row.usable and row.split != "test"]
    originals = {row.sample_id for row in rows if row.parent is None}
    assert Counter(row.sample_id for fold_set in sets for row in fold_set.val) == dict.fromkeys(originals, 1)
    for fold_set in sets:
        assert (fold_set.stage, len(fold_set.train)) == ("second", 30)
        assert not {photo_of(row) for row in fold_set.train} & {photo_of(r) for r in rows if r.fold == fold_set.fold}
        others = [row for row in rows if row.fold != fold_set.fold and (with_copies or row.parent is None)]
        positives = {row.sample_id for row in others if row.label == "hot"}
        assert {row.sample_id for row in fold_set.train if row.label == "hot"} <= positives
        negatives = [row for row in others if row.label != "hot" and row.parent is None]
        hardest = sorted(negatives, key=lambda row: place[row.sample_id])[:7]  # 0.7 of 10 rows
        assert {row.sample_id for row in hardest} <= {row.sample_id for row in fold_set.train}


def test_near_duplicates_are_held_out_together(dataset: Path, card: TaskCard) -> None:
    for fold_set in plan_fold_sets(dataset, card):
        names = {row.name for row in fold_set.train}
        assert ("t00.jpg" in names) == ("t03.jpg" in names)


def test_copies_set_without_the_validation_fold_has_the_rows_of_the_augmented_training_set(
    dataset: Path, card: TaskCard
) -> None:
    repeats = {row.sample_id: row.repeats for row in read_manifest(augmented(dataset)) if row.repeats}
    fold_set = plan_fold_sets(dataset, card, with_copies=True)[1]
    assert fold_set.stem == "tiny_fold1_copies"
    assert Counter(row.sample_id for row in fold_set.train) == repeats


def test_originals_alone_do_not_change_when_copies_are_made(dataset: Path, card: TaskCard) -> None:
    before = plan_fold_sets(dataset, card)
    assert [s.fingerprint for s in plan_fold_sets(augmented(dataset), card)] == [s.fingerprint for s in before]


def test_dropped_copies_take_no_part(dataset: Path, card: TaskCard) -> None:
    rows = read_manifest(augmented(dataset))
    dropped = next(row for row in rows if row.parent is not None)
    write_manifest(dataset, [replace(row, status="dropped") if row is dropped else row for row in rows])
    trained = {row.sample_id for s in plan_fold_sets(dataset, card, with_copies=True) for row in s.train}
    assert dropped.sample_id not in trained


FOLDS = st.lists(st.integers(0, 3), min_size=4, max_size=12)


@settings(max_examples=40, deadline=None)
@given(folds=FOLDS, moved=st.integers(0, 3), link=st.sampled_from(["group", "parent", "sha256"]))
def test_what_a_fold_would_give_away_is_refused(
    tmp_path_factory: pytest.TempPathFactory, card: TaskCard, folds: list[int], moved: int, link: str
) -> None:
    """Photos of three classes in every fold, and one row more that belongs to the first photo by one link."""
    directory = tmp_path_factory.mktemp("manifest")
    labels = card.label_ids
    rows = [
        ManifestRow(f"s/{i}{label}", "s", str(i), i, "train", label, f"{i}{label}.png", fold=fold, group=i * 3 + k)
        for i, fold in enumerate([0, 1, *folds])
        for k, label in enumerate(labels)
    ]
    rows = [replace(row, sha256=row.sample_id) for row in rows]
    first = rows[0]
    values = {"group": first.group, "parent": first.sample_id, "sha256": first.sha256}
    tied = replace(first, sample_id="s/tied", group=999, sha256="other", fold=moved)
    write_manifest(directory, [*rows, replace(tied, **{link: values[link]})])
    marker = {"task": "tiny", "labels": list(labels), "config": {"balance": None, "seed": 0}}
    (directory / "build.json").write_text(json.dumps(marker), encoding="utf-8")
    if moved == first.fold:
        assert all(fold_set.train for fold_set in plan_fold_sets(directory, card))
    elif link == "parent":  # an original's copy: seen as soon as copies train
        with pytest.raises(DataError, match=r"s/tied .*shows what fold 0 holds out"):
            plan_fold_sets(directory, card, with_copies=True)
    else:
        with pytest.raises(DataError, match=r"s/tied .*shows what fold 0 holds out"):
            plan_fold_sets(directory, card)


def write(dataset: Path, card: TaskCard) -> dict[str, tuple[bytes, int]]:
    write_fold_sets(dataset, card, plan_fold_sets(dataset, card))
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (dataset / "folds").iterdir()}


def test_files_are_kept_while_they_are_whole_and_made_again_with_the_same_bytes(dataset: Path, card: TaskCard) -> None:
    first = write(dataset, card)
    assert len(first) == 3 * 3 + 1
    kept = {name: value for name, value in write(dataset, card).items() if name != "dataset_info.json"}
    assert kept.items() <= first.items()
    (dataset / "folds/tiny_fold0_train.json").write_text("[]", encoding="utf-8")
    (dataset / "folds/tiny_fold2.json").unlink()
    again = write(dataset, card)
    assert {name: content for name, (content, _) in again.items()} == {
        name: content for name, (content, _) in first.items()
    }


def test_sets_are_registered_as_they_come(dataset: Path, card: TaskCard) -> None:
    info = dataset / "folds/dataset_info.json"
    sets: list[FoldSet] = plan_fold_sets(dataset, card)
    write_fold_sets(dataset, card, sets[2:])
    assert list(read(info)) == ["tiny_fold2_train", "tiny_fold2_val"]
    write_fold_sets(dataset, card, sets[:1])
    registered = read(info)
    assert list(registered) == ["tiny_fold0_train", "tiny_fold0_val", "tiny_fold2_train", "tiny_fold2_val"]
    for name, entry in registered.items():
        assert entry == read(dataset / "dataset_info.json")["tiny_train"] | {"file_name": f"{name}.json"}
        for example in read(dataset / "folds" / entry["file_name"]):
            assert (dataset / example["images"][0]).is_file()


def test_changed_photo_label_or_prompt_changes_the_fingerprint(dataset: Path, card: TaskCard) -> None:
    rows = read_manifest(dataset)
    before = plan_fold_sets(dataset, card)
    for change in ({"sha256": "0"}, {"label": "warm"}):
        write_manifest(dataset, [replace(rows[0], **change), *rows[1:]])
        assert all(a.fingerprint != b.fingerprint for a, b in zip(before, plan_fold_sets(dataset, card), strict=True))
    write_manifest(dataset, [replace(row, verification_score=0.5) for row in rows])
    assert plan_fold_sets(dataset, card)[0].fingerprint == before[0].fingerprint
    other = card.model_copy(update={"base": card.base.model_copy(update={"user": "Which of {answers}?"})})
    assert plan_fold_sets(dataset, other)[0].fingerprint != before[0].fingerprint


def test_build_removes_the_sets_of_the_one_before(dataset: Path, card: TaskCard, make_config: Make) -> None:
    write(dataset, card)
    build_dataset(make_config(folds=3, seed=8))
    assert not (dataset / "folds").exists()


def test_what_is_refused(dataset: Path, card: TaskCard, make_config: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="built for task 'tiny'"):
        plan_fold_sets(dataset, card.model_copy(update={"task": "other"}))
    with pytest.raises(DataError, match="no usable augmented copies"):
        plan_fold_sets(dataset, card, with_copies=True)
    with pytest.raises(DataError, match=r"build\.json: no such file"):
        plan_fold_sets(tmp_path, card)
    rows = read_manifest(dataset)
    write_manifest(dataset, [replace(row, fold=0) if row.label == "hot" and row.fold >= 0 else row for row in rows])
    with pytest.raises(DataError, match="without fold 0, class hot has no training photo"):
        plan_fold_sets(dataset, card)
    tests_only = make_config(out=tmp_path / "tests", sources=make_config().model_dump()["sources"][1:])
    build_dataset(tests_only)
    with pytest.raises(DataError, match="no training photos"):
        plan_fold_sets(tests_only.out, card)
