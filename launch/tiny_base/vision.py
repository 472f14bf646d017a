"""First step of pre-training: the vision tower alone, told for every patch which kinds of things it shows.

Answers about whole photos teach a tower of this size very slowly; the renderer knows the truth of every patch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from dataset_builders.scenes.compose import KINDS, PLACES
from launch.tiny_base.parallel import Saved, average_gradients, part_of, train_in_parallel
from launch.tiny_base.scenes import PATCHES, SIZES, load_scenes

if TYPE_CHECKING:
    import torch

__all__ = ["HELD_OUT", "patchify", "pretrain_vision", "truth_of_tokens"]

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, as Qwen2-VL uses
# (sides in pixels by turns, scenes a step, steps): small photos first, since most of what is to learn shows there too;
# most steps at the specialists' size, where wires and batteries can be told, and some at stage 1's, so that it is kept.
PHASES = (((112,), 64, 2000), ((168,), 48, 2500), ((252, 168, 252), 48, 2400))
HELD_OUT = 1000  # the last scenes, for the report
PEAK_RATE = 2e-3


def patchify(rgb_BHWC: torch.Tensor) -> torch.Tensor:
    """Normalised photos to Qwen2-VL's flattened patches, two by two in merge order.

    Args:
        rgb_BHWC: float32 within 0 to 1, sides multiples of 28.

    Returns:
        float32 of shape (B * patches, 3 * 2 * 14 * 14); equal to what ``Qwen2VLImageProcessor`` makes.
    """
    import torch

    b, h, w, _ = rgb_BHWC.shape
    x = (rgb_BHWC - torch.tensor(MEAN)) / torch.tensor(STD)
    x = x.permute(0, 3, 1, 2).reshape(b, 3, h // 28, 2, 14, w // 28, 2, 14)
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)  # image, merged row, merged column, row in 2, column in 2, channel, y, x
    return x.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(-1, 3 * 2 * 14 * 14)


def truth_of_tokens(truth_BGG: NDArray[np.uint32], cells: int, merge_order: bool) -> NDArray[np.uint32]:
    """Bit sets of the renderer's grid pooled to a token grid of ``cells`` a side, flattened.

    Args:
        truth_BGG: uint32 of shape (B, 24, 24).
        cells: Patches or merged tokens a side; its cells need not line up with the 24.
        merge_order: Two by two, as the tower orders its patches; row by row otherwise.
    """
    edges = np.arange(cells + 1) * PATCHES / cells
    pooled = np.zeros((len(truth_BGG), cells, cells), np.uint32)
    # A cell of the finer grid belongs to a token that covers at least half of it.
    low, high = np.floor(edges[:-1] + 0.5).astype(int), np.ceil(edges[1:] - 0.5).astype(int)
    for dy in range(int((high - low).max())):
        for dx in range(int((high - low).max())):
            rows, cols = np.minimum(low + dy, high - 1), np.minimum(low + dx, high - 1)
            pooled |= truth_BGG[:, rows[:, None], cols[None, :]]
    if merge_order:
        half = cells // 2
        pooled = pooled.reshape(-1, half, 2, half, 2).transpose(0, 1, 3, 2, 4)
    return pooled.reshape(len(truth_BGG), -1)


def _batches(
    directory: Path, sides: tuple[int, ...], size: int, steps: int, seed: int, part: slice, first: int
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """One process's part of each batch from ``first`` on: (float32 photos, truth grids, place numbers).

    Photos are within 0 to 1, flipped and made darker or brighter at random.
    """
    import cv2

    photos, truth, rows = load_scenes(directory)
    places = np.array([PLACES.index(str(row["place"])) for row in rows])
    rng = np.random.default_rng([seed, *sides])
    order = np.concatenate([rng.permutation(len(rows) - HELD_OUT) for _ in range(steps * size // len(rows) + 2)])
    for step in range(steps):
        side = sides[step % len(sides)]
        take = order[step * size : (step + 1) * size]
        flip, light = rng.random(size)[part] < 0.5, rng.uniform(0.8, 1.2, size)[part]
        if step < first:
            continue
        take = take[part]
        rgb, grid = photos[max(side, min(photos))][take], truth[take]
        if side < min(photos):
            rgb = np.stack([cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA) for photo in rgb])
        rgb = np.where(flip[:, None, None, None], rgb[:, :, ::-1], rgb)
        grid = np.where(flip[:, None, None], grid[:, :, ::-1], grid)
        photo = rgb.astype(np.float32) * (light.astype(np.float32) / 255)[:, None, None, None]
        yield np.minimum(photo, 1), grid, places[take]


def _bits(sets: NDArray[np.uint32], places: NDArray[np.int64]) -> torch.Tensor:
    """Bit sets (B, N) and places (B,) to float32 targets (B, N, kinds + places)."""
    import torch

    kinds = (sets[..., None] >> np.arange(len(KINDS), dtype=np.uint32)) & 1
    place = np.broadcast_to(np.eye(len(PLACES))[places][:, None, :], (*sets.shape, len(PLACES)))
    return torch.from_numpy(np.concatenate([kinds, place], -1).astype(np.float32))


def pretrain_vision(visual: torch.nn.Module, directory: Path, seed: int, say: Callable[[str], None] = print) -> None:
    """Train the tower in place on the scenes of ``directory``; reports per-kind precision on unseen scenes.

    Args:
        visual: The vision tower of a tiny Qwen2.5-VL.
        directory: Written by ``render_scenes``.
        seed: Of the heads and of the order.
        say: Takes progress lines; must pickle.
    """
    train_in_parallel(visual, _train, directory, seed, say)


def _train(rank: int, visual: torch.nn.Module, directory: Path, seed: int, say: Callable[[str], None]) -> None:
    """One process of the training; the first one reports."""
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    heads = _heads()
    weights = [*visual.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=PEAK_RATE, weight_decay=0.02, betas=(0.9, 0.98))
    saved = Saved(directory / "vision.pt", [visual, heads], optimizer)
    total, begin, started = sum(steps for _, _, steps in PHASES), 0, time.monotonic()
    positive = _positive_weights(directory)
    for sides, size, steps in PHASES:
        first = max(0, saved.done - begin)
        begin += steps
        for rgb, grid, places in _batches(directory, sides, size, steps, seed, part_of(size, rank), first):
            done = saved.done
            cosine = 0.5 + 0.5 * np.cos(np.pi * done / total)
            optimizer.param_groups[0]["lr"] = PEAK_RATE * min(1.0, (done + 1) / 100) * cosine + 1e-5
            photo = torch.from_numpy(rgb)
            logits = _token_logits(visual, heads, photo)
            cells = photo.shape[1] // 14
            targets = [
                _bits(truth_of_tokens(grid, n, merge), places) for n, merge in ((cells, True), (cells // 2, False))
            ]
            losses = [
                functional.binary_cross_entropy_with_logits(out, target, pos_weight=positive)
                for out, target in zip(logits, targets, strict=True)
            ]
            loss = losses[0] + losses[1]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            average_gradients(weights)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            saved.step(rank)
            if saved.done % 50 == 0 and rank == 0:
                took = time.monotonic() - started
                say(f"vision {saved.done}/{total} side {photo.shape[1]} loss {loss.item():.4f} {took:.0f} s")
    if rank == 0:
        for side in SIZES:
            say(_report(visual, heads, directory, side))


def _heads() -> torch.nn.ModuleList:
    """Linear read-outs of patches and of merged tokens; thrown away after the training."""
    import torch

    outputs = len(KINDS) + len(PLACES)
    heads = torch.nn.ModuleList([torch.nn.Linear(96, outputs), torch.nn.Linear(128, outputs)])
    for head in heads:  # most patches show nothing
        torch.nn.init.constant_(head.get_parameter("bias")[: len(KINDS)], -3.0)
    return heads


def _positive_weights(directory: Path) -> torch.Tensor:
    """Weight of showing against not showing, float32 by kind and place: rare and small kinds weigh more."""
    import torch

    truth = load_scenes(directory)[1][:2000]
    share = [((truth >> np.uint32(k)) & 1).mean() for k in range(len(KINDS))]
    # The square root of the odds: halfway between ignoring how rare a kind is and making all kinds equal.
    kinds = [float(np.clip(np.sqrt((1 - p) / max(p, 1e-6)), 1, 30)) for p in share]
    return torch.tensor(kinds + [1.0] * len(PLACES))


def _token_logits(visual: torch.nn.Module, heads: torch.nn.ModuleList, photo: torch.Tensor) -> list[torch.Tensor]:
    """Logits for patches (B, N, K) and for merged tokens (B, N / 4, K)."""
    import torch

    b, side = photo.shape[0], photo.shape[1] // 14
    out = visual(patchify(photo), torch.tensor([[1, side, side]] * b))
    merged = out.pooler_output
    merged = torch.cat(list(merged)) if isinstance(merged, (tuple, list)) else merged
    return [heads[0](out.last_hidden_state).view(b, side * side, -1), heads[1](merged).view(b, side * side // 4, -1)]


def _report(visual: torch.nn.Module, heads: torch.nn.ModuleList, directory: Path, side: int) -> str:
    """Average precision a kind of "does any merged token show it?" on the held-out scenes at ``side`` pixels."""
    import torch
    from sklearn.metrics import average_precision_score

    photos, _, rows = load_scenes(directory)
    found = []
    with torch.inference_mode():
        for start in range(len(rows) - HELD_OUT, len(rows), 50):
            photo = torch.from_numpy(photos[side][start : start + 50]).float() / 255
            found.append(_token_logits(visual, heads, photo)[1][..., : len(KINDS)].amax(1).numpy())
    logits = np.concatenate(found)
    precision = []
    for k, kind in enumerate(KINDS):
        there = [kind in cast(list[str], row["visible"]) for row in rows[-HELD_OUT:]]
        precision.append(f"{kind} {average_precision_score(there, logits[:, k]):.2f}")
    return f"average precision on unseen scenes, {side} pixels: " + ", ".join(precision)
