"""A photo's file: size, format, JPEG quality and tables, EXIF, camera. None of it may tell the label."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from dataset_builders.manifest import ManifestRow

__all__ = ["FILE_FEATURES", "Encoding", "estimate_quality", "file_features", "read_encoding"]

FILE_FEATURES = (
    "width", "height", "aspect", "megapixels", "kilobytes", "bytes_per_pixel", "jpeg", "jpeg_quality",
    "quantisation", "subsampling", "progressive", "exif", "camera",
)  # fmt: skip

_MAKE, _MODEL = 0x010F, 0x0110
_STANDARD_SUM = 3689  # of the luminance table in ITU-T T.81 annex K, quality 50


@dataclass(frozen=True, slots=True)
class Encoding:
    """Encoding of one file.

    Attributes:
        jpeg: False for PNG, which the build writes for what is no plain RGB JPEG or PNG.
        quality: Estimated JPEG quality 1 to 100; NaN for PNG.
        tables: Short hash of the quantisation tables; empty for PNG.
        subsampling: Chroma subsampling as Pillow numbers it (0: 4:4:4, 1: 4:2:2, 2: 4:2:0); −1 when unknown.
        progressive: Whether the JPEG is progressive.
        exif: Whether EXIF data are there.
        camera: Make and model; empty when unknown.
    """

    jpeg: bool
    quality: float
    tables: str
    subsampling: int
    progressive: bool
    exif: bool
    camera: str


def read_encoding(opened: Image.Image) -> Encoding:
    """Read the encoding of a photo that was just opened; pixels are not decoded."""
    exif = opened.getexif()
    camera = " ".join(str(exif[tag]).strip("\0 ") for tag in (_MAKE, _MODEL) if tag in exif)
    if not isinstance(opened, JpegImagePlugin.JpegImageFile):
        return Encoding(False, float("nan"), "", -1, False, bool(exif), camera)
    tables = opened.quantization
    return Encoding(
        jpeg=True,
        quality=estimate_quality(tables[min(tables)]) if tables else float("nan"),
        tables=hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:12],
        subsampling=JpegImagePlugin.get_sampling(opened),
        progressive=bool(opened.info.get("progressive")),
        exif=bool(exif),
        camera=camera,
    )


def estimate_quality(luminance: Sequence[int]) -> float:
    """JPEG quality whose scaled standard table has the same sum: the IJG's scaling (libjpeg, jcparam.c), inverted.

    Args:
        luminance: The 64 values of the luminance quantisation table.

    Returns:
        Quality, exact to about 1 for tables of libjpeg from 20 on; too high below, where values are cut at 255.
    """
    scale = 100 * sum(luminance) / _STANDARD_SUM
    quality = 100 - scale / 2 if scale <= 100 else 5000 / scale
    return float(np.clip(round(quality), 1, 100))


def file_features(rows: Sequence[ManifestRow], encodings: Sequence[Encoding]) -> NDArray[np.float64]:
    """Numbers for a classifier: columns ``FILE_FEATURES``, float64, NaN where unknown.

    Sizes are those of the source's file. Tables and cameras are numbered by how often they occur.
    """
    tables_N = _ranks([encoding.tables for encoding in encodings])
    cameras_N = _ranks([encoding.camera for encoding in encodings])
    values = [
        (
            row.width,
            row.height,
            row.width / max(row.height, 1),
            row.width * row.height / 1e6,
            row.bytes / 1e3,
            row.bytes / max(row.width * row.height, 1),
            encoding.jpeg,
            encoding.quality,
            tables,
            encoding.subsampling,
            encoding.progressive,
            encoding.exif,
            camera,
        )
        for row, encoding, tables, camera in zip(rows, encodings, tables_N, cameras_N, strict=True)
    ]
    return np.array(values, dtype=np.float64).reshape(-1, len(FILE_FEATURES))


def _ranks(values: Sequence[str]) -> list[int]:
    counts = Counter(values)
    order = {value: rank for rank, value in enumerate(sorted(counts, key=lambda value: (-counts[value], value)))}
    return [order[value] for value in values]
