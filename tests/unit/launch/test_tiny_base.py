"""The tiny base: real Qwen2.5-VL classes, patches as the processor makes them, scenes that no board uses."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from dataset_builders.task_card import load_task_card
from launch.tiny_base.checkpoint import SPECIAL_TOKENS, build_model, build_tokenizer, save_checkpoint
from launch.tiny_base.language import NAMES, PLAIN_SYSTEM, encode_conversation, tokenizer_texts
from launch.tiny_base.scenes import STREAM
from launch.tiny_base.vision import patchify, truth_of_tokens

SHIPPED = Path("models/tiny-qwen2_5-vl")
CARDS = sorted(Path("recipes/tasks").glob("*.yaml"))


def test_patches_equal_the_image_processors() -> None:
    import torch
    from transformers import Qwen2VLImageProcessor

    rgb_HWC = np.random.default_rng(0).integers(0, 256, (84, 112, 3), dtype=np.uint8)
    processor = Qwen2VLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 448 * 448})
    expected = processor(images=[Image.fromarray(rgb_HWC)], return_tensors="pt")
    assert expected["image_grid_thw"].tolist() == [[1, 6, 8]]
    ours = patchify(torch.from_numpy(rgb_HWC[None]).float() / 255)
    torch.testing.assert_close(ours, expected["pixel_values"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("cells", [4, 6, 8, 9, 12, 18])
def test_truth_keeps_its_place_on_every_grid(cells: int) -> None:
    truth = np.zeros((1, 24, 24), np.uint32)
    truth[0, 20:24, 0:4] = 4
    tokens = truth_of_tokens(truth, cells, merge_order=False).reshape(cells, cells)
    assert tokens[-1, 0] == 4
    assert tokens[0].max() == 0
    assert tokens[:, -1].max() == 0


def test_merge_order_goes_two_by_two() -> None:
    truth = np.arange(24 * 24, dtype=np.uint32).reshape(1, 24, 24)
    assert truth_of_tokens(truth, 24, merge_order=True)[0, :5].tolist() == [0, 1, 24, 25, 2]


def test_same_seed_same_checkpoint_and_any_text_is_spelled(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    tokenizer = build_tokenizer(tokenizer_texts([load_task_card(path) for path in CARDS]), 800)
    first, again = (build_model(tokenizer, 3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    save_checkpoint(tmp_path, build_model(tokenizer, 3), tokenizer)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "Qwen2_5_VLForConditionalGeneration"
    reader = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("高风险", "Größe 7 µm，什么也没有！", "<|im_start|>user\n龘"):
        assert reader.decode(reader.encode(text, add_special_tokens=False)) == text
    assert [reader.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))


def test_shipped_checkpoint_is_small_and_whole() -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 10_000_000
    assert (SHIPPED / "README.md").is_file()
    model = AutoModelForImageTextToText.from_pretrained(SHIPPED)
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert str(model.dtype) == "torch.float32"
    assert type(AutoProcessor.from_pretrained(SHIPPED)).__name__ == "Qwen2_5_VLProcessor"


def test_conversations_are_written_as_the_chat_template_writes_them() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    turns = [("图里有什么？", "自行车、鞋"), ("图里有几样东西？", "2")]
    ids, labels = encode_conversation(tokenizer, PLAIN_SYSTEM, turns, tokens=36)
    photo, first = {"type": "image"}, {"type": "text", "text": turns[0][0]}
    messages = [
        {"role": "system", "content": PLAIN_SYSTEM},
        {"role": "user", "content": [photo, first]},
        {"role": "assistant", "content": turns[0][1]},
        {"role": "user", "content": turns[1][0]},
        {"role": "assistant", "content": turns[1][1]},
    ]
    expected = tokenizer.apply_chat_template(messages, tokenize=False).replace("<|image_pad|>", "<|image_pad|>" * 36)
    assert tokenizer.decode(ids) + "\n" == expected
    answers = tokenizer.decode([label for label in labels if label != -100])
    assert answers == "自行车、鞋<|im_end|>2<|im_end|>"


@pytest.mark.parametrize("kind", ["bicycle", "furniture", "ebike"])
def test_shipped_checkpoint_sees(kind: str) -> None:
    """Asked whether a thing is there, it says yes more readily where it is: scenes of a stream of their own."""
    from dataset_builders.scenes.compose import render_scene
    from dataset_builders.task_card import Answer, Prompt
    from launch.predict.model import ModelSpec, load_for_prediction
    from launch.predict.scorer import LabelScorer

    budget = {"template": "qwen2_vl", "image_max_pixels": 168 * 168, "image_min_pixels": 784}
    loaded = load_for_prediction(ModelSpec(str(SHIPPED), None, budget, "cpu", "auto", 1))
    prompt = Prompt(system=PLAIN_SYSTEM, user=f"图里有{NAMES[kind]}吗？只回答：有、无。")
    scorer = LabelScorer(loaded, prompt, (Answer(id="yes", text="有"), Answer(id="no", text="无")))
    scenes = [render_scene(("ignition", "combustible", "few")[i % 3], 908, i, 0.2) for i in range(90)]
    there = np.array([any(t.kind == kind and t.visible for t in scene.things) for scene in scenes])
    logp_BK = scorer.score([Image.fromarray(scene.rgb_HWC) for scene in scenes])
    assert np.exp(logp_BK).sum(1).mean() > 0.95  # it says nothing but yes or no
    lead = logp_BK[:, 0] - logp_BK[:, 1]
    assert 5 < there.sum() < 60
    # Area under the ROC curve: how often a scene that has one leads a scene that has none.
    assert (lead[there][:, None] > lead[~there][None, :]).mean() > 0.85


def test_no_board_uses_the_pre_training_stream() -> None:
    files = list(Path("recipes").rglob("scenes*.yaml"))
    assert files
    for path in files:
        boards = yaml.safe_load(path.read_text(encoding="utf-8"))["boards"]
        assert STREAM not in [board["stream"] for board in boards]


def test_a_stopped_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from launch.tiny_base import parallel

    monkeypatch.setattr(parallel, "SAVE_STEPS", 3)

    def train(path: Path, stop: int) -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 1)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
        saved = parallel.Saved(path, [layer], optimizer)
        while saved.done < stop:
            data = torch.from_numpy(np.random.default_rng(saved.done).normal(size=(8, 4))).float()
            optimizer.zero_grad()
            layer(data).pow(2).mean().backward()
            optimizer.step()
            saved.step(rank=0)
        return layer.weight.detach()

    train(tmp_path / "stopped.pt", 5)  # of these, two steps are lost
    assert torch.equal(train(tmp_path / "stopped.pt", 10), train(tmp_path / "whole.pt", 10))
