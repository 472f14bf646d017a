"""Groups: transitive, complete, independent of order."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from tiny_task import make_photo

from dataset_builders.near_duplicates import group_photos, perceptual_hash


def brute_force(hashes: list[bytes], sha256s: list[str], hamming: int) -> set[frozenset[int]]:
    """Components by repeated merging, straight from the definition."""
    groups = [{index} for index in range(len(hashes))]
    for a, b in combinations(range(len(hashes)), 2):
        bits = (int.from_bytes(hashes[a]) ^ int.from_bytes(hashes[b])).bit_count()
        if bits <= hamming or sha256s[a] == sha256s[b]:
            left, right = (next(g for g in groups if x in g) for x in (a, b))
            if left is not right:
                groups.remove(right)
                left |= right
    return {frozenset(group) for group in groups}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_groups_are_the_components_of_the_definition(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 24))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bits = np.repeat(rng.integers(0, 2, (3, 256)), -(-count // 3), axis=0)[:count]
    for row in bits:  # around three centres, so that near pairs are many
        row[rng.permutation(256)[: rng.integers(0, 40)]] ^= 1
    hashes = [np.packbits(row).tobytes() for row in bits.astype(bool)]
    sha256s = [str(rng.integers(0, 30)) for _ in range(count)]
    hamming = data.draw(st.integers(0, 64))
    groups = group_photos(sha256s, hashes, hamming=hamming)
    found = {frozenset(np.flatnonzero(groups == group).tolist()) for group in set(groups.tolist())}
    assert found == brute_force(hashes, sha256s, hamming)
    first_seen = list(dict.fromkeys(groups.tolist()))
    assert first_seen == list(range(len(first_seen)))


def test_more_photos_than_a_block() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 256, (1500, 32), dtype=np.uint8)
    words[1400] = words[3]
    words[1400, :5] ^= 0b1001
    groups = group_photos([str(i) for i in range(1500)], [row.tobytes() for row in words], hamming=10)
    assert groups[1400] == groups[3]
    assert len(set(groups.tolist())) == 1499


def test_equal_bytes_join_without_hashes_and_nothing_is_fine() -> None:
    assert group_photos(["a", "b", "a"], None, hamming=0).tolist() == [0, 1, 0]
    assert group_photos([], [], hamming=8).tolist() == []


@pytest.mark.parametrize("change", ["jpeg", "half", "bright"])
def test_changed_copies_are_near_and_other_photos_far(change: str) -> None:
    def changed(image: Image.Image) -> Image.Image:
        if change == "half":
            return image.resize((120, 90))
        if change == "bright":
            return ImageEnhance.Brightness(image).enhance(0.8)
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=60)
        return Image.open(buffer).convert("RGB")

    images = [make_photo(seed, (240, 180)) for seed in range(12)]
    hashes = [perceptual_hash(image, hash_size=16) for image in [*images, *map(changed, images)]]
    groups = group_photos([str(i) for i in range(24)], hashes, hamming=48)
    assert groups.tolist() == [*range(12), *range(12)]
