"""Second step of pre-training: the language model on questions about what is in a photo, the tower frozen.

It learns to look, to name things and to answer with a word that it is offered. It is never told a grade.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator

from dataset_builders.scenes.compose import KINDS
from dataset_builders.task_card import TaskCard
from launch.tiny_base.parallel import PROCESSES, average_gradients, part_of, train_in_parallel
from launch.tiny_base.scenes import load_scenes
from launch.tiny_base.vision import patchify

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

__all__ = ["NAMES", "pretrain_language", "tokenizer_texts"]

NAMES = dict(zip(KINDS, (
    "电动车", "电瓶", "电线", "纸箱", "家具", "泡沫", "自行车", "滑板车", "鞋", "花盆", "水桶", "雨伞", "塑料箱",
    "灭火器", "线管", "海报", "人",
), strict=True))  # fmt: skip
PLACE_NAMES = {"corridor": "楼道", "street": "街道", "room": "房间"}
WORDS = ("一", "二", "三", "四", "五", "甲", "乙", "丙", "丁", "好", "坏", "大", "小", "yes", "no", "A", "B", "C", "D")
PLAIN_SYSTEM = "You are a helpful assistant."
BATCH, STEPS, PEAK_RATE = 48, 1300, 2e-3
SCENES = 12_000  # of the pre-training scenes: fewer than the tower needs
SIDE = 168
TOKENS = (SIDE // 28) ** 2


def _prompts(cards: Sequence[TaskCard]) -> list[str]:
    """System prompts that stand before a question, so that the tasks' long rules are no surprise later."""
    return [PLAIN_SYSTEM, *(card.prompt(stage).system for card in cards for stage in card.stages)]


def _words(cards: Sequence[TaskCard]) -> list[str]:
    return [*WORDS, *(answer.text for card in cards for stage in card.stages for answer in card.answers(stage))]


def _question(rng: Generator, row: dict[str, object], words: Sequence[str]) -> tuple[str, str]:
    """A question about a scene and its answer."""
    visible = row["visible"]
    assert isinstance(visible, list)
    draw = rng.random()
    if draw < 0.3:
        seen = [name for kind, name in NAMES.items() if kind in visible]
        return "图里有什么？", "、".join(seen) or "什么也没有"
    if draw < 0.72:
        # As often yes as no where that can be.
        pool = visible if visible and rng.random() < 0.5 else [kind for kind in KINDS if kind not in visible]
        kind = str(pool[int(rng.integers(len(pool)))])
        return f"图里有{NAMES[kind]}吗？只回答：有、无。", "有" if kind in visible else "无"
    if draw < 0.8:
        return "这是什么地方？只回答：楼道、街道、房间。", PLACE_NAMES[str(row["place"])]
    if draw < 0.9:
        return "图里有几样东西？", str(len(visible))
    word = words[int(rng.integers(len(words)))]
    return f"只回答：{word}。", word


def tokenizer_texts(cards: Sequence[TaskCard]) -> list[str]:
    """What the tokenizer is trained on: the cards' prompts and answers, and the questions."""
    rng = np.random.default_rng(0)
    texts = [text for card in cards for stage in card.stages for text in (*card.prompt(stage).model_dump().values(),)]
    texts += _words(cards) * 20 + list(NAMES.values()) * 20 + [PLAIN_SYSTEM, "system\n", "user\n", "assistant\n"]
    for _ in range(400):
        kinds = [KINDS[int(i)] for i in rng.integers(len(KINDS), size=int(rng.integers(0, 5)))]
        texts += _question(rng, {"visible": kinds, "place": "corridor"}, _words(cards))
    return texts * 4


