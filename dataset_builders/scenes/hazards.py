"""Things that can ignite, and the harmless things that look like them."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from dataset_builders.scenes.camera import Color, Frame

__all__ = ["battery", "bicycle", "charging_wire", "conduit", "ebike", "extinguisher", "kick_scooter", "pick", "vary"]

BLACK: Color = (28, 28, 30)
RUBBER: Color = (38, 37, 38)
CHROME: Color = (168, 170, 174)
PAINTS: tuple[Color, ...] = (
    (186, 32, 36), (30, 66, 150), (232, 232, 228), (44, 46, 50), (30, 120, 84),
    (214, 120, 40), (196, 90, 130), (110, 112, 116), (84, 150, 176),
)  # fmt: skip


def pick(rng: Generator, colors: tuple[Color, ...]) -> Color:
    """One of the colours, a little varied."""
    return vary(rng, colors[int(rng.integers(len(colors)))])


def vary(rng: Generator, color: Color, by: float = 9.0) -> Color:
    """The colour with Gaussian variation of the given standard deviation, in 8-bit units."""
    r, g, b = (float(np.clip(c + rng.normal(0, by), 4, 250)) for c in color)
    return (r, g, b)


def ebike(f: Frame, rng: Generator, hard: float) -> None:
    """A parked electric scooter or electric bicycle, about 1.6 m long; sometimes under a cover."""
    if rng.random() < 0.15 + 0.3 * hard:
        _electric_bicycle(f, rng)
    else:
        _scooter(f, rng)
    if rng.random() < 0.12 + 0.25 * hard:  # a cloth over its upper part
        cloth = pick(rng, ((120, 122, 126), (150, 140, 120), (70, 84, 110), (160, 60, 60)))
        low = rng.uniform(0.35, 0.6)
        start, stop = (-0.8, rng.uniform(0.0, 0.5)) if rng.random() < 0.5 else (rng.uniform(-0.5, 0.0), 0.75)
        f.side([(start, low), (start + 0.1, 0.82), (0.0, 0.86), (stop - 0.1, 1.02), (stop, low + 0.05)], cloth, -0.2)
        f.line(
            [(start + 0.25, low + 0.05, -0.21), (start + 0.35, 0.8, -0.21)],
            (cloth[0] * 0.7, cloth[1] * 0.7, cloth[2] * 0.7),
            0.02,
        )


def _scooter(f: Frame, rng: Generator) -> None:
    paint = pick(rng, PAINTS)
    dark = (paint[0] * 0.55, paint[1] * 0.55, paint[2] * 0.55)
    radius = rng.uniform(0.2, 0.25)
    f.shadow(0.85, 0.25)
    for u in (-0.58, 0.6):
        f.disc((u, radius), radius, RUBBER)
        f.disc((u, radius), radius * 0.5, CHROME)
    f.box((-0.25, 0.2, -0.13), (0.35, 0.3, 0.13), dark)  # footboard
    f.side([(-0.8, 0.36), (-0.72, 0.62), (-0.2, 0.66), (-0.1, 0.3), (-0.4, 0.28)], paint, -0.14)
    f.box((-0.75, 0.62, -0.13), (-0.12, 0.72, 0.13), BLACK)  # seat
    f.side([(0.3, 0.28), (0.38, 0.95), (0.5, 0.98), (0.52, 0.6), (0.44, 0.28)], paint, -0.14)  # front shield
    f.side([(0.5, 0.46), (0.8, 0.5), (0.74, 0.36), (0.5, 0.36)], dark, -0.06)  # mudguard
    f.line([(0.42, 0.95, 0), (0.38, 1.04, 0)], BLACK, 0.06)
    f.line([(0.36, 1.05, -0.3), (0.4, 1.03, 0), (0.36, 1.05, 0.3)], BLACK, 0.045)
    f.disc((0.53, 0.86), 0.07, (240, 238, 210), -0.02)
    for w in (-0.28, 0.28):
        if rng.random() < 0.8:
            f.line([(0.36, 1.05, w), (0.3, 1.2, w)], BLACK, 0.02)
            f.disc((0.29, 1.22), 0.045, (90, 96, 104), w)
    if rng.random() < 0.45:
        f.box((-1.0, 0.66, -0.16), (-0.72, 0.94, 0.16), pick(rng, ((40, 42, 46), (180, 40, 40), (230, 200, 60))))
    f.disc((-0.82, 0.5), 0.05, (200, 30, 30), -0.15)


def _electric_bicycle(f: Frame, rng: Generator) -> None:
    paint = pick(rng, PAINTS)
    _bicycle_parts(f, paint, radius=rng.uniform(0.24, 0.29), tyre=0.05)
    f.box((-0.3, 0.34, -0.07), (-0.14, 0.74, 0.07), BLACK)  # battery behind the saddle tube
    f.disc((-0.5, 0.27), 0.09, (90, 92, 96), -0.02)  # hub motor
    f.disc((0.5, 0.78), 0.055, (240, 238, 210), -0.03)


def bicycle(f: Frame, rng: Generator, hard: float) -> None:
    """A pedal bicycle: looks like an e-bike from far away, ignites nothing."""
    _bicycle_parts(f, pick(rng, PAINTS), radius=rng.uniform(0.3, 0.34), tyre=rng.uniform(0.025, 0.03 + 0.02 * hard))
    if rng.random() < 0.4 + 0.3 * hard:
        f.box((0.42, 0.72, -0.14), (0.7, 0.94, 0.14), pick(rng, ((90, 92, 96), (60, 60, 64), (170, 150, 120))))
    if rng.random() < 0.35 * hard:
        f.box((-0.75, 0.66, -0.12), (-0.4, 0.86, 0.12), pick(rng, PAINTS))


def _bicycle_parts(f: Frame, paint: Color, radius: float, tyre: float) -> None:
    f.shadow(0.85, 0.12)
    for u in (-0.5, 0.52):
        f.ring((u, radius), radius - 0.02, RUBBER, tyre)
        f.line([(u - radius, radius, 0), (u + radius, radius, 0)], CHROME, 0.006)
        f.line([(u, 0.02, 0), (u, 2 * radius, 0)], CHROME, 0.006)
    tube = 0.035
    f.line([(-0.5, radius, 0), (-0.05, radius, 0), (0.36, 0.72, 0), (-0.2, 0.7, 0), (-0.05, radius, 0)], paint, tube)
    f.line([(-0.5, radius, 0), (-0.2, 0.7, 0), (-0.23, 0.84, 0)], paint, tube)
    f.line([(0.52, radius, 0), (0.36, 0.72, 0), (0.33, 0.96, 0)], paint, tube)
    f.line([(0.38, 0.98, -0.26), (0.33, 0.96, 0), (0.38, 0.98, 0.26)], BLACK, 0.03)
    f.box((-0.36, 0.83, -0.06), (-0.12, 0.88, 0.06), BLACK)
    f.disc((-0.05, radius), 0.07, CHROME, -0.02)


def kick_scooter(f: Frame, rng: Generator, hard: float) -> None:
    """A child's kick scooter, a few things' worth of clutter."""
    paint = pick(rng, PAINTS)
    f.shadow(0.4, 0.1)
    for u in (-0.32, 0.34):
        f.disc((u, 0.07), 0.07, RUBBER)
    f.box((-0.32, 0.08, -0.06), (0.28, 0.12, 0.06), paint)
    f.line([(0.32, 0.1, 0), (0.26, 0.78, 0)], CHROME, 0.035)
    f.line([(0.26, 0.78, -0.18), (0.26, 0.78, 0.18)], BLACK, 0.04)


def battery(f: Frame, rng: Generator, hard: float) -> None:
    """A removed e-bike battery on the floor, with terminals and a handle."""
    case = pick(rng, ((36, 40, 46), (52, 54, 60), (40, 70, 130), (150, 36, 34), (92, 96, 100)))
    half_u, half_w, top = rng.uniform(0.15, 0.2), rng.uniform(0.08, 0.12), rng.uniform(0.24, 0.34)
    f.shadow(half_u * 1.3, half_w * 1.4)
    f.box((-half_u, 0, -half_w), (half_u, top, half_w), case)
    f.side([(-half_u * 0.7, top * 0.3), (half_u * 0.7, top * 0.3), (half_u * 0.7, top * 0.7), (-half_u * 0.7, top * 0.7)],
           pick(rng, ((232, 224, 90), (230, 230, 226), (236, 150, 40))), -half_w - 0.002)  # fmt: skip
    f.line([(-half_u * 0.6, top, 0), (-half_u * 0.3, top + 0.07, 0), (half_u * 0.3, top + 0.07, 0),
            (half_u * 0.6, top, 0)], BLACK, 0.025)  # fmt: skip
    f.disc((half_u * 0.55, top + 0.02), 0.03, (210, 36, 36), -half_w * 0.5)
    if rng.random() < 0.75:  # its lead runs over the floor to a socket
        _slack_line(
            f, rng, (half_u, top, 0), (rng.uniform(0.5, 1.0), rng.uniform(0.3, 0.9), 0.3), rng.uniform(0.3, 0.5)
        )


def charging_wire(f: Frame, rng: Generator, hard: float) -> None:
    """An improvised lead that hangs slack from high on the wall to a multi-way socket on the floor."""
    start = (rng.uniform(-0.2, 0.2), rng.uniform(1.3, 2.1), 0.1)
    stop = (rng.uniform(0.4, 0.9) * (1 if rng.random() < 0.5 else -1), 0.06, rng.uniform(-0.5, -0.2))
    _slack_line(f, rng, start, stop, rng.uniform(0.3, 0.7))
    strip = pick(rng, ((236, 236, 232), (60, 60, 64), (232, 226, 210)))
    u, _, w = stop
    f.box((u - 0.2, 0, w - 0.05), (u + 0.2, 0.06, w + 0.05), strip)
    for k in range(3):
        f.disc((u - 0.12 + 0.12 * k, 0.03), 0.022, BLACK, w - 0.052)
    if rng.random() < 0.6:  # a charger with its lamp
        f.box((u + 0.25, 0, w - 0.06), (u + 0.42, 0.08, w + 0.06), BLACK)
        f.disc((u + 0.33, 0.06), 0.018, (240, 40, 40) if rng.random() < 0.5 else (60, 230, 80), w - 0.065)


def _slack_line(
    f: Frame, rng: Generator, start: tuple[float, float, float], stop: tuple[float, float, float], sag: float
) -> None:
    """A hanging cable: straight line minus a parabola, kept above the floor, with a little waviness."""
    t = np.linspace(0, 1, 14)
    points = np.outer(1 - t, start) + np.outer(t, stop)
    points[:, 1] -= 4 * sag * t * (1 - t) * (1 - 0.3 * t)
    points[:, 0] += 0.05 * np.sin(t * rng.uniform(4, 9) + rng.uniform(0, 6))
    points[:, 1] = np.maximum(points[:, 1], 0.015)
    color = pick(rng, ((30, 30, 32), (235, 235, 230), (226, 120, 30), (40, 60, 140)))
    f.line(points, color, rng.uniform(0.016, 0.026))


def conduit(f: Frame, rng: Generator, hard: float) -> None:
    """A neat fixed cable or pipe on the wall with a junction box: looks like a lead, is none."""
    color = pick(rng, ((225, 225, 220), (60, 60, 64), (150, 152, 156), (200, 120, 60)))
    high = rng.uniform(1.4, 2.2)
    bend = rng.uniform(0.3, 0.8) * (1 if rng.random() < 0.5 else -1)
    f.line([(0, 0.02, 0), (0, high, 0), (bend, high, 0)], color, rng.uniform(0.018, 0.03))
    f.box((-0.07, high * 0.55, -0.03), (0.07, high * 0.55 + 0.12, 0.0), pick(rng, ((230, 230, 226), (170, 170, 172))))


def extinguisher(f: Frame, rng: Generator, hard: float) -> None:
    """A fire extinguisher, alone or in its floor box: a fixture, as red as many a battery."""
    red = vary(rng, (190, 28, 30))
    if rng.random() < 0.35:
        f.shadow(0.28, 0.14)
        f.box((-0.24, 0, -0.1), (0.24, 0.5, 0.1), red)
        f.side([(-0.15, 0.28), (0.15, 0.28), (0.15, 0.4), (-0.15, 0.4)], (236, 232, 228), -0.102)
        return
    f.shadow(0.1, 0.08)
    f.side([(-0.07, 0), (-0.07, 0.4), (-0.03, 0.47), (0.03, 0.47), (0.07, 0.4), (0.07, 0)], red)
    f.side([(-0.05, 0.16), (0.05, 0.16), (0.05, 0.3), (-0.05, 0.3)], (226, 220, 210), -0.01)
    f.line([(0, 0.47, 0), (0, 0.55, 0), (0.09, 0.55, 0)], BLACK, 0.03)
    angle = np.linspace(0, math.pi, 6)
    f.line([(0.09 + 0.03 * math.sin(a), 0.34 + 0.1 * math.cos(a), 0) for a in angle], BLACK, 0.015)
