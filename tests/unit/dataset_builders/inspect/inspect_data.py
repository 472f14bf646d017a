"""Small data set directories, written without a build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dataset_builders.files import file_sha256, write_json
from dataset_builders.manifest import ManifestRow, write_manifest

LABELS = ["hot", "warm", "cold"]


def make_photo(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Smooth noise of random light: unlike the photos of all other seeds."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 9, 3)) * rng.uniform(0.5, 1) + rng.uniform(0, 60)
    return Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def write_dataset(
    out: Path,
    count: int,
    photo: Callable[[int, str], Image.Image] = lambda index, label: make_photo(index),
    name: Callable[[int], str] = lambda index: f"p{index:04d}.jpg",
    **fields: Callable[[int], Any],
) -> list[ManifestRow]:
    """Write a complete data set of ``count`` photos; labels take turns, every fifth photo is val.

    ``fields`` give columns of the manifest by index.
    """
    rows = []
    for index in range(count):
        label = LABELS[index % len(LABELS)]
        image = f"images/train/{name(index)}"
        path = out / image
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = photo(index, label)
        picture.save(path, quality=90)
        split = "val" if index % 5 == 4 else "train"
        values: dict[str, Any] = {
            "sample_id": f"train/{name(index)}",
            "source": "train",
            "name": name(index),
            "position": index,
            "split": split,
            "label": label,
            "image": image,
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
            "width": picture.width,
            "height": picture.height,
            "group": index,
            "repeats": int(split == "train"),
        }
        rows.append(ManifestRow(**{**values, **{key: value(index) for key, value in fields.items()}}))
    write_manifest(out, rows)
    write_json(out / "build.json", {"fingerprint": "0123456789abcdef", "task": "tiny", "labels": LABELS})
    return rows
