"""The colour jitter: protected hues stay, others move without entering them, and no seam shows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_builders.augment.colour_jitter import CHROMATIC, ISO_3864_HUES, SemanticColorJitter, hue_protection
from dataset_builders.augment.signs import draw_sign
from dataset_builders.errors import DataError
from dataset_builders.task_card import load_task_card

SEEDS = st.integers(0, 2**32 - 1)
WILD: dict[str, Any] = {"hue_deg": (-90, 90), "saturation": (0, 3), "value": (0.55, 2), "p": 1}


def hue_and_chroma(rgb: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hue in degrees and max - min of 255, by the definition and in double precision."""
    x = rgb.astype(np.float64) * (1 if rgb.dtype == np.uint8 else 255)
    r, g, b = x[..., 0], x[..., 1], x[..., 2]
    largest, chroma = x.max(-1), np.ptp(x, axis=-1)
    c = np.where(chroma == 0, 1, chroma)
    sector = np.where(largest == r, ((g - b) / c) % 6, np.where(largest == g, (b - r) / c + 2, (r - g) / c + 4))
    return 60 * sector, chroma


def within(hue: NDArray[np.float64], ranges: Any, margin: float = 0.0) -> NDArray[np.bool_]:
    """Whether a hue lies in a range, each made narrower by the margin on both ends."""
    hits = [(hue - a - margin) % 360 < (b - a) % 360 - 2 * margin for a, b in ranges]
    return np.any(hits, axis=0) if hits else np.zeros(hue.shape, bool)


def turned(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((after - before + 180) % 360 - 180)


def random_colours(seed: int, dtype: type) -> NDArray[Any]:
    """Half anything, half near the grey axis, where rounding moves hues most."""
    rng = np.random.default_rng(seed)
    anything = rng.integers(0, 256, (24, 48, 3))
    greyish = rng.integers(0, 200, (24, 48, 1)) + rng.integers(0, 56, (24, 48, 3))
    rgb = np.concatenate([anything, greyish]).astype(np.uint8)
    return rgb if dtype is np.uint8 else rgb.astype(np.float32) / 255


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([np.uint8, np.float32]), st.sampled_from([0.0, 0.1]))
def test_protected_hues_move_by_at_most_two_degrees(seed: int, dtype: type, feather_space: float) -> None:
    jitter = SemanticColorJitter(**WILD, feather_space=feather_space)
    jitter.set_random_seed(seed)
    rgb = random_colours(seed, dtype)
    hue, chroma = hue_and_chroma(rgb)
    out_hue, out_chroma = hue_and_chroma(jitter(image=rgb)["image"])
    protected = within(hue, ISO_3864_HUES) & (chroma >= CHROMATIC - 1e-3)
    assert protected.sum() > 100
    assert np.abs(turned(hue, out_hue))[protected].max() <= 2 + 1e-3
    assert out_chroma[protected].min() >= 14.9  # still a colour


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_no_other_colour_enters_a_protected_range(seed: int) -> None:
    jitter = SemanticColorJitter(**WILD, feather_space=0)
    jitter.set_random_seed(seed)
    rgb = random_colours(seed, np.float32)  # without rounding
    hue, chroma = hue_and_chroma(rgb)
    out_hue, _ = hue_and_chroma(jitter(image=rgb)["image"])
    others = ~within(hue, ISO_3864_HUES) & (chroma >= CHROMATIC)
    shift = jitter.get_applied_params()["shift_deg"]
    colourful = jitter.get_applied_params()["saturation_factor"] > 0.05  # else there is no hue left to look at
    assert not (within(out_hue, ISO_3864_HUES, margin=0.1) & others).any() or not colourful
    moved = np.abs(turned(hue, out_hue))[others]
    assert moved.max() <= abs(shift) + 0.5 or not colourful


