"""The white border is cut off exactly, and only where there is one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dataset_builders.drone_vehicle.frame import BORDERED_SIZE, FRAME_SIZE, read_frame
from dataset_builders.errors import PhotoError


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def bordered(frame: Image.Image, colour: str = "white") -> Image.Image:
    photo = Image.new(frame.mode, BORDERED_SIZE, colour)
    photo.paste(frame, (100, 100))
    return photo


def encode(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_border_is_cropped_to_the_pixel(quality: int) -> None:
    """Noise is the worst case: JPEG rings into the border."""
    raw = encode(bordered(noise(FRAME_SIZE)), "JPEG", quality=quality)
    frame = read_frame(raw)
    whole_HWC = np.asarray(Image.open(io.BytesIO(raw)))
    np.testing.assert_array_equal(np.asarray(frame.image), whole_HWC[100:612, 100:740])
    assert (frame.size, frame.plain) == (BORDERED_SIZE, False)


def test_png_frame_comes_back_as_it_was() -> None:
    frame = noise(FRAME_SIZE)
    np.testing.assert_array_equal(np.asarray(read_frame(encode(bordered(frame), "PNG")).image), np.asarray(frame))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_cropped_photo_is_used_as_it_is(kind: str) -> None:
    frame = read_frame(encode(noise(FRAME_SIZE), kind))
    assert (frame.size, frame.plain) == (FRAME_SIZE, True)


def test_grey_infrared_photo_becomes_rgb() -> None:
    frame = read_frame(encode(bordered(noise(FRAME_SIZE).convert("L")), "PNG"))
    assert frame.image.mode == "RGB"
    assert frame.image.size == FRAME_SIZE


def test_white_frame_is_no_problem() -> None:
    assert read_frame(encode(Image.new("RGB", BORDERED_SIZE, "white"), "PNG")).image.size == FRAME_SIZE


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_every_side_must_be_white(side: str) -> None:
    photo = bordered(noise(FRAME_SIZE))
    width, height = BORDERED_SIZE
    boxes = {
        "left": (0, 100, 30, 400),
        "right": (width - 30, 100, width, 400),
        "top": (200, 0, 500, 30),
        "bottom": (200, height - 30, 500, height),
    }
    photo.paste((60, 60, 60), boxes[side])
    with pytest.raises(PhotoError, match=f"no white border of 100 pixels on the {side}"):
        read_frame(encode(photo, "PNG"))


@pytest.mark.parametrize("size", [(712, 840), (512, 640), (640, 640), (1, 1)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(PhotoError, match="wrong size"):
        read_frame(encode(Image.new("RGB", size, "white"), "PNG"))
