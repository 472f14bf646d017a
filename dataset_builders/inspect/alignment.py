"""Lays one thumbnail over another and says how well their details agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["agreement", "local_contrast"]

_NEIGHBOURHOOD = 4.0  # standard deviation in pixels of the surroundings that contrast is relative to
_NOISE = 4.0  # grey levels; contrast below is noise of the camera or the JPEG
_ITERATIONS = 30
_PRECISION = 1e-3
_SMALLEST_OVERLAP = 0.4

Floats = NDArray[np.float32]


def local_contrast(grey_HW: NDArray[np.uint8]) -> Floats:
    """Grey levels against their surroundings' mean, in units of the surroundings' spread: light falls out."""
    import cv2

    grey = grey_HW.astype(np.float32)
    residual = grey - cv2.GaussianBlur(grey, (0, 0), _NEIGHBOURHOOD)
    spread = np.sqrt(cv2.GaussianBlur(residual**2, (0, 0), _NEIGHBOURHOOD))
    return (residual / (spread + _NOISE)).astype(np.float32)


def agreement(first_HW: NDArray[np.uint8], second_HW: NDArray[np.uint8], typical_HW: Floats | float = 0.0) -> float:
    """Correlation of the details of two thumbnails after an affine alignment.

    The alignment maximises the enhanced correlation coefficient: Evangelidis and Psarakis, Parametric Image Alignment
    Using ECC Maximization, PAMI 2008. Where it finds none, the thumbnails are compared as they lie.

    Args:
        first_HW: uint8.
        second_HW: uint8, of the same shape.
        typical_HW: Mean local contrast of the data set's photos; details that all photos share do not count.

    Returns:
        −1 to 1; −1 when less than 40 % of the thumbnails overlap.
    """
    import cv2

    affine = _align(first_HW, second_HW)
    side = (first_HW.shape[1], first_HW.shape[0])
    inverse = cv2.WARP_INVERSE_MAP
    covered_HW = cv2.warpAffine(np.ones(first_HW.shape, np.uint8), affine, side, flags=cv2.INTER_NEAREST | inverse) > 0
    if covered_HW.mean() < _SMALLEST_OVERLAP:
        return -1.0
    first = local_contrast(first_HW) - typical_HW
    second = cv2.warpAffine(local_contrast(second_HW) - typical_HW, affine, side, flags=cv2.INTER_LINEAR | inverse)
    return _correlation(first[covered_HW], np.asarray(second, np.float32)[covered_HW])


def _align(first_HW: NDArray[np.uint8], second_HW: NDArray[np.uint8]) -> Floats:
    """Where each pixel of the first lies in the second: affine, float32, shape (2, 3)."""
    import cv2

    first, second = (cv2.GaussianBlur(grey_HW.astype(np.float32), (0, 0), 1.0) for grey_HW in (first_HW, second_HW))
    identity = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ITERATIONS, _PRECISION)
    try:
        _, found = cv2.findTransformECC(first, second, identity.copy(), cv2.MOTION_AFFINE, stop)
    except cv2.error:  # flat, or nothing in common
        return identity
    return np.asarray(found, dtype=np.float32)


def _correlation(first_M: Floats, second_M: Floats) -> float:
    first, second = first_M - first_M.mean(), second_M - second_M.mean()
    length = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / length if length > 1e-6 else 0.0
