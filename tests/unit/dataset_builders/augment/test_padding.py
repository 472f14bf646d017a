"""Context-aware padding: the whole photo stays, masks say so, strips hold no second evidence, signs stay in strips."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import albumentations as A  # noqa: N812
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_builders.augment.padding import ContextAwarePadding
from dataset_builders.augment.signs import SIGN_KINDS
from dataset_builders.errors import DataError
from dataset_builders.scenes.compose import GRADES, render_scene

FAR: dict[str, Any] = {"scale": (0.5, 0.9), "rotate_deg": (-25, 25), "aspect": (0.6, 1.6), "p": 1}
SCENE = render_scene("few", 921, 0, 0.3)


def plain_wall(height: int = 240, width: int = 320) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return np.clip(170 + rng.normal(0, 2, (height, width, 3)), 0, 255).astype(np.uint8)


def scale_of(params: dict[str, Any]) -> float:
    """Factor on areas."""
    return float(np.linalg.det(np.array(params["matrix"])[:, :2]))


def photo_area(padding: ContextAwarePadding, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels of the frame show the photo itself."""
    return padding.apply_to_mask(np.ones(shape, np.uint8), padding.get_applied_params()["matrix"]).astype(bool)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(336, 336), (200, 400), (401, 203)]))
def test_whole_photo_stays_in_the_frame(seed: int, shape: tuple[int, int]) -> None:
    padding = ContextAwarePadding(**FAR)
    padding.set_random_seed(seed)
    padding(image=np.zeros((*shape, 3), np.uint8))
    matrix = np.array(padding.get_applied_params()["matrix"])
    height, width = shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ matrix[:, :2].T + matrix[:, 2]
    assert corners.min() >= -1e-6
    assert (corners <= np.array([width, height]) + 1e-6).all()
    assert scale_of(padding.get_applied_params()) > 0


@pytest.mark.parametrize("grade", GRADES)
def test_every_thing_keeps_its_share_of_the_picture(grade: str) -> None:
    for index in range(3):
        scene = render_scene(grade, 922, index, 0.5)
        padding = ContextAwarePadding(**FAR)
        padding.set_random_seed(index)
        mask = padding(image=scene.rgb_HWC, mask=scene.ids_HW)["mask"]
        factor = scale_of(padding.get_applied_params())
        assert set(np.unique(mask)) <= set(np.unique(scene.ids_HW)) | {0}
        for thing in scene.things:
            if thing.visible:
                expected = factor * thing.pixels
                assert abs(np.count_nonzero(mask == thing.object_id) - expected) < 0.1 * expected + 12
        assert not mask[~photo_area(padding, mask.shape)].any()


def test_photo_itself_is_only_resampled() -> None:
    padding = ContextAwarePadding(**FAR)
    for seed in range(5):
        padding.set_random_seed(seed)
        out = padding(image=SCENE.rgb_HWC)["image"]
        assert out.shape == SCENE.rgb_HWC.shape
        matrix = np.array(padding.get_applied_params()["matrix"])
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
        soft = cv2.GaussianBlur(SCENE.rgb_HWC, (0, 0), 0.6)
        expected = cv2.warpAffine(soft, matrix, out.shape[1::-1], flags=cv2.INTER_LINEAR)
        inner = cv2.erode(photo_area(padding, out.shape[:2]).astype(np.uint8), np.ones((5, 5))) > 0
        assert np.abs(out.astype(int) - expected)[inner].mean() < 4


def test_strip_does_not_repeat_a_thing_at_the_border() -> None:
    """A red box at the left border: mirroring would show it twice in the strip, the stretched edge dissolves."""
    photo = plain_wall()
    cv2.rectangle(photo, (6, 120), (40, 180), (200, 20, 20), -1)
    cv2.rectangle(photo, (12, 130), (30, 150), (20, 20, 30), -1)
    padding = ContextAwarePadding(scale=(0.6, 0.6), rotate_deg=(0, 0), aspect=(1, 1), p=1)
    for seed in range(8):
        padding.set_random_seed(seed)
        out = padding(image=photo)["image"].astype(int)
        assert padding.get_applied_params()["fills"]["left"] == "replicate"
        strip = ~photo_area(padding, photo.shape[:2])
        assert not ((out[..., 0] - out[..., 1] > 60) & strip).any()


def test_bare_wall_is_continued_without_a_seam() -> None:
    photo = plain_wall()
    padding = ContextAwarePadding(**FAR)
    for seed in range(6):
        padding.set_random_seed(seed)
        out = padding(image=photo)["image"].astype(float)
        assert np.abs(out - 170).max() < 16
        assert set(padding.get_applied_params()["fills"].values()) == {"reflect"}


