"""The detector: finds second shots, crops and other light; leaves different photos alone; needs no order."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from inspect_data import make_photo
from PIL import Image, ImageEnhance

from dataset_builders.inspect import find_near_duplicates, grey_thumbnail
from dataset_builders.inspect.descriptors import describe, nearest, whiten
from dataset_builders.scenes.compose import render_scene


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_photos_have_no_pairs(count: int) -> None:
    greys = np.zeros((count, 64, 64), np.uint8)
    for index in range(count):
        greys[index] = grey_thumbnail(make_photo(index))
    assert find_near_duplicates(greys) == []


@pytest.mark.parametrize("count", [2, 3, 40])
def test_equal_photos_are_found_in_any_number_of_others(count: int) -> None:
    greys = np.stack([grey_thumbnail(make_photo(index)) for index in range(count)])
    greys[-1] = greys[0]
    assert [(pair.first, pair.second) for pair in find_near_duplicates(greys)] == [(0, count - 1)]


def test_equal_files_are_linked_even_when_they_show_nothing() -> None:
    greys = np.zeros((4, 64, 64), np.uint8)
    assert find_near_duplicates(greys, ["a", "b", "a", "a"]) == [(0, 2, 1.0), (2, 3, 1.0)]


def _changed(image: Image.Image, seed: int) -> Image.Image:
    """A turn by up to 3 degrees, a crop to 88 %, other light."""
    rng = np.random.default_rng(seed)
    side = image.width
    crop, x, y = round(0.88 * side), *rng.integers(0, round(0.12 * side), 2)
    turned = image.rotate(float(rng.uniform(-3, 3)), Image.Resampling.BILINEAR)
    return ImageEnhance.Brightness(turned.crop((x, y, x + crop, y + crop))).enhance(float(rng.uniform(0.75, 1.2)))


def test_crops_turns_and_other_light_are_found() -> None:
    photos = [make_photo(index, (128, 128)) for index in range(150)]
    photos += [_changed(photos[index], index) for index in range(30)]
    pairs = find_near_duplicates(np.stack([grey_thumbnail(photo) for photo in photos]), threads=2)
    found = {(pair.first, pair.second) for pair in pairs}
    wanted = {(index, 150 + index) for index in range(30)}
    assert len(found & wanted) >= 0.9 * len(wanted)
    assert len(found - wanted) <= 0.05 * len(wanted)


def test_order_and_threads_change_nothing() -> None:
    photos = [make_photo(index) for index in range(60)]
    photos += [_changed(photos[index], index) for index in range(10)]
    greys = np.stack([grey_thumbnail(photo) for photo in photos])
    order = np.random.default_rng(1).permutation(len(greys))
    names = {frozenset(pair[:2]) for pair in find_near_duplicates(greys)}
    shuffled = {frozenset(int(order[i]) for i in pair[:2]) for pair in find_near_duplicates(greys[order])}
    assert shuffled == names  # the alignment has a direction: scores may differ a little, pairs must not
    assert find_near_duplicates(greys, threads=3) == find_near_duplicates(greys)


def test_second_shots_of_rendered_scenes() -> None:
    """Small: the whole board's figures are in docs/inspect.md."""
    grades = ("clear", "combustible", "ignition", "few")
    shots = [(index, 0) for index in range(120)] + [(index, 1) for index in range(16)]
    scenes = [render_scene(grades[scene % 4], 99, scene, 0.15, take).rgb_HWC for scene, take in shots]
    pairs = find_near_duplicates(np.stack([grey_thumbnail(Image.fromarray(rgb)) for rgb in scenes]))
    found = {(pair.first, pair.second) for pair in pairs}
    wanted = {(index, 120 + index) for index in range(16)}
    assert len(found & wanted) >= 0.95 * len(wanted)
    assert len(found & wanted) >= 0.95 * len(found)


def test_nearest_is_the_full_search() -> None:
    vectors = np.random.default_rng(0).normal(size=(600, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    indices, cosines = nearest(vectors, 7)
    full = vectors @ vectors.T
    np.fill_diagonal(full, -np.inf)
    assert np.allclose(cosines, -np.sort(-full, axis=1)[:, :7], atol=1e-6)
    assert np.allclose(np.take_along_axis(full, indices, axis=1), cosines, atol=1e-6)


def test_descriptors_have_unit_length_and_do_not_see_light() -> None:
    greys = np.stack([grey_thumbnail(make_photo(index)) for index in range(6)])
    darker = np.rint(greys * 0.7 + 10).astype(np.uint8)
    for first, second in zip(describe(greys), describe(darker), strict=True):
        assert first @ second == pytest.approx(2, abs=0.01)  # two halves of unit length
    assert not describe(np.full((1, 64, 64), 7, np.uint8)).any()


def test_whitening_makes_components_equal() -> None:
    rng = np.random.default_rng(0)
    described = (rng.normal(size=(1200, 640)) * np.geomspace(1, 0.05, 640)).astype(np.float32)
    whitened = whiten(described)
    assert whitened.shape == (1200, 256)
    assert np.allclose(np.linalg.norm(whitened, axis=1), 1, atol=1e-5)
    spread = whitened.std(axis=0)
    assert spread.max() < 1.3 * spread.min()


def test_all_pairs_of_a_burst_are_connected() -> None:
    """A group larger than the number of neighbours that are asked."""
    photos = [make_photo(index, (128, 128)) for index in range(40)]
    burst = [photos[0].crop((i, 0, 100 + i, 100)) for i in range(18)]
    greys = np.stack([grey_thumbnail(photo) for photo in (*photos[1:], *burst)])
    pairs = {(pair.first, pair.second) for pair in find_near_duplicates(greys)}
    reached = {39}
    for _ in burst:
        reached |= {j for i, j in pairs if i in reached} | {i for i, j in pairs if j in reached}
    assert reached == set(range(39, 57))
    assert all(i >= 39 for i, j in combinations(sorted(reached), 2) if (i, j) in pairs)
