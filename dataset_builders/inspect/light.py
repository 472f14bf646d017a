"""Light of a photo in a few numbers: brightness, contrast, colour cast, sharpness."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIGHT_FEATURES", "measure_light"]

LIGHT_FEATURES = ("brightness", "contrast", "saturation", "red_cast", "blue_cast", "sharpness", "dark", "bright")

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_DARK, _BRIGHT = 16, 239  # beyond these grey levels little can be seen


def measure_light(rgb_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Measure one photo, best at a common size since sharpness depends on it.

    Args:
        rgb_HWC: The photo, uint8.

    Returns:
        ``LIGHT_FEATURES``, float64: mean and standard deviation of the luma (0 to 255), mean of max − min of the
        channels (0 to 255), mean red and mean blue minus mean green, variance of the luma's Laplacian (Pech-Pacheco et
        al., Diatom autofocusing in brightfield microscopy, ICPR 2000), and the shares of dark and of bright pixels.
    """
    rgb = rgb_HWC.astype(np.float32)
    luma_HW = rgb @ _LUMA
    channels = [rgb[..., channel] for channel in range(3)]
    red, green, blue = (channel.mean(dtype=np.float64) for channel in channels)
    padded = np.pad(luma_HW, 1, mode="edge")
    laplacian_HW = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * luma_HW
    return np.array(
        [
            luma_HW.mean(),
            luma_HW.std(),
            (np.maximum.reduce(channels) - np.minimum.reduce(channels)).mean(),
            red - green,
            blue - green,
            laplacian_HW.var(),
            (luma_HW <= _DARK).mean(),
            (luma_HW >= _BRIGHT).mean(),
        ]
    )
