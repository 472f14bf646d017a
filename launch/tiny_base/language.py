"""Second step of pre-training: the language model on questions about what is in a photo, the tower frozen.

It learns to look, to name things and to answer with a word that it is offered. It is never told a grade.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator

from dataset_builders.scenes.compose import KINDS
from dataset_builders.task_card import TaskCard
from launch.tiny_base.parallel import PROCESSES, Saved, average_gradients, part_of, train_in_parallel
from launch.tiny_base.scenes import SIZES, load_scenes
from launch.tiny_base.vision import HELD_OUT, patchify

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

__all__ = ["NAMES", "PLAIN_SYSTEM", "encode_conversation", "pretrain_language", "tokenizer_texts"]

Talk = tuple[str, Sequence[tuple[str, str]]]  # system text; questions with their answers

NAMES = dict(zip(KINDS, (
    "电动车", "电瓶", "电线", "纸箱", "家具", "泡沫", "自行车", "滑板车", "鞋", "花盆", "水桶", "雨伞", "塑料箱",
    "灭火器", "线管", "海报", "人",
), strict=True))  # fmt: skip
YES, NO = "有", "无"
PLACE_NAMES = {"corridor": "楼道", "street": "街道", "room": "房间"}
WORDS = ("一", "二", "三", "四", "五", "甲", "乙", "丙", "丁", "好", "坏", "大", "小", "yes", "no", "A", "B", "C", "D")
PLAIN_SYSTEM = "You are a helpful assistant."
BATCH, STEPS, PEAK_RATE = 48, 4000, 2e-3
QUESTIONS = 6  # about one photo, in one conversation: its tokens are the dear part
LONG_PROMPTS = 0.25  # share of steps whose conversations begin with a task's long rules


def _prompts(cards: Sequence[TaskCard]) -> list[str]:
    """System prompts that stand before a question, so that the tasks' long rules are no surprise later."""
    return [PLAIN_SYSTEM, *(card.prompt(stage).system for card in cards for stage in card.stages)]


def _words(cards: Sequence[TaskCard]) -> list[str]:
    return [*WORDS, *(answer.text for card in cards for stage in card.stages for answer in card.answers(stage))]


def _visible(row: dict[str, object]) -> list[str]:
    visible = row["visible"]
    assert isinstance(visible, list)
    return visible


def _whether(kind: str, there: bool) -> tuple[str, str]:
    return f"图里有{NAMES[kind]}吗？只回答：{YES}、{NO}。", YES if there else NO


def _question(rng: Generator, row: dict[str, object], words: Sequence[str]) -> tuple[str, str]:
    """A question about a scene and its answer."""
    visible = _visible(row)
    draw = rng.random()
    if draw < 0.2:
        seen = [name for kind, name in NAMES.items() if kind in visible]
        return "图里有什么？", "、".join(seen) or "什么也没有"
    if draw < 0.72:
        # As often yes as no where that can be.
        pool = visible if visible and rng.random() < 0.5 else [kind for kind in KINDS if kind not in visible]
        kind = str(pool[int(rng.integers(len(pool)))])
        return _whether(kind, kind in visible)
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


