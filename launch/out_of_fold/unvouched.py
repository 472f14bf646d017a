"""Predictions of which nothing says that their model had not seen the photos."""

from __future__ import annotations

from collections.abc import Sequence

from dataset_builders.stores import Location
from launch.out_of_fold.run import MARKER_NAME

__all__ = ["notes_on_unvouched"]


def notes_on_unvouched(directories: Sequence[Location], consequence: str) -> list[str]:
    """A note for each predictions directory that lies in no out-of-fold run; ``consequence`` is a sentence's rest.

    No error: an own model that never saw the photos, or the main model's validation photos, are as good.
    """
    return [
        f"note: no {MARKER_NAME} beside {directory} says that its model had not seen these photos. One that was "
        f"trained on them {consequence}; `riskfuse out-of-fold` makes others"
        for directory in directories
        if not (directory.parent / MARKER_NAME).is_file()
    ]
