"""Fusion on out-of-fold predictions: which rows count, whose prediction speaks for them, which leaks are refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fusion_data import make_card, simulate, write_dataset, write_predictions

from dataset_builders.errors import DataError, FingerprintMismatch
from dataset_builders.manifest import ManifestRow, photos_sha256, read_manifest, write_manifest
from fusion.fit import FitSettings
from fusion.fuse import fuse
from fusion.held_out import read_held_out
from fusion.predictions import read_predictions
from fusion.rows import read_manifest_columns

CARD = make_card()
ANSWERS = {"base": CARD.label_ids, "second": ("yes", "no")}
COLUMNS = ("sample_id", "sha256", "split", "fold")
QUICK = FitSettings(folds=3, resamples=100)
SIZES = {"train": 300, "test": 60}  # training photos lie in folds 0 (the split val), 1 and 2


def _marker(place: Path, stage: str, folds: dict[str, str], **changes: Any) -> None:
    names = {fold: f"fold-{fold}" for fold in folds}
    marker = {"task": CARD.task, "stage": stage, "folds": names, "predictions": folds, **changes}
    (place / "out_of_fold.json").write_text(json.dumps(marker), encoding="utf-8")


@pytest.fixture
def world(tmp_path: Path) -> dict[str, Any]:
    """A data set of three folds with a copy; main models that remember their training photos, models of folds 1 and 2.

    What a model says about a photo that it was trained on is shifted by 9, so that a test can see whose word it is.
    """
    rows, samples = [], {name: simulate(seed, size) for seed, (name, size) in enumerate(SIZES.items())}
    for name, sample in samples.items():
        for n, k in enumerate(sample.labels_N):
            split, fold = ("test", -1) if name == "test" else ("val" if n % 3 == 0 else "train", n % 3)
            rows.append(
                ManifestRow(f"{name}/{n}", name, str(n), n, split, label=CARD.label_ids[k], fold=fold, group=len(rows))
            )
    copy = replace(rows[1], sample_id="train/1~000", parent="train/1", transform="{}")
    dataset = write_dataset(tmp_path / "data", [*rows, copy])
    said = {
        "base": np.concatenate([sample.base_logps_NK for sample in samples.values()]),
        "second": np.concatenate([sample.looks_SN2[0] for sample in samples.values()]),
    }
    directories = {}
    for stage, logps in said.items():
        remembered = np.array([row.split == "train" for row in rows])[:, None]
        ids = [row.sample_id for row in rows]
        directories[stage] = write_predictions(
            tmp_path / stage, ids, np.where(remembered, logps - 9, logps), ANSWERS[stage], fingerprints=("main",)
        )
        for fold in (1, 2):
            here = [n for n, row in enumerate(rows) if row.fold == fold]
            names, part = [ids[n] for n in here], logps[here]
            if fold == 1:
                names, part = [*names, "train/1~000"], np.vstack([part, part[:1]])
            place = tmp_path / "oof" / stage / f"fold-{fold}"
            write_predictions(place, names, part, ANSWERS[stage], fingerprints=(f"{stage}-{fold}",))
        _marker(tmp_path / "oof" / stage, stage, {str(fold): f"{stage}-{fold}" for fold in (1, 2)})
    return {"data": dataset, "oof": tmp_path / "oof", "rows": rows, "said": said, **directories}


def _fuse(world: dict[str, Any], out: str, **more: Any) -> Any:
    directories = {"second": world["second"]}
    return fuse(world["data"], CARD, world["base"], directories, world["oof"].parent / out, settings=QUICK, **more)


def _held_out(world: dict[str, Any], stage: str = "base") -> Any:
    main = read_predictions(world[stage], ANSWERS[stage])
    return read_held_out(world["oof"], stage, main, read_manifest_columns(world["data"], COLUMNS), CARD)


@pytest.mark.parametrize("stage", ["base", "second"])
def test_every_photo_has_the_word_of_a_model_that_has_not_seen_it(world: dict[str, Any], stage: str) -> None:
    found = _held_out(world, stage)
    assert found.folds == {0, 1, 2}
    ids = [row.sample_id for row in world["rows"]]
    at = found.predictions.positions(pa.array(ids))
    assert (at >= 0).all()
    np.testing.assert_allclose(found.predictions.logps_NK[at], world["said"][stage])
    assert len(found.predictions) == len(ids) + 1  # the copy, which the fit leaves out


def test_fusion_is_fitted_on_all_originals_and_says_so(world: dict[str, Any]) -> None:
    one, all_folds = _fuse(world, "one"), _fuse(world, "all", out_of_fold=world["oof"])
    positives = {
        mode: sum(row.label == "red" for row in world["rows"] if row.split in splits)
        for mode, splits in (("one split", ("val",)), ("out of fold", ("val", "train")))
    }
    for result, mode, rows in ((one, "one split", 100), (all_folds, "out of fold", 300)):
        fitted_on = result.model.fitted_on
        assert (fitted_on.mode, fitted_on.rows) == (mode, rows)
        assert fitted_on.second_looks["second"].positives == positives[mode]
        assert result.scores["validation"]["rows"] == rows
        assert result.scores["fitted_on"]["positives"] == {"second": positives[mode]}
        assert f"{rows} photos with {positives[mode]} positives of second; the 90 % interval" in result.table
    assert "would narrow it (--out-of-fold)" in one.table
    assert "fitted out of fold: 300 photos" in all_folds.table
    assert set(all_folds.model.fitted_on.held_out) == {"base", "second"}
    guards = [result.model.guard for result in (one, all_folds)]
    assert guards[1].high - guards[1].low < guards[0].high - guards[0].low
    assert one.scores["test"]["test"]["rows"] == all_folds.scores["test"]["test"]["rows"] == 60


def test_a_fold_that_a_stage_lacks_is_left_out_of_the_fit(world: dict[str, Any]) -> None:
    _marker(world["oof"] / "second", "second", {"1": "second-1"})
    assert _fuse(world, "out", out_of_fold=world["oof"]).model.fitted_on.rows == 200


def test_the_fold_of_the_validation_split_may_have_a_model_of_its_own(world: dict[str, Any]) -> None:
    here = [n for n, row in enumerate(world["rows"]) if row.fold == 0]
    logps = world["said"]["base"][here] - 5
    names = [world["rows"][n].sample_id for n in here]
    write_predictions(world["oof"] / "base/fold-0", names, logps, CARD.label_ids, fingerprints=("base-0",))
    _marker(world["oof"] / "base", "base", {str(fold): f"base-{fold}" for fold in (0, 1, 2)})
    found = _held_out(world)
    np.testing.assert_allclose(found.predictions.logps_NK[found.predictions.positions(pa.array(names))], logps)


def _main_model_in_a_fold(world: dict[str, Any]) -> None:
    here = [n for n, row in enumerate(world["rows"]) if row.fold == 1]
    names = [world["rows"][n].sample_id for n in here]
    logps = world["said"]["base"][here] - 9
    shutil.rmtree(world["oof"] / "base/fold-1")
    write_predictions(world["oof"] / "base/fold-1", names, logps, CARD.label_ids, fingerprints=("main",))


def _folds_swapped(world: dict[str, Any]) -> None:
    for fold in (1, 2):
        (world["oof"] / f"base/fold-{fold}").rename(world["oof"] / f"base/was-{fold}")
    for fold in (1, 2):
        (world["oof"] / f"base/was-{3 - fold}").rename(world["oof"] / f"base/fold-{fold}")
    _marker(world["oof"] / "base", "base", {"1": "base-2", "2": "base-1"})


def _built_with_other_folds(world: dict[str, Any]) -> None:
    rows = read_manifest(world["data"])
    write_manifest(world["data"], [replace(r, fold=(2 * r.fold) % 3) if r.fold > 0 else r for r in rows])


def _of_another_stage(world: dict[str, Any]) -> None:
    _marker(world["oof"] / "base", "second", {"1": "base-1"})


def _without_marker(world: dict[str, Any]) -> None:
    (world["oof"] / "base/out_of_fold.json").unlink()


def _of_an_earlier_version(world: dict[str, Any]) -> None:
    marker = {"task": CARD.task, "stage": "base", "folds": {"1": "fold-1"}}
    (world["oof"] / "base/out_of_fold.json").write_text(json.dumps(marker), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (_main_model_in_a_fold, FingerprintMismatch, "made with main, but .* vouches for base-1"),
        (_folds_swapped, DataError, r"are not of photos in fold 1 .* may have been trained on them: train/2,"),
        (_built_with_other_folds, DataError, "are not of photos in fold 1"),
        (_of_another_stage, DataError, "is of stage 'second'"),
        (_without_marker, DataError, "riskfuse out-of-fold … --stage base"),
        (_of_an_earlier_version, DataError, "earlier version"),
    ],
)
def test_leaks_are_refused(world: dict[str, Any], spoil: Any, error: type[Exception], words: str) -> None:
    spoil(world)
    with pytest.raises(error, match=words):
        _fuse(world, "out", out_of_fold=world["oof"])
    assert not (world["oof"].parent / "out").exists()


def test_predictions_of_the_training_photos_by_the_main_model_have_no_influence(world: dict[str, Any]) -> None:
    """Only what was held out counts: the same fit comes out when the main models never looked at training photos."""
    before = _fuse(world, "before", out_of_fold=world["oof"])
    for stage in ("base", "second"):
        kept = [n for n, row in enumerate(world["rows"]) if row.split != "train"]
        names = [world["rows"][n].sample_id for n in kept]
        shutil.rmtree(world[stage])
        write_predictions(world[stage], names, world["said"][stage][kept], ANSWERS[stage], fingerprints=("main",))
    after = _fuse(world, "after", out_of_fold=world["oof"])
    assert after.model == before.model
    assert after.scores == before.scores


def _change_marker(directory: Path, **changes: Any) -> None:
    path = directory / "predictions.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_folds_of_another_prompt_or_model_do_not_stand_for_the_main_one(world: dict[str, Any]) -> None:
    same = {"prompt": {"user": "How risky?"}, "model": {"a": "1"}, "answers": [], "preprocessing": {"pixels": 1}}
    _change_marker(world["base"], components=same | {"adapter": "main", "device": "cuda"})
    for fold in (1, 2):
        _change_marker(world["oof"] / "base" / f"fold-{fold}", components=same | {"adapter": f"fold {fold}"})
    assert _held_out(world).folds == {0, 1, 2}
    for changes, named in (
        ({"prompt": {"user": "?"}}, "prompt"),
        ({"preprocessing": {}, "model": {}}, "model and pre"),
        ({"views": "flip"}, "views"),
        ({"reading": "first-token"}, "reading"),
    ):
        _change_marker(world["oof"] / "base" / "fold-2", components=same | changes)
        with pytest.raises(FingerprintMismatch, match=f"fold-2: made with another {named}"):
            _held_out(world)


def test_predictions_of_another_stage_are_refused(world: dict[str, Any]) -> None:
    _change_marker(world["second"], stage="second")
    _change_marker(world["base"], stage="base")
    _fuse(world, "right")
    _change_marker(world["second"], stage="third")  # its answers are yes and no too
    with pytest.raises(DataError, match="holds predictions of stage third, expected those of second"):
        _fuse(world, "wrong")
    _change_marker(world["second"], stage="second")
    _change_marker(world["oof"] / "second" / "fold-1", stage="third")
    with pytest.raises(DataError, match=r"fold-1: holds predictions of stage third"):
        _fuse(world, "wrong folds", out_of_fold=world["oof"])


@pytest.mark.parametrize("place", ["base", "second", "oof/second/fold-2"])
def test_other_pictures_of_the_same_names_are_refused(world: dict[str, Any], place: str) -> None:
    """The next delivery's 1.jpg is not the last one's; fused with out-of-fold predictions and without."""
    root = world["oof"].parent
    rows = [replace(row, sha256=hashlib.sha256(row.sample_id.encode()).hexdigest()) for row in world["rows"]]
    copy = next(row for row in read_manifest(world["data"]) if row.parent is not None)
    write_manifest(world["data"], [*rows, copy])
    sha256_of = {row.sample_id: row.sha256 for row in [*rows, copy]}
    for directory in ("base", "second", "oof/base/fold-1", "oof/base/fold-2", "oof/second/fold-1", "oof/second/fold-2"):
        ids = [one for part in sorted((root / directory).glob("part-*")) for one in _ids(part)]
        digest = photos_sha256(pa.array([sha256_of[one] for one in ids], pa.string()))
        _change_marker(root / directory, photos_sha256=digest)
    _fuse(world, "right", out_of_fold=world["oof"])
    changed = next(n for n, row in enumerate(rows) if row.fold == 2)
    rows[changed] = replace(rows[changed], sha256="0" * 64)
    write_manifest(world["data"], [*rows, copy])
    with pytest.raises(DataError, match=r"photos of the data set have changed since they were predicted"):
        _fuse(world, "wrong", out_of_fold=world["oof"])
    for directory in ("base", "second", "oof/base/fold-1", "oof/base/fold-2", "oof/second/fold-1", "oof/second/fold-2"):
        if directory != place:
            _change_marker(root / directory, photos_sha256="")
    with pytest.raises(DataError, match=f"{root / place}: the photos"):
        _fuse(world, "wrong", out_of_fold=world["oof"])


def _ids(part: Path) -> list[str]:
    return pq.read_table(part, columns=["sample_id"])["sample_id"].to_pylist()
