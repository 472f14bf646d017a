"""The plain ``llamafactory-cli`` trains, resumes, saves and exports the module; predictions and heat maps follow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from amplified_models import SIDE, amplify, scores, train, with_auxiliary_loss, write_training_recipe
from PIL import Image
from safetensors.torch import load_file

from launch.cli import main

pytestmark = pytest.mark.slow
PREFIX = "base_model.model.hazard_amplifier."


def module_weights(file: Path, prefix: str = PREFIX) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in load_file(file).items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def trained(tiny_model, card, tmp_path_factory) -> Path:
    """Four steps with the auxiliary loss; returns the recipe."""
    directory = tmp_path_factory.mktemp("trained")
    model = amplify(tiny_model, directory / "trained-amplified", **with_auxiliary_loss(tiny_model, card))
    recipe = write_training_recipe(directory, model, card)
    train(recipe)
    return recipe


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, (side, SIDE, 3), dtype=np.uint8)) for side in (84, 112)]


def test_adapter_holds_the_trained_module_and_no_lora_is_in_it(trained):
    start = module_weights(trained.parent / "trained-amplified" / "hazard_amplifier.safetensors", "hazard_amplifier.")
    end = module_weights(trained.parent / "saves" / "adapter_model.safetensors")
    assert end.keys() == start.keys()
    assert all(not torch.equal(end[name], start[name]) for name in start)
    assert any("lora" in name for name in load_file(trained.parent / "saves" / "adapter_model.safetensors"))


def test_resumed_training_ends_with_the_same_bytes(trained):
    saves = trained.parent / "saves"
    whole = (saves / "adapter_model.safetensors").read_bytes()
    kept = trained.parent / "kept"
    shutil.copytree(saves, kept)
    try:
        shutil.rmtree(saves)
        shutil.copytree(kept / "checkpoint-2", saves / "checkpoint-2")
        train(trained)
        assert (saves / "adapter_model.safetensors").read_bytes() == whole
    finally:
        shutil.rmtree(saves)
        shutil.copytree(kept, saves)


def test_two_deepspeed_processes(trained, tmp_path):
    words = ["deepspeed=ds_configs/zero2.json", "per_device_train_batch_size=1", f"output_dir={tmp_path / 'zero2'}"]
    train(trained, *words, FORCE_TORCHRUN="1", NPROC_PER_NODE="2")
    one = module_weights(trained.parent / "saves" / "adapter_model.safetensors")
    two = module_weights(tmp_path / "zero2" / "adapter_model.safetensors")
    assert one.keys() == two.keys()
    for name, value in two.items():
        torch.testing.assert_close(value, one[name], atol=2e-3, rtol=0.1)


def test_exported_model_keeps_module_and_code_and_answers_alike(trained, photos, card):
    directory, merged = trained.parent, trained.parent / "merged-amplified"
    model = directory / "trained-amplified"
    merge = {
        "model_name_or_path": str(model),
        "adapter_name_or_path": str(directory / "saves"),
        "template": "qwen2_vl",
        "trust_remote_code": True,
        "infer_dtype": "float32",
        "finetuning_type": "lora",
        "export_dir": str(merged),
        "export_device": "cpu",
    }
    recipe = directory / "merge.yaml"
    recipe.write_text(json.dumps(merge), encoding="utf-8")
    train(recipe, command="export")
    code = "modeling_hazard_amplifier.py"
    assert (merged / code).read_bytes() == (model / code).read_bytes()
    unmerged = scores(model, photos, card, adapter=directory / "saves")
    np.testing.assert_allclose(scores(merged, photos, card), unmerged, atol=1e-5)
    assert np.abs(unmerged - scores(model, photos, card)).max() > 1e-3


def test_misspelt_target_is_found_before_and_refused_after_training(
    trained, card, card_path, photo_dir, tmp_path, capsys
):
    model = trained.parent / "trained-amplified"
    recipe = write_training_recipe(tmp_path, model, card, additional_target="hazard_amplifer", max_steps=1)
    assert main(["check", str(recipe)]) == 1
    assert "additional_target: hazard_amplifier" in capsys.readouterr().out
    train(recipe)
    photo = next(photo_dir.iterdir())
    words = ["--recipe", str(recipe), "--task", str(card_path), "--stage", card.stages[1]]
    assert main(["explain", str(photo), *words, "--out", str(tmp_path / "maps")]) == 2
    assert "without it" in capsys.readouterr().err


def test_explain_draws_each_photo_and_lists_what_it_cannot_read(trained, card, card_path, photo_dir, tmp_path, capsys):
    photos = sorted(photo_dir.iterdir())[:2]
    words = ["--recipe", str(trained), "--task", str(card_path), "--stage", card.stages[1]]
    assert main(["explain", *map(str, photos), "missing.jpg", *words, "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "missing.jpg" in shown.err
    assert shown.out.count("p(present)") == 2
    for photo in photos:
        assert Image.open(tmp_path / f"{photo.stem}.png").width > 800
