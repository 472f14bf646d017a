"""Resamples a photo inside of its frame and fills the strips beside it: mirrored border or stretched edge."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_builders.augment.sides import Fill, Side

__all__ = ["between_centres", "fit_into_frame", "mean_scale", "source_coordinates"]

EDGE_PX = 3  # outermost pixels whose mean a stretched edge repeats
GRAIN_PX = 64  # period of the noise on stretched edges
RINGS = 7  # a stretched edge shows ring log2(1 + distance) around the photo: 7 is reached 127 pixels away


def between_centres(matrix: Any) -> NDArray[np.float64]:
    """The same map for coordinates in which whole numbers are the centres of pixels."""
    m = np.array(matrix, np.float64)
    m[:, 2] += m[:, :2] @ [0.5, 0.5] - 0.5
    return m


def mean_scale(matrix: Any) -> float:
    """Geometric mean of the two scales."""
    return math.sqrt(abs(float(np.linalg.det(np.array(matrix)[:, :2]))))


def source_coordinates(matrix: Any, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row in the photo that each pixel of the frame shows, whole numbers being pixel centres."""
    back = cv2.invertAffineTransform(between_centres(matrix)).astype(np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    return back[0, 0] * x + (back[0, 1] * y + back[0, 2]), back[1, 0] * x + (back[1, 1] * y + back[1, 2])


def fit_into_frame(
    img: NDArray[Any], matrix: Any, fills: dict[Side, Fill], noise: float, rng: np.random.Generator
) -> NDArray[Any]:
    """Resample a photo in its frame; coordinates beyond a side fold back into it or lead into the rings around it.

    Args:
        img: uint8, or float32 within 0 to 1, of shape (H, W), (H, W, 1) or (H, W, 3).
        matrix: 2 x 3, from the photo's coordinates to the frame's, (0, 0) being a corner.
        fills: How to continue the photo over each side that the frame reaches beyond.
        noise: Standard deviation of the noise that stretched edges get, of full scale 1.
        rng: Source of the noise.

    Returns:
        The frame, of the photo's shape and dtype.
    """
    height, width = img.shape[:2]
    shrink = mean_scale(matrix)
    sigma = 0.5 * math.sqrt(1 / shrink**2 - 1) if shrink < 1 else 0.0  # what a smaller picture cannot show
    source = _ringed(cv2.GaussianBlur(img, (0, 0), sigma).reshape(img.shape) if sigma > 0.3 else img)
    columns, rows = source_coordinates(matrix, height, width)
    stretched = np.zeros((height, width), bool)
    for at, last, before, after in ((columns, width - 1, "left", "right"), (rows, height - 1, "top", "bottom")):
        for side, beyond, near, outwards in ((before, at < 0, 0, -1), (after, at > last, last, 1)):
            if side not in fills:
                continue
            distance = np.abs(at[beyond] - near)
            if fills[side] == "reflect":
                at[beyond] = near - outwards * np.minimum(distance, last)
            else:
                at[beyond] = near + outwards * np.minimum(np.log2(1 + distance), RINGS)
                stretched |= beyond
        at += RINGS
    out = cv2.remap(source, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(img.shape)
    if noise > 1e-4 and stretched.any():
        _add_grain(out, stretched, noise, rng)
    return out


def _ringed(img: NDArray[Any]) -> NDArray[Any]:
    """The photo with rings of one pixel around it: ring k is its edge, blurred along itself by 2^(k - 1) pixels."""
    r = RINGS
    out = cv2.copyMakeBorder(img, r, r, r, r, cv2.BORDER_REPLICATE)
    out = out.reshape(*out.shape[:2], -1)
    out[r:-r, :r], out[r:-r, -r:] = _rings(out[r:-r, r : r + EDGE_PX], out[r:-r, -r - EDGE_PX : -r])
    turned = out.swapaxes(0, 1)  # now top and bottom, corners included
    turned[:, :r], turned[:, -r:] = _rings(turned[:, r : r + EDGE_PX], turned[:, -r - EDGE_PX : -r])
    return out


def _rings(first: NDArray[Any], last: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The rings (N, RINGS, C) beside the outermost pixels (N, EDGE_PX, C) of two opposite sides, left to right."""
    lines = np.concatenate([edge.mean(axis=1, dtype=np.float32) for edge in (first, last)], axis=1)[None]
    rings = []
    for k in range(RINGS):
        window = (round(2.45 * 2**k) | 1, 1)  # two box filters of width w have a variance of (w^2 - 1) / 6
        rings.append(cv2.blur(cv2.blur(lines, window), window).reshape(lines.shape[1:]))
    out = np.stack(rings, axis=1)
    out = np.rint(out) if first.dtype == np.uint8 else out
    channels = first.shape[2]
    return out[:, ::-1, :channels], out[..., channels:]


def _add_grain(out: NDArray[Any], where_HW: NDArray[np.bool_], noise: float, rng: np.random.Generator) -> None:
    """Add the photo's noise to stretched pixels, in place."""
    height, width, channels = (*out.shape, 1)[:3]
    full, dtype = (255, np.int16) if out.dtype == np.uint8 else (1, np.float32)
    tile = rng.standard_normal((GRAIN_PX, GRAIN_PX, channels), dtype=np.float32) * np.float32(noise * full)
    tile = (np.rint(tile) if out.dtype == np.uint8 else tile).astype(dtype)
    grain = np.tile(tile, (-(-height // GRAIN_PX), -(-width // GRAIN_PX), 1))[:height, :width].reshape(out.shape)
    cv2.add(out, grain, dst=out, mask=where_HW.view(np.uint8), dtype=cv2.CV_8U if full == 255 else cv2.CV_32F)
    if out.dtype == np.float32:
        np.clip(out, 0, 1, out=out)