def _features(model: Qwen2_5_VLForConditionalGeneration, photos_NHWC: np.ndarray, rank: int) -> torch.Tensor:
    """Merged visual tokens of all photos, float32 of shape (N, (H / 28) ** 2, 128); each process computes its part."""
    import torch
    from torch import distributed

    patches = photos_NHWC.shape[1] // 14  # a side
    features = torch.zeros(len(photos_NHWC), patches**2 // 4, 128)
    part = part_of(len(photos_NHWC), rank)
    with torch.inference_mode():
        for start in range(part.start, part.stop, 50):
            stop = min(start + 50, part.stop)
            photo = torch.from_numpy(photos_NHWC[start:stop]).float() / 255
            merged = model.model.visual(patchify(photo), torch.tensor([[1, patches, patches]] * len(photo)))
            merged = merged.pooler_output
            merged = torch.cat(list(merged)) if isinstance(merged, (tuple, list)) else merged
            features[start:stop] = merged.view(len(photo), patches**2 // 4, -1)
    distributed.all_reduce(features)
    return features


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, system: str, turns: Sequence[tuple[str, str]], tokens: int
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation as the ``qwen2_vl`` template writes it, and its labels (-100 outside the answers).

    Args:
        tokenizer: Has Qwen's special tokens.
        system: System prompt.
        turns: Questions with their answers; the photo stands before the first one.
        tokens: How many visual tokens the photo takes.
    """
    before = f"<|im_start|>system\n{system}<|im_end|>\n"
    photo = f"<|vision_start|>{'<|image_pad|>' * tokens}<|vision_end|>"
    ids: list[int] = []
    labels: list[int] = []
    for question, answer in turns:
        ask = f"{before}<|im_start|>user\n{photo}{question}<|im_end|>\n<|im_start|>assistant\n"
        asked = tokenizer.encode(ask, add_special_tokens=False)
        reply = tokenizer.encode(f"{answer}<|im_end|>", add_special_tokens=False)
        ids += asked + reply
        labels += [-100] * len(asked) + reply
        before, photo = "\n", ""
    return ids, labels


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
        cards: Task cards whose prompts stand before a quarter of the conversations; no grade of theirs is asked for.
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
    features = [_features(model, photos[side], rank) for side in SIZES]
    prompts, words = _prompts(cards), _words(cards)
    weights = list(model.model.language_model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=PEAK_RATE, weight_decay=0.02, betas=(0.9, 0.98))
    saved = Saved(directory / "language.pt", [model.model.language_model], optimizer)
    started, right = time.monotonic(), 0.0
    for step in range(saved.done, STEPS):
        rng = np.random.default_rng([seed, 1, rank, step])
        rate = PEAK_RATE * min(1, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * step / STEPS)) + 1e-5
        optimizer.param_groups[0]["lr"] = rate
        take = rng.integers(len(rows) - HELD_OUT, size=BATCH // PROCESSES)
        # One system prompt a step: lengths are alike, and little is padding.
        system = prompts[int(rng.integers(1, len(prompts)))] if rng.random() < LONG_PROMPTS else prompts[0]
        talks = [(system, [_question(rng, rows[int(i)], words) for _ in range(QUESTIONS)]) for i in take]
        loss, hits = _step(model, tokenizer, features[step % len(SIZES)][torch.from_numpy(take)], talks)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(weights)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        right = 0.98 * right + 0.02 * hits
        saved.step(rank)
        if step % 50 == 49 and rank == 0:
            took = time.monotonic() - started
            say(f"language {step + 1}/{STEPS} loss {loss.item():.3f} tokens right {right:.3f} {took:.0f} s")
    if rank == 0:
        for side, of_side in zip(SIZES, features, strict=True):
            say(f"{side} pixels: " + _report(model, tokenizer, of_side[-HELD_OUT:], rows[-HELD_OUT:]))


def _report(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    features: torch.Tensor,
    rows: Sequence[dict[str, object]],
) -> str:
    """Average precision of "is there a ...?" a kind, on held-out scenes."""
    import torch
    from sklearn.metrics import average_precision_score

    yes, no = (tokenizer.encode(word, add_special_tokens=False)[0] for word in (YES, NO))
    precision = []
    for kind in KINDS:
        there = [kind in _visible(row) for row in rows]
        talks = [(PLAIN_SYSTEM, [_whether(kind, answer)]) for answer in there]
        leads = []
        with torch.inference_mode():
            for start in range(0, len(talks), 50):
                part = slice(start, start + 50)
                logits = _logits(model, tokenizer, features[part], talks[part])[0]
                first = logits.view(len(talks[part]), -1, logits.shape[-1])[:, 0]  # before the end of turn
                leads.append(first[:, yes] - first[:, no])
        precision.append(f"{kind} {average_precision_score(there, torch.cat(leads).numpy()):.2f}")
    return "average precision of yes on unseen scenes: " + ", ".join(precision)


def _step(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    features_BTC: torch.Tensor,
    talks: Sequence[Talk],
) -> tuple[torch.Tensor, float]:
    """Loss and share of right answer tokens of one batch of conversations."""
    from torch.nn import functional

    logits, target = _logits(model, tokenizer, features_BTC, talks)
    return functional.cross_entropy(logits, target), (logits.argmax(-1) == target).float().mean().item()


def _logits(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    features_BTC: torch.Tensor,
    talks: Sequence[Talk],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (M, V) of the M answer tokens of all conversations, in their order, and those tokens (M,)."""
    import torch

    tokens = features_BTC.shape[1]
    pairs = [encode_conversation(tokenizer, *talk, tokens) for talk in talks]
    longest = max(len(ids) for ids, _ in pairs)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([i + [pad] * (longest - len(i)) for i, _ in pairs])
    labels = torch.tensor([y + [-100] * (longest - len(y)) for _, y in pairs])
    mask = torch.tensor([[1] * len(i) + [0] * (longest - len(i)) for i, _ in pairs])
    is_image = ids == model.config.image_token_id
    patches = 2 * math.isqrt(tokens)  # a side
    grid = torch.tensor([[1, patches, patches]] * len(pairs))
    positions, _ = model.model.get_rope_index(ids, is_image.int(), image_grid_thw=grid, attention_mask=mask)
    embeds = model.get_input_embeddings()(ids).masked_scatter(is_image[..., None], features_BTC)
    hidden = model.model.language_model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions)[0]
    asked = labels[:, 1:] != -100
    return model.lm_head(hidden[:, :-1][asked]), labels[:, 1:][asked]
