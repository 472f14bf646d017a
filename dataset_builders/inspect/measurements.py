"""One reading of every photo: thumbnail, light and encoding, in parallel; everything else works on these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataset_builders.errors import DataError
from dataset_builders.inspect.encoding import Encoding, read_encoding
from dataset_builders.inspect.light import LIGHT_FEATURES, measure_light
from dataset_builders.inspect.thumbnails import THUMBNAIL_SIDE, grey_thumbnail
from dataset_builders.manifest import ManifestRow
from dataset_builders.processes import map_in_processes
from dataset_builders.progress import track

__all__ = ["Measurements", "measure_photos"]

_CHUNK = 16  # photos that a worker fetches at once
_SIDE = 128  # light is measured on a copy whose longer side has at most this many pixels, so that sizes compare


@dataclass(frozen=True, slots=True)
class Measurements:
    """What was measured of N photos.

    Attributes:
        greys_NHW: Grey thumbnails, uint8, shape (N, 64, 64).
        light_NF: Columns ``LIGHT_FEATURES``, float64.
        encodings: How each file is encoded, N.
    """

    greys_NHW: NDArray[np.uint8]
    light_NF: NDArray[np.float64]
    encodings: list[Encoding]


def measure_photos(dataset_dir: Path, rows: Sequence[ManifestRow], *, workers: int) -> Measurements:
    """Read every photo once.

    Args:
        dataset_dir: The data set directory.
        rows: Usable rows.
        workers: Number of processes. 1 works in this process. The result is the same for any number.

    Raises:
        DataError: A photo that the build verified is gone or broken now, or a worker process died.
    """
    files = [dataset_dir / row.image for row in rows]
    read = map_in_processes(
        _measure,
        files,
        workers=min(workers, -(-len(files) // _CHUNK) or 1),
        chunk=_CHUNK,
        remedy="lower --workers",
    )
    measured = list(track(read, total=len(files), title="photos"))
    return Measurements(
        np.stack([grey for grey, _, _ in measured])
        if measured
        else np.zeros((0, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8),
        np.array([light for _, light, _ in measured], dtype=np.float64).reshape(-1, len(LIGHT_FEATURES)),
        [encoding for _, _, encoding in measured],
    )


Measured = tuple[NDArray[np.uint8], NDArray[np.float64], Encoding]


def _measure(file: Path) -> Measured:
    try:
        with Image.open(file) as opened:
            encoding = read_encoding(opened)
            opened.draft("RGB", (2 * _SIDE, 2 * _SIDE))  # a JPEG decodes at a fraction of its size
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file}: the photo does not decode any more ({error}); run `riskfuse build` again") from error
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return grey_thumbnail(image), measure_light(np.asarray(image)), encoding
