"""LLaMA-Factory converts and tokenises both sets: two images an example, each with all its tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dataset_builders.drone_vehicle import build_drone_vehicle, load_drone_vehicle_config, parse_counts
from dataset_builders.drone_vehicle.synthetic import LEAST_PAIRS, make_tree

ROOT = Path(__file__).parents[4]
TOKENS = (644 // 28) * (504 // 28)  # of a frame: sides are rounded to whole tokens within the card's budget


@pytest.mark.slow
def test_both_sets_are_tokenised_whole(tmp_path: Path, tiny_model: Path) -> None:
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from llamafactory.model import load_tokenizer
    from transformers import Seq2SeqTrainingArguments

    make_tree(tmp_path / "tree", pairs=LEAST_PAIRS)
    content = yaml.safe_load((ROOT / "recipes/drone_vehicle.yaml").read_text(encoding="utf-8"))
    content |= {"task": str(ROOT / content["task"]), "tree": str(tmp_path / "tree"), "out": str(tmp_path / "out")}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content | {"jpeg_quality": 90, "workers": 1}, sort_keys=False))
    config, card = load_drone_vehicle_config(tmp_path / "c.yaml")
    marker = build_drone_vehicle(config, card).marker
    model_args = ModelArguments(
        model_name_or_path=str(tiny_model),
        cache_dir=str(tmp_path / "cache"),
        image_min_pixels=card.pixel_budget.min_pixels,
        image_max_pixels=card.pixel_budget.max_pixels,
    )
    module = load_tokenizer(model_args)
    tokenizer, limits = module["tokenizer"], card.pixel_budget
    # The tiny model's own limit is lower than the card's.
    module["processor"].image_processor.size = {"shortest_edge": limits.min_pixels, "longest_edge": limits.max_pixels}
    for split in ("train", "val", "test"):
        for name in (f"drone_vehicle_{split}", f"drone_vehicle_counts_{split}"):
            data_args = DataArguments(
                template="qwen2_vl", dataset=name, dataset_dir=str(config.out), cutoff_len=2048, overwrite_cache=True
            )
            template = get_template_and_fix_tokenizer(tokenizer, data_args)
            training_args = Seq2SeqTrainingArguments(output_dir=str(tmp_path / "saves"), use_cpu=True)
            dataset = get_dataset(template, model_args, data_args, training_args, "sft", **module)["train_dataset"]
            assert len(dataset) == sum(marker["counts"][split].values())
            for example in dataset.select(range(0, len(dataset), 5)):
                assert len(example["images"]) == 2
                assert [Path(image).parts[-3] for image in example["images"]] == ["rgb", "infrared"]
                ids = example["input_ids"]
                assert ids.count(tokenizer.convert_tokens_to_ids("<|image_pad|>")) == 2 * TOKENS
                assert ids.count(tokenizer.convert_tokens_to_ids("<|vision_start|>")) == 2
                answer = tokenizer.decode([token for token in example["labels"] if token != -100])
                answer = answer.replace("<|im_end|>", "").strip()
                assert parse_counts(answer) if "counts" in name else answer in {label.text for label in card.labels}
