"""`riskfuse verify`: dual encoders are loaded by the real code, and what people see of all judges."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from dataset_builders.errors import ConfigError, DataError
from dataset_builders.manifest import ManifestRow, read_manifest
from dataset_builders.task_card import TaskCard
from launch.cli import main
from launch.verify import DualEncoderJudge, label_texts

TEXTS = {"a": "a long red thing in a corridor", "b": "nothing", "c": "three blue boxes and a bicycle"}
LENGTH = 16


def tiny_dual_encoder(directory: Path, kind: str, length: int = LENGTH) -> Path:
    """A checkpoint directory with a model of the real class, random weights, a tokenizer and an image processor."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        PreTrainedTokenizerFast,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipProcessor,
    )

    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS.values(), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text = {**layers, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": length}
    vision = {**layers, "image_size": 32, "patch_size": 8}
    size = {"height": 32, "width": 32}
    torch.manual_seed(0)
    if kind == "clip":
        model: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
        images: Any = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
        processor: Any = CLIPProcessor(image_processor=images, tokenizer=tokenizer)
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        with torch.no_grad():
            model.logit_scale.fill_(2.0)
            model.logit_bias.fill_(-3.0)
        processor = SiglipProcessor(image_processor=SiglipImageProcessor(size=size), tokenizer=tokenizer)
    with torch.no_grad():  # larger weights than at initialisation: photo and text must matter
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(6.0 if "embedding" not in name else 2.0)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: tiny_dual_encoder(tmp_path_factory.mktemp("encoder") / kind, kind) for kind in ("clip", "siglip")}


def rows_of(photo_dir: Path, count: int = 7) -> list[ManifestRow]:
    photos = sorted(photo_dir.iterdir())[:count]
    return [ManifestRow(f"s/{p.name}", "s", p.name, i, "train", "a", image=p.name) for i, p in enumerate(photos)]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_log_probabilities_are_the_models_own(encoders: dict[str, Path], photo_dir: Path, kind: str) -> None:
    import torch
    from transformers import AutoModel, AutoProcessor

    rows = rows_of(photo_dir)
    judge = DualEncoderJudge(str(encoders[kind]), TEXTS, batch_size=3)
    found = judge.log_probabilities(photo_dir, rows)
    assert list(found) == [row.sample_id for row in rows]
    logp_NK = np.stack(list(found.values()))
    assert np.allclose(np.exp(logp_NK).sum(axis=1), 1)
    assert logp_NK.std(axis=0).min() > 1e-3  # photos matter
    assert logp_NK.std(axis=1).min() > 1e-3  # texts matter

    model, processor = (auto.from_pretrained(encoders[kind]) for auto in (AutoModel, AutoProcessor))
    photos = [Image.open(photo_dir / row.image).convert("RGB") for row in rows]
    padding = {"padding": "max_length", "max_length": LENGTH} if kind == "siglip" else {"padding": True}
    inputs = processor(text=list(TEXTS.values()), images=photos, truncation=True, return_tensors="pt", **padding)
    if kind == "siglip":
        inputs.pop("attention_mask", None)
    with torch.inference_mode():
        logits = model(**inputs).logits_per_image
    p_NK = (logits.sigmoid() if kind == "siglip" else logits.softmax(-1)).double()
    p_NK /= p_NK.sum(-1, keepdim=True)
    assert np.allclose(np.exp(logp_NK), p_NK.numpy(), atol=1e-5)


