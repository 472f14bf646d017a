"""The places: corridors and stairwells with their fixtures, and streets and rooms that are neither."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from dataset_builders.scenes.camera import Canvas, Color, Frame
from dataset_builders.scenes.hazards import pick, vary

__all__ = ["Hall", "paint_corridor", "paint_poster", "paint_room", "paint_street"]

WALLS: tuple[Color, ...] = ((214, 208, 196), (200, 204, 200), (226, 222, 214), (190, 186, 170), (206, 196, 176))
FLOORS: tuple[Color, ...] = ((140, 134, 126), (168, 160, 148), (116, 112, 108), (182, 168, 146), (128, 96, 78))
DADOES: tuple[Color, ...] = ((96, 132, 104), (98, 116, 140), (150, 146, 138), (140, 100, 76))
DOORS: tuple[Color, ...] = ((120, 78, 52), (92, 60, 44), (84, 92, 98), (140, 44, 40), (196, 192, 186))


@dataclass(frozen=True)
class Hall:
    """Inner size of a place in metres and the brightness along it.

    Attributes:
        half: Half its width.
        height: Of the ceiling.
        length: From the camera's foot to the far end.
        lamps: Distances of the lamps that burn.
        ambient: Brightness factor where no lamp reaches.
    """

    half: float
    height: float
    length: float
    lamps: tuple[float, ...]
    ambient: float

    def light(self, z: float) -> float:
        """Brightness factor at a distance z."""
        return self.ambient + sum(0.4 / (1 + ((z - lamp) / 1.8) ** 2) for lamp in self.lamps)


def _lit(color: Color, k: float) -> Color:
    return (color[0] * k, color[1] * k, color[2] * k)


def paint_corridor(canvas: Canvas, rng: Generator, hall: Hall) -> None:
    """Walls, floor, ceiling, doors, lamps, signs and stairs of a corridor or stairwell."""
    wall, floor, ceiling = vary(rng, pick(rng, WALLS), 4), pick(rng, FLOORS), vary(rng, (226, 226, 222), 5)
    dado = pick(rng, DADOES) if rng.random() < 0.6 else None
    dado_high, w, h = rng.uniform(0.9, 1.3), hall.half, hall.height
    far = hall.length
    cuts = np.concatenate([[-0.6], np.linspace(0.6, far, 12)])
    canvas.polygon([(-w, 0, far), (w, 0, far), (w, h, far), (-w, h, far)], _lit(wall, 0.9 * hall.light(far)))
    _far_end(canvas, rng, hall)
    for z0, z1 in zip(cuts[-2::-1], cuts[:0:-1], strict=True):
        k = hall.light((z0 + z1) / 2)
        canvas.polygon([(-w, 0, z0), (w, 0, z0), (w, 0, z1), (-w, 0, z1)], _lit(floor, k))
        canvas.polygon([(-w, h, z0), (w, h, z0), (w, h, z1), (-w, h, z1)], _lit(ceiling, 0.85 * k))
        for x, shade in ((-w, 0.94), (w, 0.88)):
            canvas.polygon([(x, 0, z0), (x, h, z0), (x, h, z1), (x, 0, z1)], _lit(wall, shade * k))
            if dado is not None:
                canvas.polygon([(x, 0, z0), (x, dado_high, z0), (x, dado_high, z1), (x, 0, z1)], _lit(dado, shade * k))
    _tiles(canvas, rng, hall, floor)
    for x in (-w, w):
        canvas.line([(x, 0.05, 0.4), (x, 0.05, far)], (70, 66, 62), 0.06)
    _doors(canvas, rng, hall)
    for z in hall.lamps:
        canvas.polygon([(-0.3, h - 0.01, z - 0.15), (0.3, h - 0.01, z - 0.15), (0.3, h - 0.01, z + 0.15),
                        (-0.3, h - 0.01, z + 0.15)], (255, 253, 240))  # fmt: skip
    if rng.random() < 0.5:  # exit sign, green as ISO 3864 has it
        z, y = rng.uniform(0.5, 1.0) * far, h - 0.35
        canvas.polygon([(-0.25, y, z), (0.25, y, z), (0.25, y + 0.18, z), (-0.25, y + 0.18, z)], (20, 140, 70))
        canvas.polygon(
            [(-0.1, y + 0.04, z - 0.01), (0.05, y + 0.04, z - 0.01), (0.0, y + 0.14, z - 0.01)], (235, 245, 235)
        )


def _tiles(canvas: Canvas, rng: Generator, hall: Hall, floor: Color) -> None:
    if rng.random() < 0.35:
        return
    step, joint = rng.choice([0.4, 0.6, 0.8]), _lit(floor, 0.8 * hall.light(hall.length / 2))
    for x in np.arange(-hall.half + step / 2, hall.half, step):
        canvas.line([(x, 0, 0.6), (x, 0, hall.length)], joint, 0.008)
    for z in np.arange(0.9, hall.length, step):
        canvas.line([(-hall.half, 0, z), (hall.half, 0, z)], joint, 0.008)


def _doors(canvas: Canvas, rng: Generator, hall: Hall) -> None:
    color = pick(rng, DOORS)
    for side in (-1, 1):
        z = rng.uniform(0.8, 2.5)
        while z < hall.length - 1.2:
            x, k = side * (hall.half - 0.005), hall.light(z) * 0.9
            if rng.random() < 0.75:
                tone = _lit(color, k)
                canvas.polygon([(x, 0, z), (x, 2.08, z), (x, 2.08, z + 0.98), (x, 0, z + 0.98)], _lit(tone, 0.7))
                canvas.polygon([(x, 0, z + 0.06), (x, 2.0, z + 0.06), (x, 2.0, z + 0.92), (x, 0, z + 0.92)], tone)
                canvas.polygon(
                    [(x, 1.0, z + 0.12), (x, 1.1, z + 0.12), (x, 1.1, z + 0.2), (x, 1.0, z + 0.2)], (190, 180, 150)
                )
                if rng.random() < 0.4:  # paper strips beside and over the door
                    red = _lit((196, 36, 32), k)
                    canvas.polygon([(x, 2.1, z), (x, 2.25, z), (x, 2.25, z + 0.98), (x, 2.1, z + 0.98)], red)
                    for strip in (z - 0.14, z + 1.0):
                        canvas.polygon(
                            [(x, 0.8, strip), (x, 2.0, strip), (x, 2.0, strip + 0.12), (x, 0.8, strip + 0.12)], red
                        )
            z += rng.uniform(1.8, 3.4)


def _far_end(canvas: Canvas, rng: Generator, hall: Hall) -> None:
    kind, far, w = rng.random(), hall.length - 0.01, hall.half
    k = hall.light(far)
    if kind < 0.35:  # a window
        x, glow = rng.uniform(-0.3, 0.3), vary(rng, (216, 228, 240))
        canvas.polygon([(x - 0.5, 1.0, far), (x + 0.5, 1.0, far), (x + 0.5, 2.1, far), (x - 0.5, 2.1, far)], glow)
        canvas.line([(x, 1.0, far - 0.01), (x, 2.1, far - 0.01)], (120, 120, 118), 0.05)
    elif kind < 0.65:  # a door
        canvas.polygon([(-0.5, 0, far), (0.5, 0, far), (0.5, 2.1, far), (-0.5, 2.1, far)], _lit(pick(rng, DOORS), k))
    elif kind < 0.9:  # stairs up, with a rail
        steps, tone = 9, pick(rng, FLOORS)
        for i in range(steps - 1, -1, -1):
            y, z = i * 0.17, far - 1.6 + i * 0.17
            canvas.polygon([(-w, y, z), (0.1, y, z), (0.1, y + 0.17, z), (-w, y + 0.17, z)], _lit(tone, 0.75 * k))
            canvas.polygon([(-w, y + 0.17, z), (0.1, y + 0.17, z), (0.1, y + 0.17, z + 0.17), (-w, y + 0.17, z + 0.17)],
                           _lit(tone, 1.1 * k))  # fmt: skip
        canvas.line([(0.12, 0.9, far - 1.6), (0.12, 0.9 + 1.45, far)], _lit((110, 70, 50), k), 0.06)


def paint_poster(f: Frame, rng: Generator, hard: float) -> None:
    """A poster on the wall: notices, pictures, and at times a prohibition sign that shows a two-wheeler."""
    half, low, high = rng.uniform(0.2, 0.38), rng.uniform(1.0, 1.3), rng.uniform(1.6, 1.95)
    f.side(
        [(-half, low), (half, low), (half, high), (-half, high)],
        pick(rng, ((240, 238, 230), (236, 220, 120), (90, 150, 200))),
        0.0,
    )
    middle = (low + high) / 2
    if rng.random() < 0.3 + 0.4 * hard:
        radius = min(half, (high - low) / 2) * 0.8
        for u in (-0.45, 0.45):
            f.disc((u * radius, middle - 0.25 * radius), 0.28 * radius, (40, 40, 44), -0.004)
        f.side([(-0.5 * radius, middle - 0.2 * radius), (0.45 * radius, middle - 0.2 * radius),
                (0.4 * radius, middle + 0.5 * radius), (-0.2 * radius, middle + 0.2 * radius)], (50, 50, 56), -0.005)  # fmt: skip
        angle = np.linspace(0, 2 * math.pi, 19)
        ring = np.stack([radius * np.cos(angle), middle + radius * np.sin(angle), np.full_like(angle, -0.006)], 1)
        f.line(ring, (200, 30, 34), 0.18 * radius)
        f.line([(-0.7 * radius, middle + 0.7 * radius, -0.007), (0.7 * radius, middle - 0.7 * radius, -0.007)],
               (200, 30, 34), 0.16 * radius)  # fmt: skip
        return
    f.side(
        [(-half, high - 0.12), (half, high - 0.12), (half, high), (-half, high)],
        pick(rng, ((190, 40, 40), (40, 90, 160))),
        -0.004,
    )
    for v in np.arange(low + 0.08, high - 0.16, 0.08):
        f.line([(-half * 0.8, v, -0.005), (half * rng.uniform(0.2, 0.8), v, -0.005)], (90, 90, 92), 0.02)


def paint_room(canvas: Canvas, rng: Generator, hall: Hall) -> None:
    """A living room or office: wide, with a window, curtains and pictures."""
    wall, floor = pick(rng, WALLS), pick(rng, ((170, 128, 84), (150, 108, 70), (190, 180, 164), (130, 120, 112)))
    w, h, far = hall.half, hall.height, hall.length
    canvas.polygon([(-w, 0, far), (w, 0, far), (w, h, far), (-w, h, far)], _lit(wall, hall.light(far)))
    for z0, z1 in ((far * 0.66, far), (far * 0.33, far * 0.66), (-0.6, far * 0.33)):
        k = hall.light((z0 + z1) / 2)
        canvas.polygon([(-w, 0, z0), (w, 0, z0), (w, 0, z1), (-w, 0, z1)], _lit(floor, k))
        canvas.polygon([(-w, h, z0), (w, h, z0), (w, h, z1), (-w, h, z1)], _lit((232, 232, 228), 0.9 * k))
        for x, shade in ((-w, 0.94), (w, 0.88)):
            canvas.polygon([(x, 0, z0), (x, h, z0), (x, h, z1), (x, 0, z1)], _lit(wall, shade * k))
    for x in np.arange(-w, w, 0.2):
        canvas.line([(x, 0, 0.6), (x, 0, far)], _lit(floor, 0.85 * hall.ambient), 0.006)
    x, half = rng.uniform(-w * 0.5, w * 0.5), rng.uniform(0.6, 1.1)
    z = far - 0.01
    canvas.polygon(
        [(x - half, 0.9, z), (x + half, 0.9, z), (x + half, 2.2, z), (x - half, 2.2, z)], vary(rng, (206, 224, 240))
    )
    curtain = pick(rng, ((170, 90, 80), (120, 140, 160), (210, 196, 160), (110, 130, 100)))
    for s in (-1, 1):
        edge = x + s * half
        canvas.polygon(
            [(edge - 0.25, 0.2, z), (edge + 0.25, 0.2, z), (edge + 0.25, 2.35, z), (edge - 0.25, 2.35, z)], curtain
        )
    rug = pick(rng, ((150, 60, 60), (90, 110, 140), (190, 170, 130)))
    canvas.polygon([(-1, 0.003, 2), (1, 0.003, 2), (1, 0.003, far * 0.7), (-1, 0.003, far * 0.7)], rug)


def paint_street(canvas: Canvas, rng: Generator, hall: Hall) -> None:
    """A street: sky, buildings with windows, road or pavement, trees and cars."""
    k, far = hall.ambient, 60.0
    canvas.rgb_HWC[:] = np.clip(_lit(pick(rng, ((170, 196, 226), (196, 200, 204), (130, 170, 220))), k), 0, 255)
    ground = pick(rng, ((104, 104, 106), (150, 144, 134), (124, 120, 112)))
    canvas.polygon([(-60, 0, 0.3), (60, 0, 0.3), (60, 0, far), (-60, 0, far)], _lit(ground, k))
    for side in (-1, 1):
        x, z = side * rng.uniform(5, 9), 40.0
        while z > 3:
            deep, high, tone = rng.uniform(6, 12), rng.uniform(4, 16), _lit(pick(rng, (*WALLS, (150, 90, 70))), k)
            near = max(z - deep, 1.0)
            canvas.polygon([(x, 0, near), (x, high, near), (x, high, z), (x, 0, z)], tone)
            canvas.polygon(
                [(x, 0, near), (x, high, near), (x + side * 20, high, near), (x + side * 20, 0, near)], _lit(tone, 0.85)
            )
            for y in np.arange(1.2, high - 1, 2.8):
                for zz in np.arange(near + 0.8, z - 1, 2.6):
                    canvas.polygon(
                        [(x, y, zz), (x, y + 1.4, zz), (x, y + 1.4, zz + 1.2), (x, y, zz + 1.2)], _lit((70, 86, 104), k)
                    )
            z -= deep
    for _ in range(int(rng.integers(1, 4))):
        f = Frame(canvas, (rng.uniform(-6, 6), 0, rng.uniform(5, 20)), rng.uniform(-0.3, 0.3), light=k)
        _tree(f, rng) if rng.random() < 0.5 else _car(f, rng)
    canvas.line([(0, 0.002, 2), (0, 0.002, far)], _lit((226, 226, 220), k), 0.12)


def _tree(f: Frame, rng: Generator) -> None:
    f.side([(-0.12, 0), (-0.09, 2.4), (0.09, 2.4), (0.12, 0)], (96, 74, 54))
    for _ in range(7):
        f.disc((rng.uniform(-0.9, 0.9), rng.uniform(2.2, 4.0)), rng.uniform(0.5, 0.9), vary(rng, (64, 112, 58), 18))


def _car(f: Frame, rng: Generator) -> None:
    paint = pick(rng, ((190, 40, 40), (230, 230, 228), (50, 52, 58), (60, 90, 150), (160, 164, 168)))
    f.shadow(2.2, 0.9)
    f.box((-2.1, 0.3, -0.8), (2.1, 0.85, 0.8), paint)
    f.box((-1.2, 0.85, -0.7), (1.3, 1.4, 0.7), (60, 70, 80))
    for u in (-1.3, 1.3):
        f.disc((u, 0.32), 0.32, (34, 34, 36), -0.82)
