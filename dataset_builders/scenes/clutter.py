"""Things that people leave in corridors: combustible ones, harmless ones, and people themselves."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from dataset_builders.scenes.camera import Color, Frame
from dataset_builders.scenes.hazards import BLACK, pick, vary

__all__ = ["bucket", "cardboard", "foam", "furniture", "person", "plant", "plastic_box", "shoes", "umbrella"]

KRAFT: Color = (176, 132, 84)
WOODS: tuple[Color, ...] = ((134, 92, 56), (170, 124, 78), (96, 62, 40), (206, 176, 132), (224, 218, 206))
CLOTHS: tuple[Color, ...] = ((120, 60, 58), (80, 92, 116), (150, 136, 116), (92, 110, 84), (176, 160, 150))
BRIGHTS: tuple[Color, ...] = (
    (200, 60, 60),
    (60, 110, 180),
    (70, 150, 90),
    (230, 200, 70),
    (235, 235, 235),
    (60, 60, 66),
)


def cardboard(f: Frame, rng: Generator, hard: float) -> None:
    """One to four cardboard boxes, some flattened against the wall."""
    if rng.random() < 0.25:  # flattened sheets that lean on something
        f.shadow(0.4, 0.12)
        for k in range(int(rng.integers(1, 4))):
            half = rng.uniform(0.3, 0.45)
            top = rng.uniform(0.6, 1.0)
            w = -0.05 * k
            f.polygon([(-half, 0, w - 0.12), (half, 0, w - 0.12), (half, top, w + 0.06), (-half, top, w + 0.06)],
                      vary(rng, KRAFT))  # fmt: skip
        return
    base = 0.0
    for _ in range(int(rng.integers(1, 4))):
        half_u, half_w = rng.uniform(0.16, 0.32), rng.uniform(0.14, 0.25)
        high, shift = rng.uniform(0.18, 0.42), rng.normal(0, 0.04)
        color = vary(rng, KRAFT)
        if base == 0.0:
            f.shadow(half_u * 1.25, half_w * 1.3)
        f.box((shift - half_u, base, -half_w), (shift + half_u, base + high, half_w), color)
        tape = (color[0] * 0.86 + 24, color[1] * 0.86 + 26, color[2] * 0.86 + 20)
        f.polygon([(shift - 0.03, base, -half_w - 0.003), (shift + 0.03, base, -half_w - 0.003),
                   (shift + 0.03, base + high, -half_w - 0.003), (shift - 0.03, base + high, -half_w - 0.003)], tape)  # fmt: skip
        base += high


def plastic_box(f: Frame, rng: Generator, hard: float) -> None:
    """A closed plastic storage box: shaped as cardboard is, not combustible by the card's rule."""
    color = pick(rng, ((90, 140, 190), (226, 228, 230), (110, 170, 130), (200, 110, 130), (150, 150, 156)))
    half_u, half_w, high = rng.uniform(0.2, 0.3), rng.uniform(0.15, 0.22), rng.uniform(0.2, 0.32)
    f.shadow(half_u * 1.2, half_w * 1.3)
    f.box((-half_u, 0, -half_w), (half_u, high, half_w), color)
    f.box(
        (-half_u - 0.02, high, -half_w - 0.02), (half_u + 0.02, high + 0.04, half_w + 0.02), vary(rng, (236, 236, 238))
    )
    for u in (-half_u * 0.6, half_u * 0.6):
        f.side(
            [(u - 0.03, high - 0.08), (u + 0.03, high - 0.08), (u + 0.03, high), (u - 0.03, high)],
            BLACK,
            -half_w - 0.004,
        )


def furniture(f: Frame, rng: Generator, hard: float) -> None:
    """A wooden cabinet, chair or table, a sofa, or a mattress on edge."""
    (_cabinet, _chair, _table, _sofa, _mattress)[int(rng.integers(5))](f, rng)