def test_signs_hang_in_the_strips_and_nowhere_else() -> None:
    photo = plain_wall(300, 400)
    kwargs: dict[str, Any] = {**FAR, "scale": (0.4, 0.7), "rotate_deg": (-8, 8)}
    padding = ContextAwarePadding(**kwargs, signs=SIGN_KINDS, sign_probability=1)
    seen = set()
    for seed in range(30):
        padding.set_random_seed(seed)
        out = padding(image=photo)["image"]
        params = padding.get_applied_params()
        bare = padding.apply(photo, **{**params, "signs": []})
        allowed = np.zeros(photo.shape[:2], bool)
        for sign in params["signs"]:
            x, y, wide, high = sign["box"]
            assert x >= 0
            assert y >= 0
            assert high >= 24
            assert x + wide <= 400
            assert y + high <= 300
            allowed[y : y + high, x : x + wide] = True
            seen.add(sign["kind"])
        assert not (allowed & photo_area(padding, photo.shape[:2])).any()
        changed = (out != bare).any(axis=2)
        assert not changed[~allowed].any()
        assert changed[allowed].mean() > 0.4 if params["signs"] else not changed.any()
    assert seen == set(SIGN_KINDS)


@pytest.mark.parametrize("kwargs", [{}, {"signs": SIGN_KINDS, "sign_probability": 0}, {"signs": ("exit",)}])
def test_only_allowed_signs_are_implanted(kwargs: dict[str, Any]) -> None:
    padding = ContextAwarePadding(scale=(0.4, 0.5), p=1, **{"sign_probability": 1, **kwargs})
    for seed in range(10):
        padding.set_random_seed(seed)
        padding(image=plain_wall())
        kinds = {sign["kind"] for sign in padding.get_applied_params()["signs"]}
        assert kinds <= ({"exit"} if kwargs.get("signs") == ("exit",) else set())


def test_clutter_gets_no_sign() -> None:
    busy = np.kron(np.random.default_rng(0).integers(0, 256, (30, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    padding = ContextAwarePadding(scale=(0.4, 0.5), signs=SIGN_KINDS, sign_probability=1, p=1)
    padding(image=busy)
    assert padding.get_applied_params()["signs"] == []
    assert set(padding.get_applied_params()["fills"].values()) == {"replicate"}


def test_boxes_keypoints_and_masks_agree() -> None:
    mask = np.zeros((240, 320), np.uint8)
    mask[60:140, 200:260] = 7
    compose = A.Compose(
        [ContextAwarePadding(scale=(0.5, 0.9), rotate_deg=(0, 0), aspect=(0.6, 1.6), p=1)],
        bbox_params=A.BboxParams("pascal_voc", label_fields=["ids"]),
        keypoint_params=A.KeypointParams("xyas"),
        seed=4,
    )
    for _ in range(5):
        points = [[200, 60, 0.5, 10], [259, 139, 0.5, 10], [230, 100, 0.5, 10]]
        out = compose(image=plain_wall(), mask=mask, bboxes=[[200, 60, 260, 140]], ids=[7], keypoints=points)
        rows, columns = np.nonzero(out["mask"] == 7)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(out["bboxes"][0], seen, atol=1.01)
        keypoints = np.array(out["keypoints"])
        x, y = keypoints[:2, 0], keypoints[:2, 1]
        np.testing.assert_allclose([x[0], y[0], x[1], y[1]], [seen[0], seen[1], seen[2] - 1, seen[3] - 1], atol=1.01)
        np.testing.assert_allclose(keypoints[:, 2], 0.5, atol=1e-4)  # no rotation, no change of the angle


def test_rotation_turns_keypoints_with_the_photo() -> None:
    photo = plain_wall()
    photo[90:95, 250:255] = 0
    compose = A.Compose([ContextAwarePadding(**FAR)], keypoint_params=A.KeypointParams("xy"), seed=8)
    for _ in range(6):
        out = compose(image=photo, keypoints=[[252, 92]])
        dark = np.argwhere(out["image"].mean(axis=2) < 110)
        np.testing.assert_allclose(dark.mean(axis=0)[::-1], out["keypoints"][0], atol=0.7)


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 1), (60, 80, 3), (16, 16, 3), (336, 336, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_claimed_shapes_and_dtypes(shape: tuple[int, ...], dtype: type) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape, dtype=np.uint8) if dtype is np.uint8 else rng.random(shape, dtype=np.float32)
    kwargs: dict[str, Any] = {**FAR, "signs": SIGN_KINDS, "sign_probability": 1}
    for seed in range(4):
        out = A.Compose([ContextAwarePadding(**kwargs)], seed=seed)(image=image)["image"]
        assert out.shape == shape
        assert out.dtype == dtype
        if dtype is np.float32:
            assert out.min() >= 0
            assert out.max() <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32, bool])
