"""Finds near-duplicates that a perceptual hash misses: second shots, crops, other light, small turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataset_builders.inspect.alignment import agreement, local_contrast
from dataset_builders.inspect.descriptors import SHRINK, describe, nearest, whiten

__all__ = ["CERTAIN", "NEAR", "NearPair", "find_near_duplicates"]

# Scores are the mean of the cosine of the descriptors and of the agreement of details, −1 to 1.
NEAR = 0.55  # a pair from here on is a near-duplicate, when it also stands out
CERTAIN = 0.7  # from here on people agree
ALIKE = 0.9  # from here on a pair need not stand out: a burst of twenty frames has no other neighbours
MARGIN = 0.27  # by how much the score must exceed the cosine to the tenth neighbour of either photo
_CANDIDATES = 5  # neighbours of a photo that are aligned with it
_NEIGHBOURS = 10
_LEAST_COSINE = 0.2
_CHUNK = 256  # pairs that a thread takes at once
_TYPICAL = 2_000  # photos that the mean local contrast is computed from


class NearPair(NamedTuple):
    """Two photos that show the same thing.

    Attributes:
        first: Index of a photo.
        second: Index of another, larger than ``first``.
        score: 1 for equal bytes or equal thumbnails, else at least ``NEAR``; rounded to 3 decimals.
    """

    first: int
    second: int
    score: float


def find_near_duplicates(
    greys_NHW: NDArray[np.uint8], sha256s: Sequence[str] | None = None, *, threads: int = 1
) -> list[NearPair]:
    """Find pairs of near-duplicates among N photos, in memory that grows with N alone.

    Each photo is compared with the five whose descriptors are most like its own. A pair's score is the mean of the
    cosine of the whitened descriptors and the correlation of details after alignment. It counts when it is at least
    ``NEAR`` and stands out from what is usual around either photo, since in some data sets everything looks alike
    (after the local scaling of Conneau et al., Word Translation Without Parallel Data, ICLR 2018).

    Args:
        greys_NHW: Thumbnails from ``grey_thumbnail``, uint8, shape (N, 64, 64).
        sha256s: Hashes of the files, N; files with equal bytes are linked in a chain.
        threads: Threads that align pairs; changes nothing but the time.

    Returns:
        Pairs ordered by index. Near-duplicates of more than two photos may lack some pairs: make groups of them.
    """
    vectors_ND = whiten(describe(greys_NHW))
    indices_NC, cosines_NC = nearest(vectors_ND, _NEIGHBOURS)
    usual_N = _usual(cosines_NC)
    pairs_P2, cosines_P = _candidates(indices_NC, cosines_NC)
    details_P = _agreements(greys_NHW, pairs_P2, _typical(greys_NHW), threads)
    scores_P = (cosines_P + details_P) / 2
    usual_P = usual_N[pairs_P2].max(axis=1) if len(pairs_P2) else np.zeros(0)
    near_P = (scores_P >= NEAR) & (scores_P - usual_P >= MARGIN) | (scores_P >= ALIKE)
    found = {
        (int(first), int(second)): round(float(score), 3)
        for (first, second), score in zip(pairs_P2[near_P], scores_P[near_P], strict=True)
    }
    found |= dict.fromkeys(_equal_files(sha256s or ()), 1.0)
    return [NearPair(*pair, score) for pair, score in sorted(found.items())]


def _typical(greys_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean local contrast of the photos."""
    count = len(greys_NHW)
    total = np.zeros(greys_NHW.shape[1:], dtype=np.float32)
    sample = np.linspace(0, count - 1, min(count, _TYPICAL)).astype(np.int64)
    for index in sample:
        total += local_contrast(greys_NHW[index])
    return total / np.float32(len(sample) + SHRINK)


def _usual(cosines_NC: NDArray[np.float32]) -> NDArray[np.float32]:
    """How similar a photo is to its tenth neighbour, or to the farthest when there are fewer."""
    return cosines_NC[:, -1] if cosines_NC.shape[1] else np.zeros(len(cosines_NC), np.float32)


def _candidates(
    indices_NC: NDArray[np.int64], cosines_NC: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs (P, 2), lower index first, each once, and their cosines (P,)."""
    count = min(_CANDIDATES, indices_NC.shape[1])
    first_M = np.repeat(np.arange(len(indices_NC)), count)
    second_M, cosines_M = indices_NC[:, :count].ravel(), cosines_NC[:, :count].ravel()
    kept = cosines_M >= _LEAST_COSINE
    pairs_M2 = np.sort(np.stack([first_M[kept], second_M[kept]], axis=1), axis=1)
    pairs_P2, at = np.unique(pairs_M2, axis=0, return_index=True)
    return pairs_P2.reshape(-1, 2), cosines_M[kept][at]


def _agreements(
    greys_NHW: NDArray[np.uint8], pairs_P2: NDArray[np.int64], typical_HW: NDArray[np.float32], threads: int
) -> NDArray[np.float32]:
    def of_chunk(start: int) -> list[float]:
        return [agreement(greys_NHW[i], greys_NHW[j], typical_HW) for i, j in pairs_P2[start : start + _CHUNK]]

    with ThreadPoolExecutor(threads) as pool:  # OpenCV releases the interpreter's lock
        chunks = list(pool.map(of_chunk, range(0, len(pairs_P2), _CHUNK)))
    return np.array([value for chunk in chunks for value in chunk], dtype=np.float32)


def _equal_files(sha256s: Sequence[str]) -> list[tuple[int, int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for index, sha256 in enumerate(sha256s):
        members[sha256].append(index)
    return [pair for same in members.values() for pair in pairwise(same)]
