"""Groups photos that show the same thing: equal bytes, or perceptual hashes (pHash) that differ in a few bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["group_photos", "perceptual_hash"]

_BLOCK = 256  # hashes compared at once against all others


def perceptual_hash(image: Image.Image, *, hash_size: int) -> bytes:
    """PHash of an RGB image: signs of its lowest DCT frequencies against their median.

    Args:
        image: The photo.
        hash_size: Side of the block of frequencies; a multiple of 8.

    Returns:
        ``hash_size²`` bits.
    """
    import imagehash

    return np.packbits(imagehash.phash(image, hash_size=hash_size).hash).tobytes()


def group_photos(sha256s: Sequence[str], hashes: Sequence[bytes] | None, *, hamming: int) -> NDArray[np.int32]:
    """Group photos transitively: each is linked to those with equal bytes or with a near hash.

    Args:
        sha256s: One an image, N.
        hashes: Perceptual hashes of equal length, N; None groups by equal bytes only.
        hamming: Largest number of differing bits that links two photos.

    Returns:
        Group numbers, shape (N,), int32, numbered from 0 by first appearance.
    """
    first: dict[str, int] = {}
    roots_N = np.array([first.setdefault(sha256, index) for index, sha256 in enumerate(sha256s)], dtype=np.int64)
    if hashes is not None and len(hashes):
        roots_N = _join_near(roots_N, np.stack([np.frombuffer(value, dtype=np.uint64) for value in hashes]), hamming)
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(int(root), len(numbers)) for root in roots_N], dtype=np.int32)


def _join_near(roots_N: NDArray[np.int64], words_NW: NDArray[np.uint64], hamming: int) -> NDArray[np.int64]:
    """Union of the given groups with the links between near hashes; every pair of distinct hashes is compared.

    Pigeonhole: when W words of 64 bits differ in at most ``hamming`` bits together, one of them differs in at most
    ``hamming // W``. That rules nearly all pairs out with one instruction a word.
    """
    unique_UW, inverse_N = np.unique(words_NW, axis=0, return_inverse=True)
    inverse_N = inverse_N.reshape(-1)
    count = len(unique_UW)
    # Nodes: U distinct hashes. Photos with equal hashes, and photos of one group, link their hashes.
    nodes_U = _union(count, inverse_N, inverse_N[roots_N], np.arange(count))
    for start in range(0, count, _BLOCK):
        block_BW = unique_UW[start : start + _BLOCK]
        rest_RW = unique_UW[start:]
        for word in range(words_NW.shape[1]):
            differing_BR = np.bitwise_count(block_BW[:, None, word] ^ rest_RW[None, :, word])
            near_B, near_R = np.divmod(np.flatnonzero(differing_BR <= hamming // words_NW.shape[1]), len(rest_RW))
            upper = near_B < near_R
            near_B, near_R = near_B[upper], near_R[upper]
            differing = np.bitwise_count(block_BW[near_B] ^ rest_RW[near_R]).sum(axis=1, dtype=np.int64)
            close = differing <= hamming
            nodes_U = _union(count, near_B[close] + start, near_R[close] + start, nodes_U)
    # Back to photos: the first photo of each component.
    components_N = nodes_U[inverse_N]
    _, first, back = np.unique(components_N, return_index=True, return_inverse=True)
    return first[back.reshape(-1)]


def _union(
    count: int, left: NDArray[np.int64], right: NDArray[np.int64], nodes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Components after adding the links left–right to those that ``nodes`` (a representative each) stands for."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(left) == 0:
        return nodes
    rows = np.concatenate([left, np.arange(count)])
    columns = np.concatenate([right, nodes])
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, representatives = np.unique(labels, return_index=True)
    return representatives[labels]
