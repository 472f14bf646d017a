"""What a photo shows, as a vector: coarse light and edge directions, whitened by the data set they come from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHRINK", "describe", "nearest", "whiten"]

_COARSE_SIDE = 16  # pixels of the coarse grey picture
_CELLS = 8  # cells across of the edge histogram
_BINS = 6  # edge directions in 180 degrees
_BLOCK = 256  # photos compared at once with all others: memory is _BLOCK x N, never N x N
_FITTED = 10_000  # photos that the components are computed from
_COMPONENTS = 256
_PER_COMPONENT = 4  # fewer photos a component would make every photo unlike every other
SHRINK = 16  # photos without content that means are taken with: those of a handful are no typical photo

Floats = NDArray[np.float32]


def describe(greys_NHW: NDArray[np.uint8]) -> Floats:
    """Describe thumbnails: their coarse grey picture, and histograms of edge directions in 8 x 8 cells.

    Edge histograms follow Dalal and Triggs, Histograms of Oriented Gradients, CVPR 2005, with square roots of the
    magnitudes and cells that overlap by blurring, so that a shift of the camera changes little.

    Args:
        greys_NHW: uint8, shape (N, 64, 64).

    Returns:
        float32, shape (N, 640); both halves have unit length, or are 0 for a flat picture.
    """
    return np.stack([_describe(grey_HW) for grey_HW in greys_NHW]) if len(greys_NHW) else np.zeros((0, 640), np.float32)


def _describe(grey_HW: NDArray[np.uint8]) -> Floats:
    import cv2

    side = grey_HW.shape[0]
    grey = grey_HW.astype(np.float32)
    coarse = cv2.resize(grey, (_COARSE_SIDE, _COARSE_SIDE), interpolation=cv2.INTER_AREA).ravel()
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    magnitude = np.sqrt(np.hypot(dx, dy))
    direction = np.mod(np.arctan2(dy, dx), np.pi) * (_BINS / np.pi)
    cells = []
    for at in range(_BINS):
        gap = np.abs(direction - at)
        weighted = np.maximum(0, 1 - np.minimum(gap, _BINS - gap)) * magnitude
        blurred = cv2.GaussianBlur(weighted.astype(np.float32), (0, 0), side / _CELLS / 2)
        cells.append(cv2.resize(blurred, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).ravel())
    return np.concatenate([_unit(coarse - coarse.mean()), _unit(np.concatenate(cells))])


def whiten(described_ND: Floats) -> Floats:
    """Weigh down what all photos of the data set have in common, so that what is special about two photos counts.

    Principal components of equal variance (whitening), as is usual in image retrieval: Jegou and Chum, Negative
    evidences and co-occurences in image retrieval, ECCV 2012. Under 1,024 photos the mean is removed only.

    Args:
        described_ND: float32, shape (N, D).

    Returns:
        float32, shape (N, up to 256), rows of unit length.
    """
    count = len(described_ND)
    sample_MD = described_ND[np.linspace(0, count - 1, min(count, _FITTED)).astype(np.int64)]
    centred_ND = described_ND - sample_MD.sum(axis=0) / (len(sample_MD) + SHRINK)
    if count >= _COMPONENTS * _PER_COMPONENT:
        spread = np.cov(sample_MD.astype(np.float64), rowvar=False)
        variances, axes_DD = np.linalg.eigh(spread)
        variances, axes_DD = variances[::-1][:_COMPONENTS], axes_DD[:, ::-1][:, :_COMPONENTS]
        scale = 1 / np.sqrt(np.maximum(variances, 1e-4 * variances[0]))
        centred_ND = centred_ND @ (axes_DD * scale).astype(np.float32)
    return np.stack([_unit(row) for row in centred_ND]) if count else centred_ND


def nearest(vectors_ND: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
    """The most similar other vectors of each.

    Args:
        vectors_ND: float32, rows of unit length.
        count: How many; fewer when there are not so many others.

    Returns:
        Indices, int64, shape (N, count), the most similar first; and their cosines, float32, of the same shape.
    """
    total = len(vectors_ND)
    count = min(count, max(total - 1, 0))
    indices_NC = np.zeros((total, count), dtype=np.int64)
    cosines_NC = np.zeros((total, count), dtype=np.float32)
    for start in range(0, total if count else 0, _BLOCK):
        cosines_BN = vectors_ND[start : start + _BLOCK] @ vectors_ND.T
        block = np.arange(len(cosines_BN))
        cosines_BN[block, block + start] = -np.inf
        top_BC = np.argpartition(-cosines_BN, count - 1, axis=1)[:, :count]
        top_BC = np.take_along_axis(
            top_BC, np.lexsort((top_BC, -np.take_along_axis(cosines_BN, top_BC, axis=1)), axis=1), axis=1
        )
        indices_NC[start : start + _BLOCK] = top_BC
        cosines_NC[start : start + _BLOCK] = np.take_along_axis(cosines_BN, top_BC, axis=1)
    return indices_NC, cosines_NC


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-6 else np.zeros_like(vector)
