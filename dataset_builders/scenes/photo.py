"""What a phone does to a scene: exposure, colour cast, vignetting, blur, sensor noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["degrade"]


def degrade(rgb_HWC: NDArray[np.uint8], rng: Generator, hard: float, ambient: float) -> NDArray[np.uint8]:
    """Make a clean rendering look like a snapshot.

    Args:
        rgb_HWC: uint8 of shape (H, W, 3).
        rng: Source of randomness.
        hard: Difficulty, 0 to 1.
        ambient: Brightness factor of the place; dark places get more noise and longer exposures.

    Returns:
        uint8 of the same shape.
    """
    side = rgb_HWC.shape[0]
    photo = rgb_HWC.astype(np.float32)
    stains = cv2.resize(rng.normal(1, 0.06, (9, 9)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    axis = np.linspace(-1, 1, side, dtype=np.float32) ** 2
    vignette = 1 - rng.uniform(0, 0.22) * (axis[:, None] + axis[None, :])
    gain = rng.uniform(0.85, 1.15) * (1 + 0.5 * max(0.0, 0.5 - ambient))
    cast = rng.normal(1, 0.03 + 0.03 * hard, 3).astype(np.float32)
    photo *= (stains * vignette * np.float32(gain))[..., None] * cast
    sigma = rng.uniform(0.3, 0.9 + 0.9 * hard)
    photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), sigma), np.float32)
    if rng.random() < 0.08 + 0.22 * hard:
        photo = _shake(photo, rng, hard)
    noise = rng.uniform(1.5, 4 + 5 * hard) * (1.6 if ambient < 0.45 else 1.0)
    photo += rng.standard_normal(photo.shape, dtype=np.float32) * np.float32(noise)
    return np.clip(photo, 0, 255).astype(np.uint8)


def _shake(photo: NDArray[np.float32], rng: Generator, hard: float) -> NDArray[np.float32]:
    """Motion blur along a straight line."""
    length = int(rng.integers(3, 6 + round(4 * hard)))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    t = np.linspace(-(length - 1) / 2, (length - 1) / 2, 4 * length)
    rows, cols = (np.rint(t * f(angle) + (length - 1) / 2).astype(int) for f in (np.sin, np.cos))
    kernel[rows, cols] = 1
    return np.asarray(cv2.filter2D(photo, -1, kernel / kernel.sum()), np.float32)
