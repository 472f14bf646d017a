"""What may fill the strip beside a photo follows from what its border shows."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dataset_builders.augment.saliency import spectral_residual
from dataset_builders.augment.sides import SIDES, Side, choose_fill, measure_bands
from dataset_builders.scenes.compose import render_scene

DEPTHS: dict[Side, float] = dict.fromkeys(SIDES, 0.2)


def wall(noise: float = 2.0) -> NDArray[np.uint8]:
    """A bare wall, brighter at the top, with the grain of a camera."""
    rng = np.random.default_rng(0)
    shade = np.linspace(190, 150, 240)[:, None, None] + np.zeros((240, 320, 3))
    return np.clip(shade + rng.normal(0, noise, shade.shape), 0, 255).astype(np.uint8)


def draw_two_wheeler(photo: NDArray[np.uint8], x: int, y: int) -> None:
    for dx in (-16, 16):
        cv2.circle(photo, (x + dx, y), 12, (30, 30, 32), 3, cv2.LINE_AA)
    cv2.line(photo, (x - 16, y), (x + 8, y - 26), (200, 30, 30), 4, cv2.LINE_AA)
    cv2.line(photo, (x + 16, y), (x - 6, y - 22), (200, 30, 30), 4, cv2.LINE_AA)


def test_saliency_has_mean_one_finds_the_odd_thing_and_is_flat_without_contrast() -> None:
    photo = np.full((64, 64), 0.6, np.float32) + 0.02 * np.random.default_rng(0).random((64, 64), dtype=np.float32)
    photo[40:46, 10:16] = 0.1
    saliency = spectral_residual(photo)
    assert saliency.mean() == pytest.approx(1, abs=1e-3)
    y, x = np.unravel_index(saliency.argmax(), saliency.shape)
    assert 38 <= y <= 48
    assert 8 <= x <= 18
    assert (spectral_residual(np.full((64, 64), 0.3, np.float32)) == 1).all()


def test_walls_of_different_brightness_do_not_make_the_borders_salient() -> None:
    photo = np.repeat(np.linspace(0.2, 0.9, 64, dtype=np.float32)[None], 64, axis=0)
    photo += 0.01 * np.random.default_rng(0).random((64, 64), dtype=np.float32)
    saliency = spectral_residual(photo)
    assert saliency[:, :4].mean() < 3 * saliency[:, 30:34].mean() + 1


def test_bare_wall_is_mirrored() -> None:
    bands = measure_bands(wall(), DEPTHS)
    assert set(bands) == set(SIDES)
    for band in bands.values():
        assert band.calm
        assert choose_fill(band) == "reflect"


@pytest.mark.parametrize(
    ("side", "x", "y"), [("left", 34, 150), ("right", 286, 150), ("top", 160, 30), ("bottom", 160, 215)]
)
def test_side_that_shows_a_thing_is_never_mirrored(side: Side, x: int, y: int) -> None:
    photo = wall()
    draw_two_wheeler(photo, x, y)
    bands = measure_bands(photo, DEPTHS)
    assert not bands[side].calm
    assert choose_fill(bands[side]) == "replicate"
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[side]
    assert bands[opposite].calm  # type: ignore[index]


def test_mirror_must_continue_the_lines() -> None:
    """A skirting board that meets the border at a right angle goes on in the mirror; one at 45 degrees would bend."""
    straight, oblique = wall(0.5), wall(0.5)
    cv2.line(straight, (240, 120), (330, 120), (148, 144, 140), 3, cv2.LINE_AA)
    cv2.line(oblique, (240, 60), (330, 150), (148, 144, 140), 3, cv2.LINE_AA)
    right: dict[Side, float] = {"right": 0.2}
    goes_on, bends = (measure_bands(photo, right)["right"] for photo in (straight, oblique))
    assert goes_on.symmetry > 0.8 > 0.5 > bends.symmetry


def test_measures_do_not_depend_on_exposure_dtype_or_channels() -> None:
    photo = render_scene("few", 912, 1, 0.3).rgb_HWC
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    reference = measure_bands(photo, DEPTHS)
    variants: list[NDArray[Any]] = [
        photo.astype(np.float32) / 255,
        photo.astype(np.float32) / 510,
        grey,
        grey[..., None],
    ]
    for variant in variants:
        bands = measure_bands(variant, DEPTHS)
        for side in SIDES:
            assert bands[side].texture == pytest.approx(reference[side].texture, rel=0.1, abs=1e-3)
            assert bands[side].symmetry == pytest.approx(reference[side].symmetry, abs=0.1)


def test_evidence_is_seldom_in_a_band_that_may_be_mirrored() -> None:
    """On rendered scenes: of the bands that show a thing, at most a tenth passes as calm."""
    passed = total = 0
    for index in range(40):
        scene = render_scene(("ignition", "combustible")[index % 2], 913, index, 0.5)
        bands = measure_bands(scene.rgb_HWC, {"left": 0.2, "right": 0.2})
        for side, ids in (("left", scene.ids_HW[:, :67]), ("right", scene.ids_HW[:, -67:])):
            if np.count_nonzero(ids) >= 110:
                total += 1
                passed += choose_fill(bands[side]) == "reflect"  # type: ignore[index]
    assert total >= 10
    assert passed <= 0.1 * total
