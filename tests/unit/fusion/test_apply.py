"""Later photos by a fitted fusion: the same answers as the fit gave, and nothing that another model said."""

import json

import numpy as np
import pytest
from fusion_data import make_card, simulate, write_dataset, write_predictions

from dataset_builders.errors import ConfigError, DataError, FingerprintMismatch
from dataset_builders.manifest import ManifestRow
from fusion.apply import apply_fusion
from fusion.fit import FitSettings
from fusion.fuse import fuse
from launch.cli import main

CARD = make_card()
MODELS = {"base": {"adapter": "a", "versions": {"torch": "2"}}, "second": {"adapter": "b", "versions": {"torch": "2"}}}
ROWS = 200


def write_world(directory, seeds, *, labelled=True, models=MODELS):
    """A data set with a source in each split of ``seeds``, and both models' predictions; same seed, same photos."""
    samples = {split: simulate(seed, ROWS) for split, seed in seeds.items()}
    ids = [f"{split}/{n}.jpg" for split in samples for n in range(ROWS)]
    labels = [CARD.label_ids[k] if labelled else None for sample in samples.values() for k in sample.labels_N]
    rows = [
        ManifestRow(
            sample_id=one,
            source=one.split("/")[0],
            name=one.split("/")[1],
            position=number % ROWS,
            split=one.split("/")[0],
            label=label,
            group=number,
        )
        for number, (one, label) in enumerate(zip(ids, labels, strict=True))
    ]

    def write(stage, answers, logps):
        fingerprint = json.dumps(models[stage])
        place = write_predictions(directory / stage, ids, np.concatenate(logps), answers, fingerprints=[fingerprint])
        marker = json.loads((place / "predictions.json").read_text())
        (place / "predictions.json").write_text(json.dumps(marker | {"components": models[stage]}))
        return place

    base = write("base", CARD.label_ids, [sample.base_logps_NK for sample in samples.values()])
    second = write("second", ("yes", "no"), [sample.looks_SN2[0] for sample in samples.values()])
    return write_dataset(directory / "data", rows), CARD, base, {"second": second}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A fusion that was fitted on labelled photos, and graded others."""
    directory = tmp_path_factory.mktemp("fitted")
    fuse(*write_world(directory, {"val": 5, "test": 6}), directory / "out", settings=FitSettings(folds=3, resamples=50))
    return directory / "out"


def test_the_same_photos_get_the_same_answers(fitted, tmp_path):
    world = write_world(tmp_path, {"test": 6})
    result = apply_fusion(*world, fitted, tmp_path / "out", resamples=50)
    for name in ("decisions.parquet", "review.csv", "b-submit.txt", "fusion.json"):
        assert (tmp_path / "out" / name).read_bytes() == (fitted / name).read_bytes()
    then = json.loads((fitted / "score.json").read_text())
    assert json.loads((tmp_path / "out/score.json").read_text()) == then
    assert "nothing was fitted" in result.notes[0]


def test_photos_without_labels_are_graded(fitted, tmp_path):
    result = apply_fusion(*write_world(tmp_path, {"test": 7}, labelled=False), fitted, tmp_path / "out")
    assert result.scores["test"] == {}
    assert len((tmp_path / "out/b-submit.txt").read_text(encoding="utf-8").splitlines()) == ROWS


def changed(stage, **parts):
    return MODELS | {stage: MODELS[stage] | parts}


@pytest.mark.parametrize("stage", ["base", "second"])
def test_another_model_is_refused(fitted, tmp_path, stage):
    world = write_world(tmp_path, {"test": 6}, models=changed(stage, adapter="c", versions={"torch": "3"}))
    with pytest.raises(FingerprintMismatch, match=rf"predictions of {stage} that differ from these in adapter;"):
        apply_fusion(*world, fitted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_versions_of_the_same_model_are_noted(fitted, tmp_path):
    world = write_world(tmp_path, {"test": 6}, models=changed("base", versions={"torch": "3"}, batch_size=8))
    result = apply_fusion(*world, fitted, tmp_path / "out", resamples=50)
    assert (
        "base was computed with another batch_size, versions than in the fit; `riskfuse parity` says what it changes"
        in result.notes
    )


def test_fusion_that_does_not_say_by_which_model_is_refused(fitted, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    content = json.loads((fitted / "fusion.json").read_text())
    del content["fitted_on"]["components"]
    (old / "fusion.json").write_text(json.dumps(content))
    (old / "score.json").write_bytes((fitted / "score.json").read_bytes())
    same = write_world(tmp_path / "same", {"test": 6})
    apply_fusion(*same, old, tmp_path / "out", resamples=50)  # the fingerprints are equal
    other = write_world(tmp_path / "other", {"test": 6}, models=changed("base", versions={"torch": "3"}))
    with pytest.raises(FingerprintMismatch, match="--from fuse --redo"):
        apply_fusion(*other, old, tmp_path / "out")


def test_another_task_card_is_refused(fitted, tmp_path):
    data, _, base, specialists = write_world(tmp_path, {"test": 6})
    with pytest.raises(ConfigError, match="another content of the task card"):
        apply_fusion(data, make_card(third=("amber",)), base, specialists, fitted, tmp_path / "out")


def test_the_fitted_fusion_is_never_written_over(fitted, tmp_path):
    before = {path.name: path.read_bytes() for path in fitted.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="another directory"):
        apply_fusion(*write_world(tmp_path, {"test": 6}), fitted, fitted)
    assert {path.name: path.read_bytes() for path in fitted.iterdir() if path.is_file()} == before


def test_scores_of_the_fit_must_lie_beside_it(fitted, tmp_path):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/fusion.json").write_bytes((fitted / "fusion.json").read_bytes())
    with pytest.raises(DataError, match=r"score\.json: no such file"):
        apply_fusion(*write_world(tmp_path, {"test": 6}), tmp_path / "alone", tmp_path / "out")


def test_options_of_the_fit_mean_nothing_with_fitted(fitted, tmp_path, capsys):
    words = [
        "fuse",
        str(tmp_path),
        "--task",
        "recipes/tasks/corridor.yaml",
        "--base",
        "b",
        "--specialist",
        "high_risk=s",
    ]
    words += ["--fitted", str(fitted), "--out", str(tmp_path / "out"), "--alpha", "0.1", "--out-of-fold", "f"]
    assert main(words) == 2
    assert "--alpha, --out-of-fold: say how a fusion is fitted" in capsys.readouterr().err
