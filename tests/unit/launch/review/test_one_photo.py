"""A single photo through all stages on a random tiny model: the same numbers as by hand, and clear refusals."""

from __future__ import annotations

import base64
import dataclasses
import io
import json

import numpy as np
import pytest
from amplified_models import amplify, shake
from PIL import Image

from dataset_builders.errors import ConfigError, PhotoError
from fusion.fusion_model import load_fusion_model
from launch.predict.model import ModelSpec, load_for_prediction
from launch.predict.scorer import LabelScorer
from launch.predict.worker import read_photo
from launch.review.app import _scored
from launch.review.one_photo import OnePhoto

PREPROCESSING = {
    "template": "qwen2_vl",
    "trust_remote_code": True,
    "image_min_pixels": 56 * 56,
    "image_max_pixels": 112 * 112,
}


def write_recipes(files, models, **changes):
    """Recipes of whole models, so that no adapter has to be trained."""
    for name, model in models.items():
        recipe = {"model_name_or_path": str(model), "finetuning_type": "full", "output_dir": str(model), "stage": "sft"}
        text = json.dumps(recipe | PREPROCESSING | changes)  # JSON is YAML
        (files.run / f"recipes/{name}.yaml").write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_photo_is_scored_as_by_hand_and_an_amplified_specialist_shows_where_it_looks(
    files, card, tiny_model, photo_dir, tmp_path
):
    amplified = amplify(tiny_model, tmp_path / "amplified")
    shake(amplified / "hazard_amplifier.safetensors")
    write_recipes(files, {"base": tiny_model, "high_risk": amplified, "clutter": tiny_model})
    path = photo_dir / "000.png"
    one = OnePhoto(files)
    scored = one.score(path)
    model = load_fusion_model(files.fusion / "fusion.json")
    image = read_photo(str(path))
    logps = []
    for name, weights in (("base", tiny_model), ("high_risk", amplified), ("clutter", tiny_model)):
        loaded = load_for_prediction(ModelSpec(str(weights), None, PREPROCESSING, "cpu", "auto", 1))
        logps.append(LabelScorer(loaded, card.prompt(name), card.answers(name)).score([image]))
    applied = model.apply(logps[0], np.stack(logps[1:]))
    assert scored.opinion.base == pytest.approx(np.exp(applied.base_logps_NK[0]))
    assert [look.positive for look in scored.opinion.looks] == pytest.approx(applied.positive_SN[:, 0])
    assert [look.coefficient for look in scored.opinion.looks] == pytest.approx(applied.kappa_SN[:, 0])
    calibrated = model.review.calibrator.apply(applied.fused_logps_NK)
    assert scored.opinion.fused == pytest.approx(np.exp(calibrated[0]))
    assert scored.opinion.in_set == tuple(model.review.prediction_sets.sets(calibrated)[0])
    assert scored.opinion.decided == card.label_ids[applied.labels[model.submitted][0]]
    assert scored.opinion.expected_cost >= 0
    ((stage, uri),) = scored.heat_maps
    assert stage == "high_risk"
    assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).format == "PNG"
    loaded_stages = dict(one._stages)
    html = _scored(files, one, path)
    assert all(one._stages[name] is stage for name, stage in loaded_stages.items())  # loaded once
    assert "Where high_risk looks" in html
    assert "data:image/jpeg;base64," in html
    flipped = dataclasses.replace(files, pipeline={"inference": {"options": ["--views", "flip", "--batch-size", "4"]}})
    assert OnePhoto(flipped).score(path).opinion.base != scored.opinion.base


def test_models_that_are_gone_are_named(files, photo_dir, tmp_path):
    path = photo_dir / "000.png"
    with pytest.raises(ConfigError, match=r"base\.yaml: expected a text"):
        OnePhoto(files).score(path)
    write_recipes(files, {"base": tmp_path / "gone"})
    with pytest.raises(ConfigError, match=r"the model of stage 'base' is gone: .*gone; start the app in the directory"):
        OnePhoto(files).score(path)
    write_recipes(files, {"base": tmp_path}, finetuning_type="lora", output_dir=str(tmp_path / "no-adapter"))
    with pytest.raises(ConfigError, match="the adapter of stage 'base' is gone"):
        OnePhoto(files).score(path)
    write_recipes(files, {"base": "someone/not-downloaded"})
    with pytest.raises(ConfigError, match="the model of stage 'base' is gone: someone/not-downloaded"):
        OnePhoto(files).score(path)
    html = _scored(files, OnePhoto(files), path)
    assert 'role="alert"' in html
    assert "is gone" in html


def test_file_that_is_no_photo_is_named_and_escaped(files, tmp_path):
    path = tmp_path / "<b>.jpg"
    path.write_bytes(b"<script>")
    with pytest.raises(PhotoError, match="not a photo"):
        OnePhoto(files).score(path)
    html = _scored(files, OnePhoto(files), path)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
