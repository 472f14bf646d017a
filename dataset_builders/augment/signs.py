"""Draws safety signs: a warning triangle, an e-bike ban and an exit sign, after ISO 3864-1 and ISO 7010.

Shapes are our own, drawn from coordinates: no picture file, no font.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_builders.task_card import SignKind

__all__ = ["ASPECT", "LEAST_PX", "SIGN_KINDS", "VARIANTS", "draw_sign"]

SIGN_KINDS: tuple[SignKind, ...] = get_args(SignKind)
# Width over height of each sign's box.
ASPECT: dict[SignKind, float] = {"warning_triangle": 1.0, "e_bike_ban": 1.0, "exit": 2.0}
VARIANTS = 2  # exclamation mark or flash; facing left or right
LEAST_PX = 24  # below this height a person no longer tells what the sign says

Color = tuple[int, int, int]
Points = list[tuple[float, float]]
# Safety colours of ISO 3864-4, near RAL 1003, 3001 and 6032, brightened as a lit enamel sign looks; hues 45, 357, 156.
YELLOW: Color = (247, 186, 11)
RED: Color = (196, 26, 34)
GREEN: Color = (0, 133, 80)
WHITE: Color = (244, 244, 240)
BLACK: Color = (24, 24, 26)

MASTER_PX = 512  # height of the drawing that every size is reduced from
SHIFT = 4  # OpenCV takes coordinates in 1/16 pixel


class _Sheet:
    """A drawing on [0, aspect] x [0, 1], y down, with the parts that it covers."""

    def __init__(self, aspect: float) -> None:
        size = (MASTER_PX, round(MASTER_PX * aspect))
        self.rgb_HWC = np.zeros((*size, 3), np.uint8)
        self.alpha_HW = np.zeros(size, np.uint8)

    def polygon(self, points: Points, color: Color) -> None:
        at = np.rint(np.array(points) * MASTER_PX * 2**SHIFT).astype(np.int32)
        cv2.fillPoly(self.rgb_HWC, [at], color, cv2.LINE_AA, SHIFT)
        cv2.fillPoly(self.alpha_HW, [at], 255, cv2.LINE_AA, SHIFT)

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        angle = np.linspace(0, 2 * math.pi, 96, endpoint=False)
        self.polygon(list(zip(x + radius * np.cos(angle), y + radius * np.sin(angle), strict=True)), color)

    def ring(self, x: float, y: float, radius: float, width: float, color: Color) -> None:
        """A circle line; ``radius`` is its middle."""
        at = np.linspace(0, 2 * math.pi, 97)
        self.stroke(list(zip(x + radius * np.cos(at), y + radius * np.sin(at), strict=True)), width, color)

    def stroke(self, points: Points, width: float, color: Color) -> None:
        """A line with round joints and caps."""
        for (x0, y0), (x1, y1) in pairwise(points):
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            dx, dy = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
            self.polygon([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], color)
        for x, y in points:
            self.disc(x, y, width / 2, color)

    def mirror(self) -> None:
        """Left becomes right of what is drawn so far."""
        self.rgb_HWC, self.alpha_HW = (np.ascontiguousarray(a[:, ::-1]) for a in (self.rgb_HWC, self.alpha_HW))

    def rounded(self, points: Points, radius: float, color: Color) -> None:
        """A convex polygon whose corners are rounded outwards by ``radius``."""
        self.polygon(points, color)
        self.stroke([*points, points[0]], 2 * radius, color)


def _warning_triangle(sheet: _Sheet, variant: int) -> None:
    """Yellow triangle with a black band and an exclamation mark (ISO 7010 W001) or a flash (W012)."""
    middle = (0.5, 0.62)

    def corners(radius: float) -> Points:
        return [(middle[0] + radius * math.sin(a), middle[1] - radius * math.cos(a)) for a in (0, 2.0944, 4.18879)]

    sheet.rounded(corners(0.49), 0.07, YELLOW)
    sheet.rounded(corners(0.47), 0.05, BLACK)
    sheet.rounded(corners(0.355), 0.03, YELLOW)
    if variant == 0:
        sheet.polygon([(0.455, 0.385), (0.545, 0.385), (0.522, 0.66), (0.478, 0.66)], BLACK)
        sheet.disc(0.5, 0.385, 0.045, BLACK)
        sheet.disc(0.5, 0.66, 0.022, BLACK)
        sheet.disc(0.5, 0.748, 0.046, BLACK)
    else:
        sheet.polygon([(0.53, 0.34), (0.41, 0.585), (0.485, 0.585), (0.445, 0.73), (0.585, 0.525), (0.505, 0.525),
                       (0.575, 0.34)], BLACK)  # fmt: skip
        sheet.polygon([(0.425, 0.81), (0.40, 0.69), (0.505, 0.735)], BLACK)


def _e_bike_ban(sheet: _Sheet, variant: int) -> None:
    """White disc, a scooter with a flash on it, red ring; the red bar always falls from the left (ISO 7010 P signs)."""
    sheet.disc(0.5, 0.5, 0.5, WHITE)
    for x in (0.285, 0.715):
        sheet.ring(x, 0.645, 0.082, 0.045, BLACK)
    sheet.stroke([(0.285, 0.645), (0.36, 0.60), (0.60, 0.60), (0.655, 0.33)], 0.05, BLACK)
    sheet.stroke([(0.655, 0.36), (0.715, 0.645)], 0.04, BLACK)
    sheet.stroke([(0.575, 0.315), (0.665, 0.305)], 0.042, BLACK)  # handlebar
    sheet.polygon([(0.225, 0.53), (0.275, 0.47), (0.46, 0.46), (0.44, 0.61), (0.33, 0.61)], BLACK)  # body
    sheet.stroke([(0.255, 0.435), (0.435, 0.425)], 0.055, BLACK)  # seat
    sheet.polygon([(0.60, 0.43), (0.695, 0.44), (0.70, 0.58), (0.60, 0.60)], BLACK)  # shield
    sheet.polygon([(0.405, 0.475), (0.345, 0.545), (0.375, 0.545), (0.355, 0.6), (0.42, 0.525), (0.387, 0.525)],
                  WHITE)  # fmt: skip
    if variant == 1:
        sheet.mirror()
    sheet.stroke([(0.185, 0.185), (0.815, 0.815)], 0.08, RED)
    sheet.ring(0.5, 0.5, 0.445, 0.1, RED)


def _exit(sheet: _Sheet, variant: int) -> None:
    """Green board, white running figure at a door and an arrow (after ISO 7010 E001 and E002)."""
    sheet.rounded([(0.05, 0.05), (1.95, 0.05), (1.95, 0.95), (0.05, 0.95)], 0.05, WHITE)
    sheet.rounded([(0.08, 0.08), (1.92, 0.08), (1.92, 0.92), (0.08, 0.92)], 0.03, GREEN)
    sheet.polygon([(0.14, 0.12), (0.52, 0.12), (0.52, 0.88), (0.14, 0.88)], WHITE)  # door
    sheet.polygon([(0.2, 0.18), (0.46, 0.18), (0.46, 0.88), (0.2, 0.88)], GREEN)
    sheet.disc(0.66, 0.235, 0.085, WHITE)
    sheet.stroke([(0.66, 0.40), (0.72, 0.60)], 0.15, WHITE)  # trunk
    sheet.stroke([(0.62, 0.38), (0.47, 0.46), (0.39, 0.37)], 0.07, WHITE)  # arm ahead
    sheet.stroke([(0.70, 0.38), (0.86, 0.44), (0.93, 0.56)], 0.07, WHITE)  # arm behind
    sheet.stroke([(0.69, 0.60), (0.53, 0.64), (0.47, 0.82)], 0.085, WHITE)  # leg ahead
    sheet.stroke([(0.73, 0.60), (0.80, 0.75), (0.97, 0.80)], 0.085, WHITE)  # leg behind
    sheet.polygon([(1.14, 0.5), (1.46, 0.18), (1.46, 0.38), (1.82, 0.38), (1.82, 0.62), (1.46, 0.62), (1.46, 0.82)],
                  WHITE)  # fmt: skip
    if variant == 1:
        sheet.mirror()


@cache
def _master(kind: SignKind, variant: int) -> NDArray[np.float32]:
    """The sign at 512 pixels: float32 of shape (H, W, 4) within 0 to 1, colours multiplied by alpha."""
    sheet = _Sheet(ASPECT[kind])
    {"warning_triangle": _warning_triangle, "e_bike_ban": _e_bike_ban, "exit": _exit}[kind](sheet, variant)
    alpha = sheet.alpha_HW[..., None].astype(np.float32) / 255
    rgba = np.concatenate([sheet.rgb_HWC.astype(np.float32) / 255 * alpha, alpha], axis=2)
    rgba.flags.writeable = False
    return rgba


def draw_sign(kind: SignKind, height_px: int, *, variant: int = 0, angle_deg: float = 0.0) -> NDArray[np.uint8]:
    """Draw a safety sign.

    Args:
        kind: One of ``SIGN_KINDS``.
        height_px: Height of the picture, at least 24.
        variant: 0 or 1. The triangle shows an exclamation mark or a flash, the other two face left or right.
        angle_deg: Rotation, counter-clockwise; the sign shrinks so that it stays inside of the picture.

    Returns:
        uint8 RGBA of shape (height_px, round(ASPECT[kind] * height_px), 4), alpha not multiplied in.

    Raises:
        ValueError: Unknown kind or variant, or too small.
    """
    if kind not in SIGN_KINDS or not 0 <= variant < VARIANTS or height_px < LEAST_PX:
        raise ValueError(
            f"expected kind in {SIGN_KINDS}, variant below {VARIANTS} and height_px >= {LEAST_PX}, "
            f"got {kind!r}, {variant}, {height_px}"
        )
    width_px = round(ASPECT[kind] * height_px)
    # Two reductions: by area to twice the size, which is free of aliasing, then rotated and halved.
    master = cv2.resize(_master(kind, variant), (2 * width_px, 2 * height_px), interpolation=cv2.INTER_AREA)
    if angle_deg:
        cos, sin = abs(math.cos(math.radians(angle_deg))), abs(math.sin(math.radians(angle_deg)))
        fit = min(width_px / (width_px * cos + height_px * sin), height_px / (width_px * sin + height_px * cos))
        turn = cv2.getRotationMatrix2D((width_px - 0.5, height_px - 0.5), angle_deg, fit)
        master = cv2.warpAffine(master, turn, (2 * width_px, 2 * height_px), flags=cv2.INTER_LINEAR)
    rgba = cv2.resize(master, (width_px, height_px), interpolation=cv2.INTER_AREA)
    color = rgba[..., :3] / np.maximum(rgba[..., 3:], 1 / 255)
    return np.rint(255 * np.clip(np.concatenate([color, rgba[..., 3:]], axis=2), 0, 1)).astype(np.uint8)
