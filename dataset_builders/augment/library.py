"""The one way to load albumentations: without asking a server for newer versions and without torch."""

from __future__ import annotations

import os
import sys
from typing import Any

__all__ = ["load_albumentations"]

# The library looks for newer versions when it is imported; a data set build talks to nobody.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def load_albumentations() -> Any:
    """The module ``albumentations``.

    It imports torch, if that is installed, for its ToTensorV2, which no policy can use: seconds and hundreds of MiB in
    every process. An import that finds ``None`` in ``sys.modules`` fails, and the library then goes on without it.
    """
    hidden = "torch" not in sys.modules and "albumentations" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import albumentations
    finally:
        if hidden:
            del sys.modules["torch"]
    return albumentations