def test_cardboard_brown_turns_neither_red_nor_yellow_and_purple_moves_by_the_full_shift() -> None:
    rgb = np.zeros((32, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = (176, 132, 88), (150, 40, 150)
    for shift in (-20, 20):
        out = SemanticColorJitter(hue_deg=(shift, shift), feather_space=0, p=1)(image=rgb)["image"]
        hue, _ = hue_and_chroma(out)
        assert 15 < hue[0, 0] < 40
        assert abs(hue[0, -1] - (300 + shift)) < 2


def test_seams_do_not_show() -> None:
    """Along a smooth run of hues and of chroma the output is as smooth as the input, times the greatest slope."""
    import cv2

    hue = np.repeat(np.linspace(0, 359, 1440, dtype=np.float32)[None], 64, axis=0)
    saturation = np.repeat(np.linspace(0.02, 0.6, 64, dtype=np.float32)[:, None], 1440, axis=1)
    rgb = cv2.cvtColor(cv2.merge([hue, saturation, np.full_like(hue, 0.7)]), cv2.COLOR_HSV2RGB)
    for shift in (-25, 25):
        jitter = SemanticColorJitter(hue_deg=(shift, shift), saturation=(1.4, 1.4), value=(0.8, 0.8), p=1)
        out = jitter(image=rgb)["image"]
        for axis in (0, 1):
            before, after = (np.abs(np.diff(x, axis=axis)).max() for x in (rgb, out))
            assert after <= 4 * before


def test_protection_is_one_inside_and_fades_continuously() -> None:
    curve = hue_protection(((345, 15), (40, 65)), 10)
    assert curve.shape == (3600,)
    for inside in (345.0, 350.0, 0.0, 14.95, 40.0, 64.95):
        assert curve[int(inside * 10)] == 1
    assert curve[275] < 0.01  # 12.5 degrees from both ranges
    assert np.abs(np.diff(np.append(curve, curve[0]))).max() <= 0.0101
    assert (hue_protection((), 10) == 0).all()
    assert (hue_protection(((0, 360),), 10) == 1).all()


@pytest.mark.parametrize("variant", [0, 1])
def test_sign_stays_legible(variant: int) -> None:
    """Contrast between the yellow and the black of a warning triangle, as WCAG 2 measures it, stays above 4.5."""
    rgba = draw_sign("warning_triangle", 96, variant=variant)
    on_wall = rgba[..., :3].copy()
    on_wall[rgba[..., 3] < 128] = (190, 186, 178)
    jitter = SemanticColorJitter(**WILD)
    for seed in range(20):
        jitter.set_random_seed(seed)
        out = jitter(image=on_wall)["image"].astype(np.float64) / 255
        light = np.where(out <= 0.04045, out / 12.92, ((out + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        yellow, black = (light[(rgba[..., 3] == 255) & p].mean() for p in (rgba[..., 0] > 240, rgba[..., 0] < 30))
        assert (yellow + 0.05) / (black + 0.05) > 4.5


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_works_inside_compose_and_leaves_masks_boxes_and_keypoints(dtype: type) -> None:
    rng = np.random.default_rng(0)
    image = random_colours(1, dtype)
    mask = rng.integers(0, 5, image.shape[:2], dtype=np.uint8)
    compose = A.Compose(
        [SemanticColorJitter(p=1)],
        bbox_params=A.BboxParams("pascal_voc", label_fields=["ids"]),
        keypoint_params=A.KeypointParams("xy"),
        seed=3,
    )
    boxes, points = [[1, 2, 20, 30]], [[5, 6]]
    out = compose(image=image, mask=mask, masks=[mask, mask], bboxes=boxes, ids=[1], keypoints=points)
    assert out["image"].dtype == dtype
    assert out["image"].shape == image.shape
    assert not np.array_equal(out["image"], image)
    assert np.array_equal(out["mask"], mask)
    assert all(np.array_equal(m, mask) for m in out["masks"])
    np.testing.assert_allclose(out["bboxes"], boxes)
    np.testing.assert_allclose(out["keypoints"], points)
    if dtype is np.float32:
        assert out["image"].min() >= 0
        assert out["image"].max() <= 1


def test_stacks_of_photos_get_one_jitter() -> None:
    image = random_colours(2, np.uint8)
    stack = np.stack([image, image[::-1]])
    jitter = SemanticColorJitter(p=1)
    for key in ("images", "volume"):
        out = A.Compose([jitter], seed=5)(**{key: stack})[key]
        assert out.shape == stack.shape
        assert np.array_equal(out[0], out[1][::-1])
    assert A.Compose([jitter], seed=5)(volumes=stack[None])["volumes"].shape == (1, *stack.shape)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 1), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3))],
    ids=["(H, W)", "one channel", "four channels", "float64"],
)
def test_other_shapes_and_dtypes_are_refused(image: NDArray[Any]) -> None:
    with pytest.raises(DataError, match=r"RGB of shape \(H, W, 3\)"):
        SemanticColorJitter(p=1)(image=image)


@pytest.mark.parametrize("hues", [ISO_3864_HUES, ((10, 20),), ()], ids=["ISO", "one", "none"])
def test_round_trip_through_dict_and_yaml(hues: Any, tmp_path: Path) -> None:
    jitter = SemanticColorJitter(
        hue_deg=(-7, 9), saturation=(0.8, 1.1), value=(0.9, 1), protected_hues=hues, feather_deg=8,
        feather_space=0.02, saturation_bounds=(0.95, 1.1), p=1,
    )  # fmt: skip
    compose = A.Compose([jitter], seed=1)
    A.save(compose, tmp_path / "policy.yaml", data_format="yaml")
    image = random_colours(3, np.uint8)
    outputs = [compose(image=image)["image"]]
    for again in (A.from_dict(A.to_dict(compose)), A.load(tmp_path / "policy.yaml", data_format="yaml")):
        assert again.transforms[0].to_dict() == jitter.to_dict()
        outputs.append(A.Compose(again.transforms, seed=1)(image=image)["image"])
    assert all(np.array_equal(a, b) for a, b in pairwise(outputs))


def test_seed_decides_and_zero_range_changes_nothing() -> None:
    image = random_colours(4, np.uint8)
    outs = [A.Compose([SemanticColorJitter(p=1)], seed=seed)(image=image)["image"] for seed in (1, 1, 2)]
    assert np.array_equal(outs[0], outs[1])
    assert not np.array_equal(outs[0], outs[2])
    still = SemanticColorJitter(hue_deg=(0, 0), saturation=(1, 1), value=(1, 1), p=1)
    assert np.abs(still(image=image)["image"].astype(int) - image).max() <= 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hue_deg", (10, -10)), ("hue_deg", (-120, 0)), ("hue_deg", "red"), ("saturation", (-1, 1)),
        ("value", (0.2, 1)), ("protected_hues", ((10, 400),)), ("protected_hues", ((30, 30),)), ("feather_deg", 0),
        ("feather_space", 0.5), ("saturation_bounds", (0.5, 1.2)), ("saturation_bounds", (1.1, 1.2)), ("p", 2),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        SemanticColorJitter(**{name: value})


def test_default_hues_are_those_of_the_shipped_task_card() -> None:
    assert load_task_card(Path("recipes/tasks/corridor.yaml")).protected_hues == ISO_3864_HUES