def _cabinet(f: Frame, rng: Generator) -> None:
    wood, half, high = pick(rng, WOODS), rng.uniform(0.3, 0.5), rng.uniform(0.8, 1.5)
    f.shadow(half * 1.15, 0.28)
    f.box((-half, 0, -0.2), (half, high, 0.2), wood)
    dark = (wood[0] * 0.62, wood[1] * 0.62, wood[2] * 0.62)
    f.line([(0, 0.03, -0.204), (0, high, -0.204)], dark, 0.015)
    for v in np.linspace(0.05, high - 0.03, 3):
        f.line([(-half, v, -0.204), (half, v, -0.204)], dark, 0.012)
    for u in (-0.06, 0.06):
        f.disc((u, high * 0.55), 0.02, (210, 200, 180), -0.206)


def _chair(f: Frame, rng: Generator) -> None:
    wood = pick(rng, WOODS)
    f.shadow(0.26, 0.24)
    for w in (0.18, -0.18):
        for u in (-0.2, 0.2):
            f.line([(u, 0, w), (u, 0.45, w)], wood, 0.045)
    f.box((-0.22, 0.43, -0.2), (0.22, 0.48, 0.2), wood)
    f.box((-0.22, 0.48, 0.17), (0.22, 0.95, 0.2), wood)


def _table(f: Frame, rng: Generator) -> None:
    wood, half = pick(rng, WOODS), rng.uniform(0.4, 0.6)
    f.shadow(half, 0.3)
    for w in (0.25, -0.25):
        for u in (-half + 0.05, half - 0.05):
            f.line([(u, 0, w), (u, 0.7, w)], wood, 0.05)
    f.box((-half, 0.7, -0.3), (half, 0.75, 0.3), wood)


def _sofa(f: Frame, rng: Generator) -> None:
    cloth, half = pick(rng, CLOTHS), rng.uniform(0.5, 0.8)
    f.shadow(half * 1.1, 0.4)
    f.box((-half, 0.1, 0.15), (half, 0.8, 0.35), cloth)
    f.box((-half, 0.1, -0.35), (half, 0.42, 0.15), cloth)
    for u in (-half, half - 0.14):
        f.box((u, 0.1, -0.36), (u + 0.14, 0.58, 0.2), cloth)


def _mattress(f: Frame, rng: Generator) -> None:
    half, high = rng.uniform(0.5, 0.8), rng.uniform(0.9, 1.5)
    f.shadow(half, 0.15)
    f.box((-half, 0, -0.09), (half, high, 0.09), pick(rng, ((224, 214, 196), (200, 206, 214), (190, 160, 150))))
    for u in np.linspace(-half, half, 5)[1:-1]:
        f.line([(u, 0, -0.094), (u, high, -0.094)], (150, 142, 130), 0.012)


def foam(f: Frame, rng: Generator, hard: float) -> None:
    """White foam boxes and sheets."""
    base = 0.0
    for _ in range(int(rng.integers(1, 4))):
        half_u, half_w, high = rng.uniform(0.18, 0.35), rng.uniform(0.14, 0.24), rng.uniform(0.1, 0.28)
        if base == 0.0:
            f.shadow(half_u * 1.2, half_w * 1.2)
        f.box((-half_u, base, -half_w), (half_u, base + high, half_w), vary(rng, (236, 238, 238), 6))
        base += high


def shoes(f: Frame, rng: Generator, hard: float) -> None:
    """One to four pairs of shoes in a row."""
    pairs = int(rng.integers(1, 4))
    for k in range(pairs):
        color = pick(rng, (*BRIGHTS, (110, 70, 44), (40, 40, 46)))
        for w in (-0.06, 0.06):
            u = (k - pairs / 2) * 0.26 + w
            f.polygon([(u - 0.05, 0.005, -0.14), (u + 0.05, 0.005, -0.14), (u + 0.05, 0.005, 0.14), (u - 0.05, 0.005, 0.14)],
                      (50, 48, 46))  # fmt: skip
            f.box((u - 0.045, 0, -0.13), (u + 0.045, 0.06, 0.02), color)
            f.box((u - 0.045, 0, 0.02), (u + 0.045, 0.11, 0.13), color)


