"""What is read from one photo: encoding and light."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from inspect_data import make_photo
from PIL import Image

from dataset_builders.inspect.encoding import FILE_FEATURES, file_features, read_encoding
from dataset_builders.inspect.light import LIGHT_FEATURES, measure_light
from dataset_builders.manifest import ManifestRow


def _reopened(**options: object) -> Image.Image:
    buffer = io.BytesIO()
    make_photo(0).save(buffer, **{"format": "JPEG", **options})
    return Image.open(buffer)


@pytest.mark.parametrize("quality", [20, 30, 40, 50, 60, 75, 85, 95, 100])
def test_quality_is_estimated(quality: int) -> None:
    encoding = read_encoding(_reopened(quality=quality))
    assert encoding.jpeg
    assert abs(encoding.quality - quality) <= 1


def test_encodings_differ_where_files_do() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Kamera <b>", "X1"
    plain, tagged = read_encoding(_reopened(quality=80)), read_encoding(_reopened(quality=80, exif=exif))
    assert (plain.exif, plain.camera) == (False, "")
    assert (tagged.exif, tagged.camera) == (True, "Kamera <b> X1")
    assert plain.tables == tagged.tables != read_encoding(_reopened(quality=70)).tables
    assert read_encoding(_reopened(subsampling=0)).subsampling == 0
    assert read_encoding(_reopened(progressive=True)).progressive
    png = read_encoding(_reopened(format="PNG"))
    assert not png.jpeg
    assert math.isnan(png.quality)


def test_file_features_name_sizes_and_number_cameras_by_frequency() -> None:
    row = ManifestRow(sample_id="a", source="s", name="a", position=0, split="train", width=200, height=100, bytes=4000)
    exif = Image.Exif()
    exif[0x010F] = "rare"
    encodings = [read_encoding(_reopened()), read_encoding(_reopened()), read_encoding(_reopened(exif=exif))]
    table = file_features([row] * 3, encodings)
    columns = dict(zip(FILE_FEATURES, table.T, strict=True))
    assert columns["aspect"].tolist() == [2, 2, 2]
    assert columns["bytes_per_pixel"].tolist() == [0.2] * 3
    assert columns["camera"].tolist() == [0, 0, 1]
    assert file_features([], []).shape == (0, len(FILE_FEATURES))


def test_light() -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    light = dict(zip(LIGHT_FEATURES, measure_light(red), strict=True))
    assert light["brightness"] == pytest.approx(0.299 * 200, abs=1e-3)
    assert light["contrast"] == pytest.approx(0, abs=1e-3)
    assert light["sharpness"] == pytest.approx(0, abs=1e-3)
    assert light["saturation"] == light["red_cast"] == 200
    assert measure_light(np.full((4, 4, 3), 255, np.uint8))[-1] == 1
    sharp = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    blurred = np.asarray(Image.fromarray(sharp).resize((16, 16)).resize((64, 64)))
    at = LIGHT_FEATURES.index("sharpness")
    assert measure_light(sharp)[at] > 5 * measure_light(blurred)[at]
