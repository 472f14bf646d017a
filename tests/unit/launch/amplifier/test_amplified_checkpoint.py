"""Prepared checkpoints: bit-identical answers at first, linked weights, whole or absent, and every guard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from amplified_models import amplify, preprocessing, scores, shake, with_auxiliary_loss
from PIL import Image
from safetensors.torch import load_file, save_file

import launch.amplifier.checkpoint as checkpoint
from dataset_builders.errors import ConfigError
from launch.amplifier import AmplifierOptions, check_adapter, check_code
from launch.amplifier.checkpoint import prepare_checkpoint
from launch.cli import main
from launch.predict.fingerprint import model_files
from launch.predict.model import ModelSpec, check_base, load_for_prediction
from launch.safetensors_header import tensor_names

CODE = "modeling_hazard_amplifier.py"


@pytest.fixture(scope="module")
def photos(photo_dir) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(photo_dir.iterdir())[:5]]


@pytest.fixture(scope="module")
def amplified(tiny_model, tmp_path_factory) -> Path:
    return amplify(tiny_model, tmp_path_factory.mktemp("amplified") / "single-amplified")


@pytest.fixture(scope="module")
def plain_scores(tiny_model, photos, card) -> np.ndarray:
    return scores(tiny_model, photos, card)


def test_answers_are_bit_identical_at_first(amplified, photos, card, plain_scores):
    assert np.array_equal(scores(amplified, photos, card), plain_scores)


def test_sharded_checkpoint_too_and_its_weights_are_links(tiny_model, tmp_path, photos, card, plain_scores):
    from transformers import Qwen2_5_VLForConditionalGeneration

    sharded = tmp_path / "sharded"
    shutil.copytree(tiny_model, sharded)
    (sharded / "model.safetensors").unlink()
    Qwen2_5_VLForConditionalGeneration.from_pretrained(tiny_model).save_pretrained(sharded, max_shard_size="2MB")
    shards = sorted(sharded.glob("model-*.safetensors"))
    assert len(shards) > 1
    out = amplify(sharded, tmp_path / "sharded-amplified")
    assert all((out / shard.name).samefile(shard) for shard in shards)
    assert np.array_equal(scores(out, photos, card), plain_scores)


def test_half_a_download_is_refused(tiny_model, tmp_path):
    """An index of our own would name what is there, and transformers would fill the rest with random numbers."""
    shutil.copytree(tiny_model, tmp_path / "base")
    single = tmp_path / "base" / "model.safetensors"
    tensors = load_file(single)
    single.unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, tmp_path / "base" / file)
    with pytest.raises(ConfigError, match=r"expected model.safetensors, or model.safetensors.index.json"):
        amplify(tmp_path / "base", tmp_path / "out")
    weight_map = {name: file for file, held in shards.items() for name in held}
    index = tmp_path / "base" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    (tmp_path / "base" / "model-00002-of-00002.safetensors").rename(tmp_path / "aside")
    with pytest.raises(ConfigError, match=r"lacks model-00002-of-00002.safetensors, which .*download"):
        amplify(tmp_path / "base", tmp_path / "out")
    save_file({name: tensors[name] for name in names[6:]}, tmp_path / "base" / "model-00002-of-00002.safetensors")
    with pytest.raises(ConfigError, match=f"lack 1 tensors .*{names[5]} first"):
        amplify(tmp_path / "base", tmp_path / "out")
    index.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="not readable"):
        amplify(tmp_path / "base", tmp_path / "out")
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    (tmp_path / "aside").rename(tmp_path / "base" / "model-00002-of-00002.safetensors")
    amplify(tmp_path / "base", tmp_path / "out")


def test_weights_of_another_file_system_are_linked_symbolically(tiny_model, tmp_path, monkeypatch, photos):
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(checkpoint.os, "link", refuse)
    out = amplify(tiny_model, tmp_path / "across-amplified")
    assert (out / "base.safetensors").is_symlink()
    assert (out / "base.safetensors").samefile(tiny_model / "model.safetensors")


def test_trained_module_changes_answers_whatever_the_batch(tiny_model, tmp_path, photos, card, plain_scores):
    out = amplify(tiny_model, tmp_path / "shaken-amplified", queries=2)
    shake(out / "hazard_amplifier.safetensors")
    together = scores(out, photos, card)
    assert np.abs(together - plain_scores).max() > 0.1
    alone = np.concatenate([scores(out, [photo], card) for photo in photos[:2]])
    np.testing.assert_allclose(together[:2], alone, atol=2e-5)


def test_same_again_is_nothing_to_do_and_other_options_are_refused(tiny_model, amplified):
    before = {path.name: path.stat().st_mtime_ns for path in amplified.iterdir()}
    assert not prepare_checkpoint(tiny_model, amplified, AmplifierOptions())
    assert {path.name: path.stat().st_mtime_ns for path in amplified.iterdir()} == before
    with pytest.raises(ConfigError, match="exists already"):
        prepare_checkpoint(tiny_model, amplified, AmplifierOptions(queries=5))


def test_killed_run_leaves_nothing_that_looks_complete(tiny_model, tmp_path, monkeypatch):
    out = tmp_path / "killed-amplified"
    monkeypatch.setattr(checkpoint, "_write_index", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare_checkpoint(tiny_model, out, AmplifierOptions())
    assert not out.exists()
    monkeypatch.undo()
    (tmp_path / ".killed-amplified.tmp").mkdir()  # a kill without mercy leaves it
    assert prepare_checkpoint(tiny_model, out, AmplifierOptions())
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_same_seed_same_bytes(tiny_model, amplified, tmp_path):
    again = amplify(tiny_model, tmp_path / "again-amplified")
    assert model_files(str(again)) == model_files(str(amplified))
    other = amplify(tiny_model, tmp_path / "other-amplified", seed=1)
    assert model_files(str(other)) != model_files(str(amplified))


def test_predictions_of_changed_code_have_another_fingerprint(amplified, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(amplified, changed)
    (changed / CODE).write_text("# other code\n", encoding="utf-8")
    assert model_files(str(changed))[CODE] != model_files(str(amplified))[CODE]


@pytest.mark.parametrize("base", ["Qwen/Qwen2.5-VL-3B-Instruct", "nowhere"])
def test_hub_name_says_to_download_it(base, tmp_path, capsys):
    assert main(["amplify", base, str(tmp_path / "out")]) == 2
    assert "hf download" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_only_plain_qwen_checkpoints_are_taken(amplified, tmp_path):
    with pytest.raises(ConfigError, match="class of its own"):
        prepare_checkpoint(amplified, tmp_path / "twice", AmplifierOptions())
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    with pytest.raises(ConfigError, match="'llama'"):
        prepare_checkpoint(other, tmp_path / "out", AmplifierOptions())


def test_auxiliary_loss_needs_two_answers_and_knows_their_tokens(tiny_model, card, card_path, tmp_path, capsys):
    options = with_auxiliary_loss(tiny_model, card)
    assert options["positive_token"] != options["negative_token"]
    words = ["amplify", str(tiny_model), str(tmp_path / "out"), "--aux-weight", "0.5"]
    assert main(words) == 2
    assert "name a task card" in capsys.readouterr().err
    assert main([*words, "--task", str(card_path), "--stage", "base"]) == 2
    assert "5 answers" in capsys.readouterr().err
    assert main([*words, "--task", str(card_path), "--stage", card.stages[1]]) == 0
    section = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))["hazard_amplifier"]
    assert {key: section[key] for key in options} == options


def training_batch(model, answers: list[int]) -> dict:
    """One photo of four tokens and one answer of two tokens a row."""
    import torch

    generator = torch.Generator().manual_seed(0)
    prompt = [model.config.vision_start_token_id, *[model.config.image_token_id] * 4, 20, 21]
    ids = torch.tensor([[*prompt, answer, 22] for answer in answers])
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == model.config.image_token_id).int(),
        "labels": labels,
        "pixel_values": torch.randn(16 * len(answers), 1176, generator=generator),
        "image_grid_thw": torch.tensor([[1, 4, 4]] * len(answers)),
    }


def test_auxiliary_loss_is_added_in_training_only(tiny_model, card, tmp_path):
    import torch

    from launch.amplifier.modeling_hazard_amplifier import AmplifiedQwen2_5_VLForConditionalGeneration

    options = with_auxiliary_loss(tiny_model, card)
    out = amplify(tiny_model, tmp_path / "auxiliary-amplified", **options)
    model = AmplifiedQwen2_5_VLForConditionalGeneration.from_pretrained(out)
    batch = training_batch(model, [options["positive_token"], options["negative_token"], options["negative_token"]])
    logits = []
    model.hazard_amplifier.register_forward_hook(lambda module, inputs, output: logits.append(output[1]))
    with torch.no_grad():
        plain, together = model.eval()(**batch).loss, model.train()(**batch).loss
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[0], torch.tensor([1.0, 0.0, 0.0]))
        torch.testing.assert_close(together - plain, options["auxiliary_weight"] * expected)
        unknown = batch | {"labels": batch["labels"].clamp(max=30)}  # answers that are neither: nothing to learn from
        torch.testing.assert_close(model(**unknown).loss, model.eval()(**unknown).loss)
        batch["labels"][:, -1] = -100
        batch["labels"][:, 0] = 5  # a second answer in every row
        with pytest.raises(ValueError, match="one photo and one answer"):
            model.train()(**batch)


def test_changed_or_foreign_code_is_not_run(amplified, tmp_path):
    check_code(amplified)
    copy = tmp_path / "copy"
    shutil.copytree(amplified, copy)
    with (copy / CODE).open("a", encoding="utf-8") as file:
        file.write("raise SystemExit('this ran')\n")
    spec = ModelSpec(str(copy), None, preprocessing(), "cpu", "auto", 1)
    with pytest.raises(ConfigError, match="not run"):
        load_for_prediction(spec)
    (copy / CODE).unlink()
    with pytest.raises(ConfigError, match="is missing"):
        check_code(copy)


def test_plain_class_in_its_place_is_refused(amplified):
    spec = ModelSpec(str(amplified), None, preprocessing() | {"trust_remote_code": False}, "cpu", "auto", 1)
    with pytest.raises(ConfigError, match="trust_remote_code"):
        load_for_prediction(spec)


@pytest.mark.parametrize("model_has", [True, False])
@pytest.mark.parametrize("adapter_has", [True, False])
def test_model_and_adapter_must_both_have_it(amplified, tiny_model, tmp_path, model_has, adapter_has):
    import torch

    names = ["base_model.model.lm_head.lora_A.weight"] + ["base_model.model.hazard_amplifier.gain"] * adapter_has
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "adapter_model.safetensors")
    assert tensor_names(tmp_path) == set(names)
    model = amplified if model_has else tiny_model
    if model_has == adapter_has:
        check_adapter(model, tmp_path)
    else:
        with pytest.raises(ConfigError, match="additional_target" if model_has else "no such module"):
            check_adapter(model, tmp_path)


def test_amplified_adapter_is_refused_on_a_hub_name_and_on_another_strength(amplified, tiny_model, tmp_path):
    import torch

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"base_model.model.hazard_amplifier.gain": torch.zeros(1)}, adapter / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="no such module"):
        check_adapter(Path("Qwen/Qwen2.5-VL-3B-Instruct"), adapter)
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(amplified)}), encoding="utf-8"
    )
    check_base(str(amplified), str(adapter))
    other = tmp_path / "other"
    shutil.copytree(amplified, other)
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    config["hazard_amplifier"]["strength"] *= 2
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match="was trained on"):
        check_base(str(other), str(adapter))
