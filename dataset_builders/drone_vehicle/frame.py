"""From a photo of DroneVehicle to the frame that the camera saw: 640 x 512, without the white border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from dataset_builders.errors import PhotoError
from dataset_builders.photo import decode_photo

__all__ = ["BORDER", "BORDERED_SIZE", "FRAME_SIZE", "Frame", "read_frame"]

BORDER = 100  # pixels on every side
FRAME_SIZE = (640, 512)  # width, height
BORDERED_SIZE = (FRAME_SIZE[0] + 2 * BORDER, FRAME_SIZE[1] + 2 * BORDER)

# JPEG blocks (16 pixels with halved colours) that the frame touches ring into the border: they are not looked at.
_CLEAN = 88
_WHITE = 240  # lowest value of a white pixel's channels
_WHITE_SHARE = 0.99  # of a side's pixels; JPEG and a stray mark may change a few

_MAX_PIXELS = 10_000_000  # nothing of this data set is near it


@dataclass(frozen=True, slots=True)
class Frame:
    """What the camera saw.

    Attributes:
        image: RGB, ``FRAME_SIZE``.
        size: Width and height of the file, with its border if it has one.
        plain: True when the file itself is the frame and every reader decodes it to these pixels.
    """

    image: Image.Image
    size: tuple[int, int]
    plain: bool


def read_frame(raw: bytes) -> Frame:
    """Decode a photo and cut off its border.

    Raises:
        PhotoError: It does not decode, has neither ``BORDERED_SIZE`` nor ``FRAME_SIZE``, or its border is not white.
    """
    photo = decode_photo(raw, max_pixels=_MAX_PIXELS)
    photo.image.info.clear()  # no profile or comment is written into the frame
    width, height = size = photo.image.size
    if size == FRAME_SIZE:
        return Frame(photo.image, size, photo.plain)
    if size != BORDERED_SIZE:
        expected = f"{_text(BORDERED_SIZE)} with a border or {_text(FRAME_SIZE)} without"
        raise PhotoError(f"wrong size: {_text(size)}; expected {expected}")
    side = _dark_side(photo.image)
    if side:
        raise PhotoError(f"no white border of {BORDER} pixels on the {side}, though it is {_text(size)}; crop it")
    box = (BORDER, BORDER, width - BORDER, height - BORDER)
    return Frame(photo.image.crop(box), size, plain=False)


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _dark_side(image: Image.Image) -> str | None:
    """The first side whose border is not white; None when all are."""
    rgb_HWC = np.asarray(image)
    sides = {
        "left": rgb_HWC[:, :_CLEAN],
        "right": rgb_HWC[:, -_CLEAN:],
        "top": rgb_HWC[:_CLEAN],
        "bottom": rgb_HWC[-_CLEAN:],
    }
    for name, strip_HWC in sides.items():
        if (strip_HWC.min(axis=2) >= _WHITE).mean() < _WHITE_SHARE:
            return name
    return None
