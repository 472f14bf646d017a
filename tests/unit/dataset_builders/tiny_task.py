"""A tiny task card and photos without files, for the tests of the builders."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

CARD: dict[str, Any] = {
    "task": "tiny",
    "title": "Three grades",
    "ladder": [
        {"id": "hot", "text": "危险", "weight": 2.0, "rule": "burns", "aliases": ["2"]},
        {"id": "warm", "text": "注意", "rule": "may burn"},
        {"id": "cold", "text": "安全", "rule": "does not burn"},
    ],
    "fallback": "cold",
    "base": {"system": "Rules:\n{rules}", "user": "One of {answers}."},
    "specialists": [
        {
            "name": "second",
            "targets": ["hot"],
            "positive": {"id": "present", "text": "有"},
            "negative": {"id": "absent", "text": "无"},
            "prompt": {"system": "Look twice.", "user": "{answers}?"},
        }
    ],
    "pixel_budget": {"min_pixels": 784, "max_pixels": 28224},
}


def make_photo(seed: int, size: tuple[int, int] = (32, 24)) -> Image.Image:
    """Coarse noise: photos of different seeds are no near-duplicates, and JPEG hardly changes them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
