"""Test-time views: the same photo seen more than once, and one answer from all that was seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

__all__ = ["Views", "average_views", "view_photos"]

Views = Literal["none", "flip"]


def view_photos(views: Views, photos: Sequence[Any]) -> list[list[Any]]:
    """Batches to score, the photos as they are first; PIL images in and out, no photo changes its size."""
    from PIL import ImageOps

    batches = [list(photos)]
    if views == "flip":
        batches.append([ImageOps.mirror(photo) for photo in photos])
    return batches


def average_views(logp_VBK: np.ndarray) -> np.ndarray:
    """The mean probability of every answer over V views, as natural log-probabilities [B, K].

    Over all texts, before any renormalisation over the answers: a view that the model answers off the list then counts
    less, as it should (a mixture of the views' predictions; Krizhevsky et al., NIPS 2012, average softmax outputs of
    crops and mirror images so). One view stays bit for bit as it is.
    """
    if len(logp_VBK) == 1:
        return logp_VBK[0]
    return np.logaddexp.reduce(logp_VBK, axis=0) - np.log(len(logp_VBK))
