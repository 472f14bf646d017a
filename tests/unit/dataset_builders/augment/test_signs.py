"""Safety signs: how they are drawn, where the task card allows them, and how they blend into a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from tiny_task import CARD

from dataset_builders.augment.blending import blend_sign, estimate_blur, estimate_noise
from dataset_builders.augment.signs import ASPECT, SIGN_KINDS, draw_sign
from dataset_builders.scenes.compose import render_scene
from dataset_builders.task_card import TaskCard, load_task_card

SAFETY_HUE = {"warning_triangle": (40, 65), "e_bike_ban": (345, 15), "exit": (130, 175)}
PLAIN = np.full((120, 160, 3), 170, np.uint8)


def colours(rgba: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Hue of the opaque, colourful pixels."""
    hsv = cv2.cvtColor(rgba[..., :3].astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    return hsv[..., 0][(rgba[..., 3] > 250) & (hsv[..., 1] > 0.5) & (hsv[..., 2] > 0.3)]


@pytest.mark.parametrize("kind", SIGN_KINDS)
@pytest.mark.parametrize("height", [24, 37, 64, 256])
def test_sign_has_its_safety_colour_and_soft_edges(kind: Any, height: int) -> None:
    rgba = draw_sign(kind, height, angle_deg=4)
    assert rgba.dtype == np.uint8
    assert rgba.shape == (height, round(ASPECT[kind] * height), 4)
    alpha = rgba[..., 3]
    assert (alpha[[0, 0, -1, -1], [0, -1, 0, -1]] == 0).mean() >= 0.5  # corners are free
    assert 0.35 < (alpha > 250).mean() < 0.97
    assert ((alpha > 5) & (alpha < 250)).sum() > height / 3  # antialiased
    hues = colours(rgba)
    start, stop = SAFETY_HUE[kind]
    assert len(hues) > 0.1 * rgba.shape[0] * rgba.shape[1]
    assert ((hues - start) % 360 < (stop - start) % 360).mean() > 0.95


@pytest.mark.parametrize("kind", SIGN_KINDS)
def test_small_sign_is_the_large_one_reduced(kind: Any) -> None:
    """Nothing of a sign is lost to aliasing: a drawing at 32 px is what area averaging makes of one at 256 px."""
    for variant in (0, 1):
        large, small = (draw_sign(kind, px, variant=variant).astype(np.float32) for px in (256, 32))
        weighted = np.dstack([large[..., :3] * large[..., 3:] / 255, large[..., 3]])
        reduced = cv2.resize(weighted, small.shape[1::-1], interpolation=cv2.INTER_AREA)
        drawn = np.dstack([small[..., :3] * small[..., 3:] / 255, small[..., 3]])
        assert np.abs(drawn - reduced).mean() < 3


def test_variants_differ_and_the_bar_of_a_ban_always_falls_from_the_left() -> None:
    for kind in SIGN_KINDS:
        assert not np.array_equal(*(draw_sign(kind, 64, variant=v) for v in (0, 1)))
    for variant in (0, 1):
        rgb = draw_sign("e_bike_ban", 128, variant=variant)[..., :3].astype(int)
        red = (rgb[..., 0] > 150) & (rgb[..., 1] < 80)
        diagonal = np.arange(30, 98)
        assert red[diagonal, diagonal].mean() > 0.95
        assert red[diagonal, 127 - diagonal].mean() < 0.3


@pytest.mark.parametrize(("kind", "height", "variant"), [("stop", 64, 0), ("exit", 23, 0), ("exit", 64, 2)])
def test_unknown_or_illegible_sign_is_refused(kind: Any, height: int, variant: int) -> None:
    with pytest.raises(ValueError, match="expected kind in"):
        draw_sign(kind, height, variant=variant)


def test_task_card_says_which_signs_a_label_may_get() -> None:
    card = TaskCard.model_validate(CARD | {"harmless_signs": {"exit": ["warm", "cold"], "warning_triangle": ["cold"]}})
    assert [card.signs_for(label) for label in card.label_ids] == [(), ("exit",), ("exit", "warning_triangle")]
    assert TaskCard.model_validate(CARD).signs_for("cold") == ()
    with pytest.raises(ValidationError, match="unknown label id: lukewarm"):
        TaskCard.model_validate(CARD | {"harmless_signs": {"exit": ["lukewarm"]}})
    with pytest.raises(ValidationError, match="harmless_signs"):
        TaskCard.model_validate(CARD | {"harmless_signs": {"billboard": ["cold"]}})


def test_shipped_card_allows_signs_in_corridors_only() -> None:
    card = load_task_card(Path("recipes/tasks/corridor.yaml"))
    for label in card.ladder:
        assert set(card.signs_for(label.id)) == set(SIGN_KINDS)
    for label in card.off_ladder:
        assert card.signs_for(label.id) == ()


def blended(photo: NDArray[Any], noise: float = 0.0, blur_px: float = 0.5) -> NDArray[Any]:
    out = photo.copy()
    rng = np.random.default_rng(0)
    blend_sign(out, draw_sign("exit", 40), (30, 50), blur_px=blur_px, noise=noise, rng=rng)
    return out


def test_sign_takes_the_light_of_its_place() -> None:
    bright, dark = (blended((PLAIN * k).astype(np.uint8)).astype(float) for k in (1.0, 0.3))
    box = np.s_[50:90, 30:110]
    assert bright[box].mean() * 0.27 < dark[box].mean() < bright[box].mean() * 0.36
    half = PLAIN.copy()
    half[:, 70:] //= 2  # a shadow falls over the right half of the sign
    out = blended(half).astype(float)
    assert out[52:88, 32:62].mean() > 1.3 * out[52:88, 78:108].mean()


@pytest.mark.parametrize("shape", [(120, 160), (120, 160, 1), (120, 160, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_sign_changes_nothing_outside_of_its_box(shape: tuple[int, ...], dtype: type) -> None:
    photo = np.full(shape, 170, np.uint8) if dtype is np.uint8 else np.full(shape, 0.66, np.float32)
    out = blended(photo, noise=0.02)
    assert out.dtype == dtype
    changed = (out != photo).reshape(120, 160, -1).any(axis=2)
    assert changed[50:90, 30:110].mean() > 0.8
    changed[50:90, 30:110] = False
    assert not changed.any()


def test_noise_and_blur_of_a_photo_are_estimated() -> None:
    rng = np.random.default_rng(0)
    scene = np.kron(rng.random((12, 12), dtype=np.float32), np.ones((24, 24), np.float32))
    soft = cv2.GaussianBlur(scene, (0, 0), 1.0)
    for noise in (0.01, 0.05):
        noisy = soft + noise * rng.standard_normal(soft.shape, dtype=np.float32)
        assert estimate_noise(noisy) == pytest.approx(noise, rel=0.15)
    for blur in (0.8, 1.5, 2.5):
        assert estimate_blur(cv2.GaussianBlur(scene, (0, 0), blur)) == pytest.approx(blur, rel=0.25)
    rendered = cv2.cvtColor(render_scene("clear", 911, 0, 0.5).rgb_HWC, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    assert 0.001 < estimate_noise(rendered) < 0.06
