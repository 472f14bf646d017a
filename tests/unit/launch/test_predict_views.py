"""Test-time views: the mean of what each view says, photo by photo, and a fingerprint of their own."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

from dataset_builders.errors import FingerprintMismatch
from launch.predict import PredictConfig, predict
from launch.predict.views import average_views, view_photos


@pytest.fixture
def settings(tiny_recipe, card_path, photo_dir, tmp_path) -> dict:
    directory = tmp_path / "photos"
    directory.mkdir()
    for path in sorted(photo_dir.iterdir())[:5]:
        photo = Image.open(path)
        photo.save(directory / path.name)
        ImageOps.mirror(photo).save(directory / f"mirror_{path.name}")
    names = sorted(path.name for path in directory.iterdir())
    (tmp_path / "list.txt").write_text("\n".join([*names, "missing.png"]) + "\n", encoding="utf-8")
    return {
        "recipe": tiny_recipe,
        "task": card_path,
        "stage": "base",
        "images": directory,
        "photo_list": tmp_path / "list.txt",
        "adapter": "none",
        "engine": "local",
        "batch_size": 4,
        "out": tmp_path / "flip",
        "views": "flip",
    }


def probabilities(out) -> dict[str, np.ndarray]:
    rows = pq.read_table(out / "part-00000.parquet").to_pylist()
    return {
        row["sample_id"].removeprefix("list/"): np.exp([v for k, v in row.items() if k.startswith("logp_")])
        for row in rows
        if row["status"] == "ok"
    }


def test_a_photo_and_its_mirror_image_get_the_mean_of_what_they_get_alone(settings, tmp_path):
    predict(PredictConfig(**settings))
    predict(PredictConfig(**settings | {"views": "none", "out": tmp_path / "plain"}))
    predict(PredictConfig(**settings | {"batch_size": 1, "out": tmp_path / "single"}))
    flip, plain, single = (probabilities(tmp_path / name) for name in ("flip", "plain", "single"))
    originals = [name for name in plain if not name.startswith("mirror_")]
    assert len(originals) == 5
    moved = 0.0
    for name in originals:
        mirror = f"mirror_{name}"
        np.testing.assert_allclose(flip[name], (plain[name] + plain[mirror]) / 2, rtol=1e-4)
        np.testing.assert_allclose(flip[name], flip[mirror], rtol=1e-4)
        np.testing.assert_allclose(flip[name], single[name], rtol=1e-4)
        moved = max(moved, np.abs(np.log(plain[name] / plain[mirror])).max())
    assert moved > 1e-3  # the model sees the difference, or the test shows nothing


def test_views_are_in_the_fingerprint(settings):
    predict(PredictConfig(**settings))
    with pytest.raises(FingerprintMismatch, match="views"):
        predict(PredictConfig(**settings | {"views": "none"}))


def test_one_view_stays_bit_for_bit_and_impossible_answers_stay_impossible():
    logp = np.log(np.array([[[0.5, 0.2], [0.1, 0.3]]]))
    np.testing.assert_array_equal(average_views(logp), logp[0])
    with np.errstate(divide="ignore"):
        two = np.log(np.array([[[0.5, 0.0]], [[0.1, 0.0]]]))
    np.testing.assert_allclose(np.exp(average_views(two)), [[0.3, 0.0]])
    photo = Image.new("RGB", (3, 2))
    assert [len(batch) for batch in view_photos("flip", [photo, photo])] == [2, 2]
    assert len(view_photos("none", [photo])) == 1