def test_batches_change_nothing(encoders: dict[str, Path], photo_dir: Path) -> None:
    rows = rows_of(photo_dir)
    one, all_ = (
        DualEncoderJudge(str(encoders["clip"]), TEXTS, batch_size=size).log_probabilities(photo_dir, rows)
        for size in (1, 7)
    )
    assert np.allclose([one[row.sample_id] for row in rows], [all_[row.sample_id] for row in rows], atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close(encoders: dict[str, Path], photo_dir: Path, dtype: str) -> None:
    rows = rows_of(photo_dir, 2)
    full, half = (
        DualEncoderJudge(str(encoders["siglip"]), TEXTS, dtype=kind).log_probabilities(photo_dir, rows)
        for kind in ("float32", dtype)
    )
    assert np.allclose([full[row.sample_id] for row in rows], [half[row.sample_id] for row in rows], atol=0.2)


def test_too_long_text_is_named(encoders: dict[str, Path], photo_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {"short": "nothing", "long": "xyz " * 40}
    DualEncoderJudge(str(encoders["clip"]), texts).log_probabilities(photo_dir, rows_of(photo_dir, 1))
    warnings = [line for line in capsys.readouterr().err.splitlines() if "tokens" in line]
    assert len(warnings) == 1
    assert "'long'" in warnings[0]
    assert f"the first {LENGTH}" in warnings[0]


def test_identity_tells_models_and_texts_apart_but_not_places(encoders: dict[str, Path], tmp_path: Path) -> None:
    clip = DualEncoderJudge(str(encoders["clip"]), TEXTS).identity
    assert DualEncoderJudge(str(encoders["siglip"]), TEXTS).identity != clip
    assert DualEncoderJudge(str(encoders["clip"]), TEXTS | {"a": "x"}).identity != clip
    moved = shutil.copytree(encoders["clip"], tmp_path / "clip")
    assert DualEncoderJudge(str(moved), TEXTS).identity == clip
    json.dumps(clip)


def test_what_is_no_dual_encoder_is_refused(tiny_model: Path, encoders: dict[str, Path], photo_dir: Path) -> None:
    with pytest.raises(ConfigError, match="no dual encoder"):
        DualEncoderJudge(str(tiny_model), TEXTS).log_probabilities(photo_dir, rows_of(photo_dir, 1))
    with pytest.raises(ConfigError, match="holds no weights"):
        DualEncoderJudge(str(photo_dir), TEXTS).identity  # noqa: B018
    gone = [ManifestRow("s/gone~000", "s", "gone", 0, "train", "a", image="gone.jpg")]
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read"):
        DualEncoderJudge(str(encoders["clip"]), TEXTS).log_probabilities(photo_dir, gone)


def test_label_texts(card: TaskCard, tmp_path: Path) -> None:
    texts = label_texts(card)
    assert tuple(texts) == card.label_ids
    for label in card.labels:
        assert label.text in texts[label.id]
        assert label.rule in texts[label.id]
    path = tmp_path / "texts.yaml"
    good = {label_id: f"text of {label_id}" for label_id in reversed(card.label_ids)}
    path.write_text(yaml.safe_dump(good), encoding="utf-8")
    assert label_texts(card, path) == good
    assert tuple(label_texts(card, path)) == card.label_ids
    for bad in (good | {"x": "y"}, {k: v for k, v in good.items() if k != card.label_ids[0]}, [1], good | {"low": 3}):
        path.write_text(yaml.safe_dump(bad), encoding="utf-8")
        with pytest.raises(ConfigError, match="expected one text for each of"):
            label_texts(card, path)


@pytest.fixture(scope="module")
def augmented(tmp_path_factory: pytest.TempPathFactory, card_path: Path, card: TaskCard) -> Path:
    """15 noise photos of all classes, and copies of the training photos."""
    directory = tmp_path_factory.mktemp("augmented")
    (directory / "photos").mkdir()
    for index in range(15):
        noise = np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64)).save(directory / "photos" / f"{index}.png")
    lines = [f"{i}.png\t{card.labels[i % 5].text}\n" for i in range(15)]
    (directory / "train.txt").write_text("".join(lines), encoding="utf-8")
    source = {"name": "train", "kind": "label_list", "role": "train", "path": str(directory / "train.txt")}
    build = {"task": str(card_path), "out": str(directory / "out"), "folds": 3, "balance": 4, "workers": 1}
    build["sources"] = [source | {"images": str(directory / "photos")}]
    (directory / "build.yaml").write_text(yaml.safe_dump(build), encoding="utf-8")
    assert main(["build", str(directory / "build.yaml")]) == 0
    from dataset_builders.augment.augment import augment_dataset
    from dataset_builders.augment.config import AugmentConfig

    policy = {"task": card_path, "dataset": directory / "out", "out": directory / "augmented", "workers": 1}
    augment_dataset(AugmentConfig.model_validate({**policy, "transforms": [{"transform": "HorizontalFlip"}]}))
    return directory / "augmented"


