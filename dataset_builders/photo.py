"""One photo: decode it fully, bring it to upright 8-bit RGB, say in one sentence why when that is impossible."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageFile, ImageOps

from dataset_builders.errors import PhotoError

__all__ = ["DecodedPhoto", "decode_photo", "encode_png"]

# JPEG includes the MPO of phones. No EPS or PDF: those start programs. HEIC and raw formats are not in Pillow.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
# Formats that every reader of the data set decodes to the same pixels, as they are.
_PLAIN_FORMATS = frozenset({"JPEG", "PNG"})
_SIXTEEN_BIT = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_NO_RANGE = frozenset({"F", "I"})
_ORIENTATION = 0x0112
_PNG_DEPTH_AT = 24  # byte of the bit depth in a PNG's header chunk

# What Pillow's decoders raise on broken files. Others are bugs and keep their traceback.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError, TypeError)


class DecodedPhoto:
    """A decoded photo.

    Attributes:
        image: Upright, RGB, 8 bit, first frame, alpha composed over white.
        plain: True when the file itself decodes to exactly that in every reader, so it can be used as it is.
    """

    __slots__ = ("image", "plain")

    def __init__(self, image: Image.Image, *, plain: bool) -> None:
        self.image = image
        self.plain = plain


def decode_photo(raw: bytes, *, max_pixels: int) -> DecodedPhoto:
    """Decode a photo's bytes fully.

    Args:
        raw: The file's bytes.
        max_pixels: Largest width x height that is decoded; the header is asked first.

    Raises:
        PhotoError: The bytes are no photo, are broken, or are too large. The message is one sentence.
    """
    if not raw:
        raise PhotoError("empty file (0 bytes)")
    # Our own limit is asked below, before anything is decoded; a truncated file must raise, not turn grey.
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.init()  # loads the plug-ins; does nothing the next time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about metadata, which is not used, and do not name the file
            return _decode(raw, max_pixels)
    except PhotoError:
        raise
    except Image.UnidentifiedImageError:
        raise PhotoError(f"not a photo in a known format ({', '.join(FORMATS)}); starts with {raw[:12]!r}") from None
    except _BROKEN as error:
        raise PhotoError(f"broken photo: {error}") from None


def encode_png(image: Image.Image) -> bytes:
    """Encode an RGB image as PNG without any metadata; the same pixels give the same bytes."""
    clean = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    buffer = io.BytesIO()
    clean.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def _decode(raw: bytes, max_pixels: int) -> DecodedPhoto:
    with Image.open(io.BytesIO(raw), formats=FORMATS) as opened:
        width, height = opened.size
        if width * height > max_pixels:
            raise PhotoError(f"{width} x {height} pixels are over the limit of {max_pixels} (`max_pixels`)")
        if opened.format == "PNG":
            # load() does not look at the checksums of the pixel data; verify() does, and spends the object.
            opened.verify()
    with Image.open(io.BytesIO(raw), formats=FORMATS) as opened:
        opened.load()
        plain = _is_plain(opened, raw)
        image = opened.copy() if plain else _to_rgb(ImageOps.exif_transpose(opened))
    return DecodedPhoto(image, plain=plain)


def _is_plain(opened: ImageFile.ImageFile, raw: bytes) -> bool:
    return (
        opened.format in _PLAIN_FORMATS
        and opened.mode == "RGB"
        and getattr(opened, "n_frames", 1) == 1
        and "transparency" not in opened.info
        and opened.getexif().get(_ORIENTATION, 1) == 1
        and not (opened.format == "PNG" and raw[_PNG_DEPTH_AT] > 8)
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB, 8 bit, alpha over white."""
    if image.mode in _SIXTEEN_BIT:
        # convert() would clip at 255 and turn nearly every pixel white.
        grey_HW = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey_HW + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in _NO_RANGE:
        raise PhotoError(f"pixels of mode {image.mode} have no defined range; convert the photo to 8 or 16 bit")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(rgba, mask=rgba.getchannel("A"))
        return rgb
    return image.convert("RGB")