def test_masks_of_any_dtype(dtype: type) -> None:
    one = (SCENE.ids_HW > 0).astype(dtype)
    deep = np.dstack([one, one])
    compose = A.Compose([ContextAwarePadding(**FAR)], seed=2)
    out = compose(image=SCENE.rgb_HWC, mask=deep, masks=np.stack([one, one]))
    assert out["mask"].dtype == dtype
    assert out["masks"].dtype == dtype
    for mask in (out["mask"][..., 0], out["mask"][..., 1], *out["masks"]):
        assert np.array_equal(mask, out["masks"][0])
    filled = ContextAwarePadding(scale=(0.5, 0.5), fill_mask=1, p=1)(image=SCENE.rgb_HWC, mask=np.zeros_like(one))
    assert filled["mask"].mean() > 0.6


def test_stacks_of_photos_share_one_geometry() -> None:
    stack = np.stack([SCENE.rgb_HWC, SCENE.rgb_HWC])
    for key in ("images", "volume"):
        out = A.Compose([ContextAwarePadding(**FAR)], seed=5)(**{key: stack})[key]
        assert np.array_equal(out[0], out[1])
    out = A.Compose([ContextAwarePadding(**FAR)], seed=5)(volumes=stack[None], mask3d=stack[..., 0])
    assert out["volumes"].shape == (1, *stack.shape)
    assert out["mask3d"].shape == stack.shape[:3]


@pytest.mark.parametrize("image", [np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3))], ids=["RGBA", "float64"])
def test_other_shapes_and_dtypes_are_refused(image: NDArray[Any]) -> None:
    with pytest.raises(DataError, match="ContextAwarePadding needs photos of shape"):
        ContextAwarePadding(p=1)(image=image)


def test_nothing_to_do_changes_nothing() -> None:
    still = ContextAwarePadding(scale=(1, 1), rotate_deg=(0, 0), aspect=(1, 1), p=1)
    out = still(image=SCENE.rgb_HWC, mask=SCENE.ids_HW)
    assert np.array_equal(out["image"], SCENE.rgb_HWC)
    assert np.array_equal(out["mask"], SCENE.ids_HW)


def test_parameters_are_json_and_enough_to_repeat_the_copy() -> None:
    padding = ContextAwarePadding(**FAR, signs=SIGN_KINDS, sign_probability=1)
    padding.set_random_seed(6)
    out = padding(image=SCENE.rgb_HWC)["image"]
    params = json.loads(json.dumps(padding.get_applied_params()))
    assert {"matrix", "fills", "signs", "grain_seed"} <= set(params)
    assert np.array_equal(ContextAwarePadding(p=1).apply(SCENE.rgb_HWC, **params), out)


@pytest.mark.parametrize("signs", [(), ("exit",), SIGN_KINDS])
def test_round_trip_through_dict_and_yaml(signs: Any, tmp_path: Path) -> None:
    padding = ContextAwarePadding(
        scale=(0.5, 0.6), rotate_deg=(-3, 4), aspect=(0.9, 1.2), signs=signs, sign_probability=0.9, fill_mask=3, p=1
    )
    compose = A.Compose([padding], seed=1)
    A.save(compose, tmp_path / "policy.yaml", data_format="yaml")
    outputs = [compose(image=SCENE.rgb_HWC)["image"]]
    for again in (A.from_dict(A.to_dict(compose)), A.load(tmp_path / "policy.yaml", data_format="yaml")):
        assert again.transforms[0].to_dict() == padding.to_dict()
        outputs.append(A.Compose(again.transforms, seed=1)(image=SCENE.rgb_HWC)["image"])
    assert all(np.array_equal(a, b) for a, b in pairwise(outputs))


def test_seed_decides() -> None:
    outs = [A.Compose([ContextAwarePadding(**FAR)], seed=seed)(image=SCENE.rgb_HWC)["image"] for seed in (1, 1, 2)]
    assert np.array_equal(outs[0], outs[1])
    assert not np.array_equal(outs[0], outs[2])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", (0.9, 0.5)), ("scale", (0.5, 1.5)), ("scale", (0.05, 1)), ("rotate_deg", (-90, 0)),
        ("aspect", (0, 1)), ("signs", ("billboard",)), ("sign_probability", 1.5), ("fill_mask", "black"), ("p", -1),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        ContextAwarePadding(**{name: value})
