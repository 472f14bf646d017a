"""Which parts of a photo draw the eye: the spectral residual."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["spectral_residual"]


def spectral_residual(grey_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Saliency by the spectral residual (Hou & Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007).

    The log amplitude spectrum of natural pictures is smooth; what sticks out of its local mean (3 x 3) belongs to what
    is unusual. Back in the picture with the old phase, squared and blurred, it is the saliency map. The picture is
    mirrored to twice its size first: the transform takes it as periodic, and a left wall that is brighter than the
    right one would else be an edge that makes every border salient.

    Args:
        grey_HW: float32 of shape (H, W), about 64 x 64: the scale of the saliency is that of the copy.

    Returns:
        float32 of shape (H, W), >= 0, with mean 1 (all ones for a picture without any contrast).
    """
    height, width = grey_HW.shape
    even = cv2.copyMakeBorder(grey_HW, 0, height, 0, width, cv2.BORDER_REFLECT)
    spectrum = np.fft.rfft2(even)
    amplitude = np.abs(spectrum)
    log_amplitude = np.log(amplitude + 1e-3).astype(np.float32)
    residual = log_amplitude - cv2.blur(log_amplitude, (3, 3), borderType=cv2.BORDER_REFLECT)
    back = np.fft.irfft2(np.exp(residual) * spectrum / (amplitude + 1e-3), s=even.shape)
    saliency = cv2.GaussianBlur(np.square(back).astype(np.float32), (0, 0), 2.5)[:height, :width]
    mean = float(saliency.mean())
    flat = float(np.ptp(grey_HW)) < 1e-3
    return np.ones_like(grey_HW) if flat or mean <= 0 else np.ascontiguousarray(saliency / np.float32(mean))