def plant(f: Frame, rng: Generator, hard: float) -> None:
    """A potted plant."""
    pot, high = pick(rng, ((160, 84, 56), (230, 230, 226), (70, 76, 84))), rng.uniform(0.4, 1.1)
    f.shadow(0.2, 0.16)
    f.side([(-0.12, 0), (-0.17, 0.28), (0.17, 0.28), (0.12, 0)], pot)
    for _ in range(int(rng.integers(9, 16))):
        a, r = rng.uniform(-1.25, 1.25), high * rng.uniform(0.5, 1.0)
        u, v, leaf = r * math.sin(a) * 0.6, 0.28 + r * math.cos(a) * 0.8, rng.uniform(0.03, 0.07)
        green = vary(rng, (52, 118, 54), 22)
        f.side(
            [(0, 0.26), (u - leaf, v - leaf), (u, v + leaf), (u + leaf, v - leaf * 0.5)], green, rng.uniform(-0.1, 0.1)
        )


def bucket(f: Frame, rng: Generator, hard: float) -> None:
    """A bucket with a mop or a broom that leans on the wall."""
    color = pick(rng, BRIGHTS)
    f.shadow(0.17, 0.14)
    f.side([(-0.11, 0), (-0.15, 0.28), (0.15, 0.28), (0.11, 0)], color)
    f.side([(-0.15, 0.28), (-0.1, 0.31), (0.1, 0.31), (0.15, 0.28)], (color[0] * 0.5, color[1] * 0.5, color[2] * 0.5))
    if rng.random() < 0.7:
        lean = rng.uniform(-0.25, 0.25)
        f.line([(0.03, 0.05, 0), (lean, rng.uniform(1.1, 1.4), 0.1)], pick(rng, (*BRIGHTS, (190, 160, 110))), 0.03)


def umbrella(f: Frame, rng: Generator, hard: float) -> None:
    """A closed umbrella that leans on the wall."""
    color = pick(rng, BRIGHTS)
    f.side([(-0.02, 0.02), (-0.06, 0.62), (0.06, 0.64), (0.02, 0.02)], color)
    f.line([(0, 0.6, 0), (0.02, 0.86, 0), (0.08, 0.86, 0), (0.09, 0.8, 0)], BLACK, 0.02)


def person(f: Frame, rng: Generator, hard: float) -> None:
    """A standing person; no thing that was left there."""
    scale = rng.uniform(0.92, 1.08)
    top, trousers = pick(rng, (*BRIGHTS, *CLOTHS)), pick(rng, ((44, 50, 70), (60, 58, 56), (120, 110, 96)))
    skin, hair = pick(rng, ((226, 184, 150), (200, 156, 120), (168, 120, 88))), pick(rng, ((30, 26, 24), (90, 88, 86)))
    f.shadow(0.25, 0.2)
    stride = rng.uniform(0.02, 0.16)
    for s in (-1, 1):
        foot = s * (0.08 + stride)
        f.side(
            [(foot - 0.07, 0), (s * 0.09 - 0.08, 0.85 * scale), (s * 0.09 + 0.08, 0.85 * scale), (foot + 0.07, 0)],
            trousers,
        )
        f.side([(foot - 0.07, 0), (foot - 0.07, 0.07), (foot + 0.11, 0.05), (foot + 0.11, 0)], BLACK)
        hand = s * rng.uniform(0.28, 0.4)
        f.line([(s * 0.2, 1.38 * scale, 0), (hand, 1.08 * scale, 0), (hand * 1.05, 0.86 * scale, 0)], top, 0.1)
        f.disc((hand * 1.05, 0.84 * scale), 0.05, skin)
    f.side([(-0.19, 0.82 * scale), (-0.22, 1.42 * scale), (0.22, 1.42 * scale), (0.19, 0.82 * scale)], top)
    f.disc((0, 1.58 * scale), 0.115, skin)
    f.side(
        [(-0.12, 1.58 * scale), (-0.1, 1.7 * scale), (0.1, 1.7 * scale), (0.12, 1.58 * scale), (0, 1.64 * scale)], hair
    )
