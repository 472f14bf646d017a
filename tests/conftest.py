"""Fixtures that many tests share: a random tiny Qwen2.5-VL with the real classes, and photos."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Ray puts its workers at niceness 15: beside another test's training they would get next to no time.
os.environ.setdefault("RAY_worker_niceness", "0")

from dataset_builders.task_card import TaskCard, load_task_card

REPOSITORY = Path(__file__).parents[1]
CARD_PATH = REPOSITORY / "recipes" / "tasks" / "corridor.yaml"
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


@pytest.fixture(scope="session")
def card_path() -> Path:
    return CARD_PATH


@pytest.fixture(scope="session")
def card(card_path: Path) -> TaskCard:
    return load_task_card(card_path)


def _build_tokenizer(texts: list[str]):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def build_random_model(directory: Path, texts: list[str], seed: int = 0) -> Path:
    """Write a checkpoint directory: Qwen2.5-VL's real classes with random weights, about 1.4 M parameters."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = _build_tokenizer(texts)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": False,
        },
        vision_config={
            "hidden_size": 96,
            "depth": 6,
            "num_heads": 4,
            "intermediate_size": 192,
            "out_hidden_size": 128,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "fullatt_block_indexes": list(range(6)),
            "window_size": 112,
            "tokens_per_second": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config).float()
    with torch.no_grad():  # larger weights than at initialisation: the photo and the prefix must matter
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    model.save_pretrained(directory)
    pixels = {"min_pixels": 56 * 56, "max_pixels": 168 * 168}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**pixels),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(**pixels),
    )
    processor.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, card: TaskCard) -> Path:
    texts = [label.text + label.rule for label in card.labels]
    for stage in card.stages:
        prompt = card.prompt(stage)
        texts += [prompt.system, prompt.user]
    return build_random_model(tmp_path_factory.mktemp("model") / "tiny", texts)


@pytest.fixture(scope="session")
def photo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photos of different shapes and contents."""
    directory = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(40):
        height, width = int(rng.integers(60, 260)), int(rng.integers(60, 260))
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(directory / f"{i:03d}.png")
    return directory


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A training recipe for the random model; nothing is trained, so predictions take `adapter="none"`."""
    path = tmp_path_factory.mktemp("recipe") / "base.yaml"
    recipe = {
        "model_name_or_path": str(tiny_model),
        "template": "qwen2_vl",
        "stage": "sft",
        "finetuning_type": "lora",
        "image_max_pixels": 168 * 168,
        "image_min_pixels": 56 * 56,
        "output_dir": str(path.parent / "saves"),
    }
    path.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    return path


@pytest.fixture
def web_server():
    """Serves directories over HTTP: ``web_server(directory)`` is the URI. Paths with 403, 405 or 503 get that answer,
    those with ``get`` beside it only when the file is wanted, and not when its size is."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Handler(SimpleHTTPRequestHandler):
        def send_head(self):
            for status in (403, 405, 503):
                if str(status) in self.path and not ("get" in self.path and self.command == "HEAD"):
                    return self.send_error(status)
            return super().send_head()

        def log_message(self, *_):
            pass

    servers = []

    def serve(directory: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=directory)))
        Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
