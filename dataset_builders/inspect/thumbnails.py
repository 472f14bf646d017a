"""Small copies of photos: a grey one to compute with, a coloured one to show in the report."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["THUMBNAIL_SIDE", "data_uri", "grey_thumbnail"]

THUMBNAIL_SIDE = 64
_SHOWN_SIDE = 144
_SHOWN_QUALITY = 72


def grey_thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """Grey copy of an image, uint8, shape (64, 64); the aspect is not kept, so that shapes compare."""
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(image.convert("L").resize(side, Image.Resampling.BOX))


def data_uri(file: Path) -> str:
    """The photo, at most 144 pixels wide and high, as a JPEG in a data URI."""
    with Image.open(file) as opened:
        opened.draft("RGB", (2 * _SHOWN_SIDE, 2 * _SHOWN_SIDE))
        image = opened.convert("RGB")
    image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_SHOWN_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
