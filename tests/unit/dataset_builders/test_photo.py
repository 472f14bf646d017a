"""Bytes to upright 8-bit RGB, or one sentence why not."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_task import make_photo

from dataset_builders.errors import PhotoError
from dataset_builders.photo import decode_photo, encode_png

LIMIT = 1_000_000


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def sixteen_bit_rgb_png(rgb_HWC: np.ndarray) -> bytes:
    """Pillow cannot write these, so by the PNG specification: IHDR with depth 16 and colour type 2, filter 0."""
    height, width, _ = rgb_HWC.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb_HWC)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_plain_photos_are_used_as_they_are(kind: str) -> None:
    photo = decode_photo(encoded(make_photo(0), kind), max_pixels=LIMIT)
    assert photo.plain
    assert (photo.image.mode, photo.image.size) == ("RGB", (32, 24))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty file"),
        (b"this is text, not a photo", "not a photo in a known format.*this is text"),
        (encoded(make_photo(0, (200, 200)), "JPEG")[:-1500], "broken photo: .*truncated"),
        (encoded(make_photo(0, (200, 200)), "PNG")[:-1500], "broken photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a photo"),
        (encoded(Image.new("F", (8, 8)), "TIFF"), "no defined range"),
    ],
    ids=["zero-bytes", "text", "truncated-jpeg", "truncated-png", "postscript", "float"],
)
def test_what_is_no_photo_says_why(raw: bytes, reason: str) -> None:
    with pytest.raises(PhotoError, match=reason):
        decode_photo(raw, max_pixels=LIMIT)


def test_flipped_bit_in_png_pixels_is_caught() -> None:
    raw = bytearray(encoded(make_photo(0), "PNG"))
    raw[len(raw) // 2] ^= 1
    with pytest.raises(PhotoError, match="broken photo"):
        decode_photo(bytes(raw), max_pixels=LIMIT)


def test_decompression_bomb_is_refused_by_its_header() -> None:
    # 30,000 x 30,000 pixels, whose data would never decode: only the header may be looked at.
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    raw = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    raw += struct.pack(">I", zlib.crc32(b"IHDR" + header)) + struct.pack(">I", 4) + b"IDATxxxxyyyy"
    with pytest.raises(PhotoError, match="30000 x 30000 pixels are over the limit of 1000000"):
        decode_photo(raw, max_pixels=LIMIT)
    with pytest.raises(PhotoError, match="over the limit of 767"):
        decode_photo(encoded(make_photo(0), "JPEG"), max_pixels=32 * 24 - 1)


def test_cmyk_and_grey_become_rgb() -> None:
    for mode, kind in (("CMYK", "JPEG"), ("CMYK", "TIFF"), ("L", "JPEG"), ("L", "PNG"), ("1", "PNG"), ("P", "PNG")):
        photo = decode_photo(encoded(make_photo(0).convert(mode), kind), max_pixels=LIMIT)
        assert not photo.plain
        assert photo.image.mode == "RGB"


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey_HW = np.array([[0, 257, 32768, 65535, 128, 129]], dtype=np.uint16)
    photo = decode_photo(encoded(Image.fromarray(grey_HW), "PNG"), max_pixels=LIMIT)
    assert not photo.plain
    assert np.asarray(photo.image)[0].tolist() == [[v] * 3 for v in (0, 1, 128, 255, 0, 1)]


def test_sixteen_bit_rgb_is_written_anew() -> None:
    rgb_HWC = np.array([[[0, 32768, 65535], [256, 512, 1024]]], dtype=np.uint16)
    photo = decode_photo(sixteen_bit_rgb_png(rgb_HWC), max_pixels=LIMIT)
    assert not photo.plain
    assert np.abs(np.asarray(photo.image).astype(int) - rgb_HWC // 257).max() <= 1


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue", "green")]
    for kind in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        raw = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        photo = decode_photo(raw, max_pixels=LIMIT)
        assert not photo.plain
        assert photo.image.getpixel((4, 4)) == (255, 0, 0)


def test_transparency_is_laid_over_white() -> None:
    rgba = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert decode_photo(encoded(rgba, "PNG"), max_pixels=LIMIT).image.getpixel((0, 0)) == (255, 255, 255)
    keyed = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    photo = decode_photo(keyed, max_pixels=LIMIT)
    assert not photo.plain
    assert photo.image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_exif_rotation_is_applied(orientation: int, mode: str) -> None:
    image = Image.new("RGB", (40, 20))
    image.paste("white", (0, 0, 20, 10))  # upper left quarter
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(encoded(image.convert(mode), "JPEG", exif=exif, quality=95), max_pixels=LIMIT)
    assert photo.plain == (orientation == 1 and mode == "RGB")
    assert photo.image.size == ((40, 20) if orientation <= 4 else (20, 40))
    # Where row 0 and column 0 of the stored photo lie in the scene (EXIF 2.3, tag Orientation).
    left, top = orientation in (1, 4, 5, 8), orientation in (1, 2, 5, 6)
    width, height = photo.image.size
    corner = (width // 8 if left else width * 7 // 8, height // 8 if top else height * 7 // 8)
    assert photo.image.getpixel(corner)[0] > 200


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_photos_decode_or_say_why(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
    raw = bytearray(encoded(make_photo(0), kind))
    for _ in range(data.draw(st.integers(0, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    try:
        photo = decode_photo(bytes(raw[:cut]), max_pixels=LIMIT)
    except PhotoError:
        return
    assert photo.image.mode == "RGB"


def test_png_bytes_depend_on_pixels_alone() -> None:
    image = make_photo(3)
    marked = image.copy()
    marked.info["icc_profile"] = b"profile"
    marked.info["dpi"] = (300, 300)
    assert encode_png(image) == encode_png(marked)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(image)))), np.asarray(image))
