"""Padding for scale, rotation and aspect changes that is made from the photo and keeps its evidence."""

from __future__ import annotations

import math
from typing import Annotated, Any

import albumentations as A  # noqa: N812 - as its documentation writes it
import cv2
import numpy as np
from albumentations.augmentations.geometric import functional as geometric
from albumentations.core.transforms_interface import BaseTransformInitSchema
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from dataset_builders.augment.blending import blend_sign, estimate_blur, estimate_noise, to_grey
from dataset_builders.augment.ranges import Pair, ordered
from dataset_builders.augment.sides import SIDES, Band, Fill, Side, choose_fill, measure_bands
from dataset_builders.augment.signs import ASPECT, LEAST_PX, VARIANTS, draw_sign
from dataset_builders.augment.strips import between_centres, fit_into_frame, mean_scale, source_coordinates
from dataset_builders.errors import DataError
from dataset_builders.task_card import SignKind

__all__ = ["ContextAwarePadding"]

SIGN_SIDES: tuple[Side, ...] = ("left", "right", "top")  # nobody hangs a sign on the floor
SIGN_SHARE = 0.28  # greatest height of a sign, of the photo's shorter side
SIGN_ROOM = 0.9  # of the strip that a sign may take
TILT_DEG = 5.0


class ContextAwarePadding(A.DualTransform):
    """Shrink, rotate and stretch a photo inside of its own frame, and fill what that uncovers from the photo itself.

    The whole photo stays in the frame: it shrinks as far as its rotated outline needs to, nothing is cropped, and so
    no evidence for the label is lost. It lands anywhere in the free room. Each side's strip is filled by what the
    photo's border on that side shows, in a band as deep as the strip (see ``sides.measure_bands``):

    - **replicate** wherever the band is salient (spectral residual; Hou & Zhang 2007) or textured: the mean of the
      outermost 3 pixels is stretched outwards, dissolves with the distance and gets the photo's noise. Mirroring would
      repeat the evidence there: a second e-bike in the strip, three things that become five.
    - **reflect** where the band is calm and symmetric, that is where the mirror image continues its lines.
    - **sign implantation** over either, with ``sign_probability``, on calm bands at the left, right and top, where the
      strip is at least 24 pixels wide: a sign of ``signs``, inside of the strip, in the light, blur and noise of the
      photo. Give the kinds that do not change this photo's label: ``TaskCard.signs_for``.

    Args:
        scale: Range of the photo's scale, 0.2 to 1; less where rotation or aspect need it.
        rotate_deg: Range of the rotation in degrees, counter-clockwise, within -45 to 45.
        aspect: Range of the factor on width over height, 0.25 to 4.
        signs: Kinds of signs that may be implanted, of ``signs.SIGN_KINDS``; none by default.
        sign_probability: Probability that a side that can carry a sign gets one.
        fill_mask: Value of masks outside of the photo.
        p: Probability.

    Targets:
        image, images, volume, volumes: (..., H, W, 3) or (..., H, W, 1), for ``image`` also (H, W); uint8 or float32
        within 0 to 1; the output has the input's shape. mask, masks: any dtype; the nearest pixel, ``fill_mask``
        outside of the photo. bboxes, keypoints: all stay in the frame. ``images`` share what the first one decided.
    """

    _targets = (Targets.IMAGE, Targets.MASK, Targets.BBOXES, Targets.KEYPOINTS, Targets.VOLUME, Targets.MASK3D)

    class InitSchema(BaseTransformInitSchema):
        """Bounds of the arguments; a wrong one raises ``ValueError`` with its name."""

        scale: Annotated[Pair, AfterValidator(ordered(0.2, 1))]
        rotate_deg: Annotated[Pair, AfterValidator(ordered(-45, 45))]
        aspect: Annotated[Pair, AfterValidator(ordered(0.25, 4))]
        signs: tuple[SignKind, ...]
        sign_probability: Annotated[float, Field(ge=0, le=1)]
        fill_mask: float

    def __init__(
        self,
        scale: Pair = (0.7, 0.95),
        rotate_deg: Pair = (-6, 6),
        aspect: Pair = (0.85, 1.18),
        signs: tuple[SignKind, ...] = (),
        sign_probability: float = 0.25,
        fill_mask: float = 0,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.scale = scale
        self.rotate_deg = rotate_deg
        self.aspect = aspect
        self.signs = signs
        self.sign_probability = sign_probability
        self.fill_mask = fill_mask

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the geometry, then let the photo choose what fills each side.

        Returns:
            ``matrix``: 2 x 3, from the photo's coordinates to the frame's, (0, 0) being the upper left corner of the
            first pixel; ``fills``: side -> fill, for the sides that have a strip; ``signs``: kind, variant, box
            (x, y, width, height) and angle of each sign; ``grain_seed``. All are plain lists, dicts and numbers.
        """
        height, width = params["shape"][:2]
        matrix, room = self._draw_geometry(height, width)
        depths = _depths(matrix, height, width)
        bands = measure_bands(_first_photo(data), depths) if depths else {}
        return {
            "matrix": matrix.tolist(),
            "fills": {side: choose_fill(band) for side, band in bands.items()},
            "signs": self._draw_signs(bands, room, height, width),
            "grain_seed": self.py_random.getrandbits(32),
        }

    def _draw_geometry(self, height: int, width: int) -> tuple[NDArray[np.float64], dict[Side, float]]:
        """The matrix, and how many pixels each side of the frame keeps free of the photo."""
        scale = self.py_random.uniform(*self.scale)
        aspect = math.exp(self.py_random.uniform(*map(math.log, self.aspect)))
        angle = math.radians(self.py_random.uniform(*self.rotate_deg))
        stretch = np.diag([math.sqrt(aspect), 1 / math.sqrt(aspect)])
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])  # y points down
        linear = turn @ stretch
        outline = np.abs(linear) @ [width, height]
        linear *= min(scale, width / outline[0], height / outline[1])
        free = np.maximum(np.array([width, height]) - np.abs(linear) @ [width, height], 0)
        left, top = (self.py_random.uniform(0, float(f)) for f in free)
        offset = np.array([left, top]) + np.abs(linear) @ [width, height] / 2 - linear @ [width / 2, height / 2]
        room: dict[Side, float] = {"left": left, "right": free[0] - left, "top": top, "bottom": free[1] - top}
        return np.column_stack([linear, offset]), room

    def _draw_signs(
        self, bands: dict[Side, Band], room: dict[Side, float], height: int, width: int
    ) -> list[dict[str, Any]]:
        """Signs for the calm sides that are wide enough; the top ones keep clear of the side strips."""
        signs = []
        for side in SIGN_SIDES:
            if side not in bands or not bands[side].calm or self.py_random.random() >= self.sign_probability:
                continue
            x0, x1, y0, y1 = {
                "left": (0, room["left"], 0, height * 0.7),
                "right": (width - room["right"], width, 0, height * 0.7),
                "top": (room["left"], width - room["right"], 0, room["top"]),
            }[side]
            wide, high = SIGN_ROOM * (x1 - x0), min(SIGN_ROOM * (y1 - y0), SIGN_SHARE * min(height, width))
            most = {kind: int(min(wide / ASPECT[kind], high)) for kind in self.signs}
            fitting = [kind for kind in self.signs if most[kind] >= LEAST_PX]
            if not fitting:
                continue
            kind = self.py_random.choice(fitting)
            high = self.py_random.randint(LEAST_PX, most[kind])
            wide = round(ASPECT[kind] * high)
            x = math.ceil(self.py_random.uniform(x0, x1 - wide - 1))
            y = math.ceil(self.py_random.uniform(y0, y1 - high - 1))
            signs.append({
                "kind": kind,
                "variant": self.py_random.randrange(VARIANTS),
                "box": [x, y, wide, high],
                "angle_deg": self.py_random.uniform(-TILT_DEG, TILT_DEG),
            })  # fmt: skip
        return signs

    def apply(
        self,
        img: NDArray[Any],
        matrix: list[list[float]],
        fills: dict[Side, Fill],
        signs: list[dict[str, Any]],
        grain_seed: int,
        **params: Any,
    ) -> NDArray[Any]:
        """Move and pad one photo; parameters as ``get_params_dependent_on_data`` returns them.

        Raises:
            DataError: The photo has a shape or dtype that is not in the class's list of targets.
        """
        _check_photo(img)
        if not fills:
            return img
        rng = np.random.default_rng(grain_seed)
        noise, blur_px, shrink = 0.0, 0.4, mean_scale(matrix)
        if signs or "replicate" in fills.values():
            height, width = img.shape[:2]
            grey = to_grey(
                img[height // 4 : height - height // 4, width // 4 : width - width // 4]
            )  # middle: 4x faster
            noise = estimate_noise(grey)
            blur_px = max(estimate_blur(grey) * shrink, 0.4) if signs else blur_px
        out = fit_into_frame(img, matrix, fills, noise * shrink, rng)
        for sign in signs:
            x, y, _, high = sign["box"]
            rgba = draw_sign(sign["kind"], high, variant=sign["variant"], angle_deg=sign["angle_deg"])
            blend_sign(out, rgba, (x, y), blur_px=blur_px, noise=noise * shrink, rng=rng)
        return out

    def apply_to_mask(self, mask: NDArray[Any], matrix: list[list[float]], **params: Any) -> NDArray[Any]:
        """Move a mask of shape (H, W) or (H, W, C), any dtype, by the nearest pixel."""
        height, width = mask.shape[:2]
        columns, rows = source_coordinates(matrix, height, width)
        columns, rows = np.rint(columns).astype(np.intp), np.rint(rows).astype(np.intp)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        out = np.full_like(mask, self.fill_mask)
        out[inside] = mask[rows[inside], columns[inside]]
        return out

    def apply_to_bboxes(self, bboxes: NDArray[Any], matrix: list[list[float]], **params: Any) -> NDArray[Any]:
        """Move boxes of shape (N, 4+), normalised; each becomes the outline of its moved corners."""
        square = np.vstack([matrix, [0, 0, 1]])
        shape = params["shape"][:2]
        return geometric.bboxes_affine(bboxes, square, "largest_box", shape, cv2.BORDER_CONSTANT, shape)

    def apply_to_keypoints(self, keypoints: NDArray[Any], matrix: list[list[float]], **params: Any) -> NDArray[Any]:
        """Move keypoints of shape (N, 5+): x, y, z, angle, scale."""
        at_centres = np.vstack([between_centres(matrix), [0, 0, 1]])
        scale = dict(zip("xy", np.linalg.norm(np.array(matrix)[:, :2], axis=0), strict=True))
        return geometric.keypoints_affine(keypoints, at_centres, params["shape"][:2], scale, cv2.BORDER_CONSTANT)


def _first_photo(data: dict[str, Any]) -> NDArray[Any]:
    """The photo that decides, in the order in which albumentations looks for the shape."""
    if "volume" in data:
        photo = data["volume"][0]
    elif "volumes" in data:
        photo = data["volumes"][0][0]
    else:
        photo = data["image"] if "image" in data else data["images"][0]
    _check_photo(photo)
    return photo


def _check_photo(photo: NDArray[Any]) -> None:
    shape_fits = photo.ndim == 2 or (photo.ndim == 3 and photo.shape[2] in (1, 3))
    if not shape_fits or photo.dtype not in (np.uint8, np.float32):
        raise DataError(
            "ContextAwarePadding needs photos of shape (H, W), (H, W, 1) or (H, W, 3), uint8 or float32 within 0 to 1, "
            f"got {photo.shape} {photo.dtype}"
        )


def _depths(matrix: NDArray[np.float64], height: int, width: int) -> dict[Side, float]:
    """How far the frame reaches over each side of the photo, as a share of its width or height; only what is > 0."""
    back = cv2.invertAffineTransform(matrix)
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ back[:, :2].T + back[:, 2]
    (x0, y0), (x1, y1) = corners.min(axis=0) / [width, height], corners.max(axis=0) / [width, height]
    over = dict(zip(SIDES, (-x0, x1 - 1, -y0, y1 - 1), strict=True))
    return {side: float(depth) for side, depth in over.items() if depth > 1e-6}
