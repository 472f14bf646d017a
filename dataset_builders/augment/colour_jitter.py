"""Colour jitter that leaves safety-sign and hazard colours what they are."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any

import albumentations as A  # noqa: N812 - as its documentation writes it
import cv2
import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from dataset_builders.augment.ranges import Pair, ordered
from dataset_builders.errors import DataError

__all__ = ["CHROMATIC", "ISO_3864_HUES", "SemanticColorJitter", "hue_protection"]

# Red, yellow, green and blue of ISO 3864-1 in degrees [from, to), as in recipes/tasks/corridor.yaml.
ISO_3864_HUES: tuple[Pair, ...] = ((345, 15), (40, 65), (130, 175), (200, 230))
# max(R, G, B) - min(R, G, B) of 255 from which a pixel has a hue; below GREY nothing is protected.
CHROMATIC = 32
GREY = 16
BINS = 3600  # of the hue circle


def _around_one(pair: Pair) -> Pair:
    if not pair[0] <= 1 <= pair[1]:
        raise ValueError(f"expected (least, greatest) with least <= 1 <= greatest, got {pair}")
    return pair


def _on_the_circle(ranges: tuple[Pair, ...]) -> tuple[Pair, ...]:
    for start, stop in ranges:
        if not (0 <= start <= 360 and 0 <= stop <= 360) or start == stop:
            raise ValueError(f"expected ranges [from, to) of different degrees within 0 to 360, got {(start, stop)}")
    return ranges


@lru_cache(maxsize=16)
def _distance(protected_hues: tuple[Pair, ...]) -> NDArray[np.float64]:
    """Degrees from each bin of the hue circle to the nearest protected range; 0 for a bin that touches one."""
    width = 360 / BINS
    low = np.arange(BINS) * width
    distance = np.full(BINS, np.inf)
    for start, stop in protected_hues:
        span = (stop - start) % 360 or 360.0
        inside = ((low - start) % 360 < span) | ((start - low) % 360 < width)
        outside = np.minimum((low - stop) % 360, (start - low - width) % 360)
        distance = np.minimum(distance, np.where(inside, 0.0, outside))
    return distance


def hue_protection(protected_hues: tuple[Pair, ...], feather_deg: float) -> NDArray[np.float32]:
    """How much each hue is protected.

    Args:
        protected_hues: Ranges [from, to) in degrees; from > to wraps at 360.
        feather_deg: Degrees outside of a range over which protection fades linearly from 1 to 0, > 0.

    Returns:
        float32 of shape (3600,): protection, 0 to 1, of the hues [i / 10, (i + 1) / 10) degrees.
    """
    return np.clip(1 - _distance(protected_hues) / feather_deg, 0, 1).astype(np.float32)


class SemanticColorJitter(A.ImageOnlyTransform):
    """Perturb hue, saturation and value of a photo, but not the meaning of its colours.

    Red, yellow, green and blue are the colours of safety signs (ISO 3864-1) and of much that burns: a jitter that
    turns a red ring green or a yellow triangle orange changes what the photo says. A soft mask, 1 on protected
    pixels, decides pixel by pixel how much of the jitter of hue and saturation applies:

    - **In hue** it fades linearly over ``feather_deg`` degrees outside of each range, and over at least twice the
      drawn shift. The hues then move by a monotone map of the hue circle that fixes the protected ranges: no other
      colour can be carried into one, so cardboard brown (30 degrees) never becomes sign red or yellow. It moves less
      the nearer it is to one, which costs some variety and no truth.
    - **In space** it is widened and blurred by ``feather_space``, so that mixed pixels at a sign's edge and noise get
      the treatment of the sign; no seam shows.
    - **In chroma** it fades from 32 to 16 of 255 (max - min of the channels). Greyer pixels have no hue to speak of:
      one step of one channel moves it by several degrees. They get the full jitter.

    The saturation of protected pixels changes by a factor within ``saturation_bounds``. The factor on value is one
    for the whole photo, so that the contrast between a sign, its symbol and the wall stays what it is.

    A pixel of chroma >= 32 in a protected range keeps its hue within 2 degrees, 8-bit rounding included: largest
    and smallest channel are rounded before the middle one is computed from them, so only the rounding of the middle
    one moves the hue, by at most 60 * 0.5 / chroma degrees; and chroma, a whole number, stays > 32 * 0.9 * 0.55 - 1
    and so >= 15.

    Args:
        hue_deg: Range of the hue shift in degrees, within -90 to 90.
        saturation: Range of the factor on HSV saturation, >= 0.
        value: Range of the factor on HSV value, 0.55 to 2.
        protected_hues: Ranges [from, to) in degrees; from > to wraps at 360. Default: ISO 3864-1.
        feather_deg: Degrees over which the protection fades in hue, > 0.
        feather_space: Radius over which it fades in space, as a share of the shorter side, 0 to 0.2.
        saturation_bounds: Least and greatest factor on the saturation of protected pixels: least within 0.9 to 1,
            greatest within 1 to 2.
        p: Probability.

    Targets:
        image, images, volume, volumes: RGB of shape (..., H, W, 3), uint8 or float32 within 0 to 1. Masks, boxes and
        keypoints stay as they are. Anything else, grey photos included, raises ``DataError``.
    """

    _targets = (Targets.IMAGE, Targets.VOLUME)

    class InitSchema(BaseTransformInitSchema):
        """Bounds of the arguments; a wrong one raises ``ValueError`` with its name."""

        hue_deg: Annotated[Pair, AfterValidator(ordered(-90, 90))]
        saturation: Annotated[Pair, AfterValidator(ordered(0, 10))]
        value: Annotated[Pair, AfterValidator(ordered(0.55, 2))]
        protected_hues: Annotated[tuple[Pair, ...], AfterValidator(_on_the_circle)]
        feather_deg: Annotated[float, Field(gt=0, le=180)]
        feather_space: Annotated[float, Field(ge=0, le=0.2)]
        saturation_bounds: Annotated[Pair, AfterValidator(ordered(0.9, 2)), AfterValidator(_around_one)]

    def __init__(
        self,
        hue_deg: Pair = (-20, 20),
        saturation: Pair = (0.7, 1.3),
        value: Pair = (0.7, 1.25),
        protected_hues: tuple[Pair, ...] = ISO_3864_HUES,
        feather_deg: float = 12,
        feather_space: float = 0.012,
        saturation_bounds: Pair = (0.9, 1.2),
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        self.hue_deg = hue_deg
        self.saturation = saturation
        self.value = value
        self.protected_hues = protected_hues
        self.feather_deg = feather_deg
        self.feather_space = feather_space
        self.saturation_bounds = saturation_bounds

    def get_transform_init_args(self) -> dict[str, Any]:
        """As albumentations has it, which would leave out an empty ``protected_hues`` and so restore the default."""
        return {**super().get_transform_init_args(), "protected_hues": self.protected_hues}

    def get_params(self) -> dict[str, Any]:
        """Draw the shift in degrees and the two factors."""
        return {
            "shift_deg": self.py_random.uniform(*self.hue_deg),
            "saturation_factor": self.py_random.uniform(*self.saturation),
            "value_factor": self.py_random.uniform(*self.value),
        }

    def apply(
        self,
        img: NDArray[Any],
        shift_deg: float = 0.0,
        saturation_factor: float = 1.0,
        value_factor: float = 1.0,
        **params: Any,
    ) -> NDArray[Any]:
        """Jitter one photo.

        Args:
            img: RGB of shape (H, W, 3), uint8 or float32 within 0 to 1.
            shift_deg: Hue shift.
            saturation_factor: Factor on saturation.
            value_factor: Factor on value.
            params: What albumentations adds.

        Raises:
            DataError: The photo has another shape or dtype.
        """
        if img.ndim != 3 or img.shape[2] != 3 or img.dtype not in (np.uint8, np.float32):
            raise DataError(
                "SemanticColorJitter needs RGB of shape (H, W, 3), uint8 or float32 within 0 to 1, "
                f"got {img.shape} {img.dtype}; convert grey photos to RGB first (Image.convert('RGB'))"
            )
        rgb = np.multiply(img, np.float32(1 / 255), dtype=np.float32) if img.dtype == np.uint8 else img
        planes: Any = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV))  # float32; OpenCV's types do not say so
        hue, saturation, value = planes
        chroma = saturation * value
        mask = self._soft_mask(hue, chroma, shift_deg)
        hue += np.float32(shift_deg) * (1 - mask)
        hue[hue < 0] += 360
        hue[hue >= 360] -= 360
        least, greatest = self.saturation_bounds
        bounded = min(max(saturation_factor, least), greatest)
        saturation *= saturation_factor + mask * np.float32(bounded - saturation_factor)
        value *= np.float32(value_factor)
        np.minimum(saturation, 1, out=saturation)
        np.minimum(value, 1, out=value)
        if img.dtype == np.uint8:
            _round_extremes(saturation, value)
        out = cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB)
        return cv2.convertScaleAbs(out, alpha=255) if img.dtype == np.uint8 else np.clip(out, 0, 1)

    def _soft_mask(
        self, hue_HW: NDArray[np.float32], chroma_HW: NDArray[np.float32], shift_deg: float
    ) -> NDArray[np.float32]:
        """Protection of each pixel, 0 to 1: exactly 1 on chromatic pixels of a protected hue."""
        curve = hue_protection(self.protected_hues, max(self.feather_deg, 2 * abs(shift_deg)))
        mask = np.take(curve, (hue_HW * np.float32(BINS / 360)).astype(np.int32), mode="clip")
        mask *= np.clip((chroma_HW * 255 - GREY) / (CHROMATIC - GREY), 0, 1)
        radius = self.feather_space * min(mask.shape)
        if radius < 0.5:
            return mask
        reach = 2 * math.ceil(radius / 2) + 1
        wide = cv2.dilate(mask, np.ones((reach, reach), np.uint8))
        return np.maximum(mask, cv2.GaussianBlur(wide, (0, 0), radius / 2))


def _round_extremes(saturation_HW: NDArray[np.float32], value_HW: NDArray[np.float32]) -> None:
    """Make the largest and the smallest channel whole 8-bit numbers, in place; the middle one follows from them."""
    largest = np.rint(value_HW * 255)
    smallest = np.rint(value_HW * 255 * (1 - saturation_HW))
    np.multiply(largest, np.float32(1 / 255), out=value_HW)
    np.subtract(1, smallest / np.maximum(largest, 1), out=saturation_HW)
