"""LLaMA-Factory's own loader takes every example: it empties what it does not like, and only logs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dataset_builders.build import build_dataset
from dataset_builders.build_config import BuildConfig


@pytest.mark.slow
def test_no_example_is_emptied(
    make_config: Callable[..., BuildConfig], lists: tuple[Path, Path], tmp_path: Path
) -> None:
    from llamafactory.data.loader import _load_single_dataset
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import TrainingArguments

    names = [f"x{i}.png" for i in range(5)]
    lists[1].write_text("".join(f"{name}\thot\n" for name in names), encoding="utf-8")
    config = make_config(balance=12)
    build_dataset(config)
    data_args = DataArguments(template="qwen2_vl", dataset_dir=str(config.out))
    arguments = (
        ModelArguments(model_name_or_path="none", cache_dir=str(tmp_path / "cache")),
        data_args,
        TrainingArguments(output_dir=str(tmp_path / "saves"), use_cpu=True),
    )
    for split in ("train", "val", "test"):
        (attributes,) = get_dataset_list([f"tiny_{split}"], str(config.out))
        loaded = _load_single_dataset(attributes, *arguments)
        written = json.loads((config.out / f"{split}.json").read_text(encoding="utf-8"))
        assert len(loaded) == len(written) > 0
        for got, example in zip(loaded, written, strict=True):
            system, user, assistant = (message["content"] for message in example["messages"])
            assert got["_system"] == system
            assert got["_prompt"] == [{"role": "user", "content": user}]
            assert got["_response"] == [{"role": "assistant", "content": assistant}]
            (image,) = got["_images"]
            assert Path(image) == config.out / example["images"][0]
            with Image.open(image) as opened:
                opened.load()