@pytest.fixture
def verify(augmented: Path, card_path: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs the command on a copy of the data set in ``tmp_path / "set"``."""
    shutil.copytree(augmented, tmp_path / "set")
    return lambda *flags: main(["verify", str(tmp_path / "set"), "--task", str(card_path), *map(str, flags)])


def test_dual_encoder_from_the_command_line(
    verify: Callable[..., int], encoders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.html"
    flags = ("--by", "dual_encoder", "--model", encoders["siglip"], "--drop-quantile", "0.5", "--device", "cpu")
    assert verify(*flags, "--contact-sheet", sheet) == 0
    out = capsys.readouterr().out
    assert "high: 1 of 2 copies dropped, mean score" in out
    assert sheet.read_text(encoding="utf-8").count('class="bad"') == 5
    copies = [row for row in read_manifest(tmp_path / "set") if row.parent is not None]
    assert all(row.verification_score is not None for row in copies)
    assert sum(row.status == "dropped" for row in copies) == 5
    sheet.unlink()
    assert verify(*flags, "--contact-sheet", sheet) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert sheet.is_file()
    assert verify("--by", "none") == 0
    assert "high: 0 of 2 copies dropped\n" in capsys.readouterr().out


def test_first_stage_from_the_command_line(
    verify: Callable[..., int], card: TaskCard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for row in read_manifest(tmp_path / "set") if row.split == "train"]
    lost = next(row.sample_id for row in rows if row.parent is not None)
    table = [
        {
            "sample_id": row.sample_id,
            "status": "ok",
            **{f"logp_{i}": -0.1 if (i == row.label) != (row.sample_id == lost) else -5.0 for i in card.label_ids},
        }
        for row in rows
    ]
    (tmp_path / "oof").mkdir()
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "oof" / "part-00000.parquet")
    (tmp_path / "oof" / "predictions.json").write_text("{}", encoding="utf-8")
    assert verify("--by", "stage1", "--predictions", tmp_path / "oof") == 0
    assert [row.sample_id for row in read_manifest(tmp_path / "set") if row.status == "dropped"] == [lost]
    marker = json.loads((tmp_path / "set" / "build.json").read_text(encoding="utf-8"))
    assert marker["verification"]["rule"] == {"below": -1.5, "quantile": None}
    assert "note: no out_of_fold.json beside" in capsys.readouterr().err
    (tmp_path / "out_of_fold.json").write_text("{}", encoding="utf-8")
    assert verify("--by", "stage1", "--predictions", tmp_path / "oof", "--json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["fresh"], found["rule"]) == (False, {"below": -1.5, "quantile": None})
    assert "nothing to do" in printed.err
    assert "note" not in printed.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--by", "stage1"), "--by stage1 needs --predictions"),
        (("--by", "dual_encoder"), "--by dual_encoder needs --model"),
        (("--by", "none", "--drop-below", "-1"), "nothing can be dropped"),
        (("--by", "none", "--model", "x"), "--model can only be used with --by dual_encoder, but --by is none"),
        (("--by", "stage1", "--predictions", "nowhere", "--drop-quantile", "1"), "--drop-quantile: .*less than 1"),
        (("--by", "stage1", "--predictions", "nowhere", "--drop-below", "nan"), "--drop-below: .*finite"),
        (("--by", "stage1", "--predictions", "nowhere"), "no such file, so the predictions are not complete"),
        (("--by", "dual_encoder", "--model", "x", "--batch-size", "0"), "--batch-size must be at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_named(
    verify: Callable[..., int], capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert verify(*flags) == 2
    assert re.search(message, capsys.readouterr().err)