def _features(model: Qwen2_5_VLForConditionalGeneration, photos: np.ndarray, rank: int) -> torch.Tensor:
    """Merged visual tokens of all photos, float32 of shape (N, 36, 128); each process computes its part."""
    import torch
    from torch import distributed

    features = torch.zeros(len(photos), TOKENS, 128)
    part = part_of(len(photos), rank)
    with torch.inference_mode():
        for start in range(part.start, part.stop, 50):
            stop = min(start + 50, part.stop)
            photo = torch.from_numpy(photos[start:stop]).float() / 255
            merged = model.model.visual(patchify(photo), torch.tensor([[1, SIDE // 14, SIDE // 14]] * len(photo)))
            merged = merged.pooler_output
            merged = torch.cat(list(merged)) if isinstance(merged, (tuple, list)) else merged
            features[start:stop] = merged.view(len(photo), TOKENS, -1)
    distributed.all_reduce(features)
    return features


def _encode(tokenizer: PreTrainedTokenizerBase, system: str, question: str, answer: str) -> tuple[list[int], list[int]]:
    """Token ids of a conversation as the ``qwen2_vl`` template writes it, and its labels (-100 outside the answer)."""
    head = f"<|im_start|>system\n{system}<|im_end|>\n"
    pads = "<|image_pad|>" * TOKENS
    ask = f"<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
    prompt = tokenizer.encode(head, add_special_tokens=False) + tokenizer.encode(ask, add_special_tokens=False)
    reply = tokenizer.encode(f"{answer}<|im_end|>", add_special_tokens=False)
    return prompt + reply, [-100] * len(prompt) + reply


def pretrain_language(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    cards: Sequence[TaskCard],
    seed: int,
    say: Callable[[str], None] = print,
) -> None:
    """Train the language model in place; the tower and its features stay as they are.

    Args:
        model: Tiny Qwen2.5-VL whose tower has been trained.
        tokenizer: Its tokenizer.
        directory: Written by ``render_scenes``.
        cards: Task cards whose prompts stand before half of the questions; no grade of theirs is ever asked for.
        seed: Of questions and order.
        say: Takes progress lines.
    """
    train_in_parallel(model, _train, tokenizer, directory, cards, seed, say)


def _train(
    rank: int,
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    cards: Sequence[TaskCard],
    seed: int,
    say: Callable[[str], None],
) -> None:
    """One process of the training; the first one reports."""
    import torch

    photos, _, rows = load_scenes(directory)
    features = _features(model, photos[SIDE][:SCENES], rank)
    prompts, words = _prompts(cards), _words(cards)
    rng = np.random.default_rng([seed, 1, rank])
    weights = list(model.model.language_model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=PEAK_RATE, weight_decay=0.02, betas=(0.9, 0.98))
    started, right = time.monotonic(), 0.0
    for step in range(STEPS):
        rate = PEAK_RATE * min(1, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * step / STEPS)) + 1e-5
        optimizer.param_groups[0]["lr"] = rate
        take = rng.integers(SCENES, size=BATCH // PROCESSES)
        talks = []
        for i in take:
            system = prompts[int(rng.integers(1, len(prompts)))] if rng.random() < 0.5 else prompts[0]
            talks.append((system, *_question(rng, rows[int(i)], words)))
        loss, hits = _step(model, tokenizer, features[torch.from_numpy(take)], talks)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(weights)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        right = 0.98 * right + 0.02 * hits
        if step % 50 == 49 and rank == 0:
            took = time.monotonic() - started
            say(f"language {step + 1}/{STEPS} loss {loss.item():.3f} tokens right {right:.3f} {took:.0f} s")


def _step(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    features_BTC: torch.Tensor,
    talks: list[tuple[str, str, str]],
) -> tuple[torch.Tensor, float]:
    """Loss and share of right answer tokens of one batch of (system, question, answer)."""
    import torch
    from torch.nn import functional

    pairs = [_encode(tokenizer, *talk) for talk in talks]
    longest = max(len(ids) for ids, _ in pairs)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([i + [pad] * (longest - len(i)) for i, _ in pairs])
    labels = torch.tensor([y + [-100] * (longest - len(y)) for _, y in pairs])
    mask = torch.tensor([[1] * len(i) + [0] * (longest - len(i)) for i, _ in pairs])
    is_image = ids == model.config.image_token_id
    grid = torch.tensor([[1, SIDE // 14, SIDE // 14]] * len(pairs))
    positions, _ = model.model.get_rope_index(ids, is_image.int(), image_grid_thw=grid, attention_mask=mask)
    embeds = model.get_input_embeddings()(ids).masked_scatter(is_image[..., None], features_BTC)
    hidden = model.model.language_model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions)[0]
    asked = labels[:, 1:] != -100
    logits, target = model.lm_head(hidden[:, :-1][asked]), labels[:, 1:][asked]
    return functional.cross_entropy(logits, target), (logits.argmax(-1) == target).float().mean().item()
