"""Puts a drawn sign into a photo as if it hung there: its light, its blur, its noise."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["blend_sign", "estimate_blur", "estimate_noise", "to_grey"]

LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
BRIGHT = 0.9  # brightness of a white surface in a well exposed photo
SHADING = (0.6, 1.25)  # bounds of a sign's light relative to the photo's


def to_grey(photo: NDArray[Any]) -> NDArray[np.float32]:
    """float32 of shape (H, W) within 0 to 1, of uint8 or float32 photos of shape (H, W), (H, W, 1) or (H, W, 3)."""
    if photo.ndim == 3:
        photo = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY) if photo.shape[2] == 3 else photo[..., 0]
    return photo.astype(np.float32) / np.float32(255 if photo.dtype == np.uint8 else 1)


def estimate_noise(grey_HW: NDArray[np.float32]) -> float:
    """Standard deviation of the pixel noise, in the photo's units.

    Immerkaer, "Fast Noise Variance Estimation", CVIU 1996, with the median in place of the mean, so that edges do not
    count. The mask has norm 6, and the median of |x| of a normal distribution is 0.6745 of its standard deviation.
    """
    return float(np.median(np.abs(cv2.filter2D(grey_HW, cv2.CV_32F, LAPLACE)))) / (6 * 0.6745)


def estimate_blur(grey_HW: NDArray[np.float32]) -> float:
    """Standard deviation of a photo's own blur in pixels, 0.4 to 3.

    A step edge blurred with s has a slope of 1 / s; blurred again with 1 pixel, of 1 / sqrt(s^2 + 1). Their ratio R
    gives s = 1 / sqrt(R^2 - 1) (Zhuo & Sim, "Defocus Map Estimation from a Single Image", Pattern Recognition 2011);
    R is taken on the steepest hundredth of the pixels. The difference of two pixels two apart, which measures a
    slope, is itself a blur of variance 1/3, which is taken off.
    """
    slopes = []
    for picture in (grey_HW, cv2.GaussianBlur(grey_HW, (0, 0), 1.0)):
        gx, gy = cv2.Sobel(picture, cv2.CV_32F, 1, 0), cv2.Sobel(picture, cv2.CV_32F, 0, 1)
        slope = cv2.magnitude(gx, gy).ravel()
        rank = slope.size - max(slope.size // 100, 1)
        slopes.append(float(np.partition(slope, rank)[rank]))
    ratio = slopes[0] / max(slopes[1], 1e-6)
    variance = 1 / max(ratio**2 - 1, 1e-2) - 1 / 3
    return math.sqrt(min(max(variance, 0.4**2), 3.0**2))


def blend_sign(
    photo: NDArray[Any],
    rgba_HWC: NDArray[np.uint8],
    corner: tuple[int, int],
    *,
    blur_px: float,
    noise: float,
    rng: Generator,
) -> None:
    """Paint a sign into a photo, in place.

    The photo's bright end (90th percentile against a well exposed white) says how a white surface is exposed; the
    surface under the sign, relative to the photo's mean, how the light falls there. The product is the sign's light.

    Args:
        photo: uint8, or float32 within 0 to 1, of shape (H, W), (H, W, 1) or (H, W, 3).
        rgba_HWC: The sign, as ``draw_sign`` makes it.
        corner: (x, y) of its upper left corner; it lies inside of the photo.
        blur_px: Standard deviation of the photo's blur; the sign gets it too, and so a soft edge.
        noise: Standard deviation of the photo's noise, of full scale 1; the sign gets it too.
        rng: Source of the noise.
    """
    x, y = corner
    height, width = rgba_HWC.shape[:2]
    patch = photo[y : y + height, x : x + width]
    full = np.float32(255 if photo.dtype == np.uint8 else 1)
    grey, under = to_grey(photo[::4, ::4]), to_grey(patch)
    exposure = min(float(np.percentile(grey, 90)) / BRIGHT, 1.0)
    shading = cv2.GaussianBlur(under, (0, 0), height / 4) / max(float(grey.mean()), 1e-3)
    light = exposure * np.clip(shading, *SHADING)

    alpha: Any = rgba_HWC[..., 3:].astype(np.float32) / 255
    painted = np.concatenate([rgba_HWC[..., :3].astype(np.float32) / 255 * alpha, alpha], axis=2)
    painted = cv2.GaussianBlur(painted, (0, 0), blur_px, borderType=cv2.BORDER_CONSTANT)
    alpha = painted[..., 3:]
    color: Any = painted[..., :3] * light[..., None]
    color += alpha * np.float32(noise) * rng.standard_normal((height, width, 1), dtype=np.float32)
    if photo.ndim == 2 or photo.shape[2] == 1:
        color = cv2.cvtColor(color, cv2.COLOR_RGB2GRAY)[..., None]
    if photo.ndim == 2:
        color, alpha = color[..., 0], alpha[..., 0]
    mixed = patch.astype(np.float32) / full * (1 - alpha) + color
    patch[:] = np.rint(np.clip(mixed, 0, 1) * full) if photo.dtype == np.uint8 else np.clip(mixed, 0, 1)
