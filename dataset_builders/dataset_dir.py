"""The data set directory as a whole: whose it is, clearing it, and whether it is complete."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from dataset_builders.errors import DataError
from dataset_builders.files import content_hash, file_sha256, write_text
from dataset_builders.ingest import IMAGES
from dataset_builders.manifest import MANIFEST_NAME
from dataset_builders.task_card import TaskCard

__all__ = ["FOLDS", "MARKER", "PARTS", "check_task", "clear_dataset_dir", "is_complete", "photo_sizes", "read_marker"]

MARKER = "build.json"
PARTS = ".augment_parts"  # sub-directory of what a killed `riskfuse augment` has finished
FOLDS = "folds"  # sub-directory of the training sets that leave one fold out

# Says from the first moment that the directory is ours, so that a killed build may be done again.
_OWNER = ".riskfuse-dataset"


def clear_dataset_dir(dataset_dir: Path) -> None:
    """Make an empty data set directory; what an earlier build wrote there is removed, the marker first.

    Raises:
        DataError: The path is a file, or a directory that is not empty and was not made by a build.
    """
    if dataset_dir.exists() and not dataset_dir.is_dir():
        raise DataError(f"{dataset_dir}: is a file; `out` must name a directory")
    ours = (dataset_dir / _OWNER).is_file()
    if dataset_dir.is_dir() and not ours and any(dataset_dir.iterdir()):
        raise DataError(
            f"{dataset_dir}: is not empty and no RiskFuse data set, so it is not touched; "
            "choose another `out`, or empty the directory yourself"
        )
    if ours:
        (dataset_dir / MARKER).unlink(missing_ok=True)
        for path in (*dataset_dir.glob("*.json"), *dataset_dir.glob(".*.tmp"), dataset_dir / MANIFEST_NAME):
            path.unlink(missing_ok=True)
        for name in (IMAGES, FOLDS, PARTS):
            if (dataset_dir / name).exists():
                shutil.rmtree(dataset_dir / name)
    write_text(dataset_dir / _OWNER, "Made by `riskfuse build`, which may clear this directory.\n")


def read_marker(dataset_dir: str | Path, name: str = MARKER) -> dict[str, Any]:
    """Read ``build.json``, or another completion marker of the directory.

    Raises:
        DataError: The data set is not complete.
    """
    path = Path(dataset_dir) / name
    if not path.is_file():
        raise DataError(f"{path}: no such file, so the data set is not complete; run `riskfuse build CONFIG.yaml`")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); remove it and run the command again") from error


def check_task(dataset_dir: Path, marker: dict[str, Any], card: TaskCard) -> None:
    """Check that a data set was built for a task card.

    Args:
        dataset_dir: The data set, for the message.
        marker: Its ``build.json``.
        card: The task card that a person gave.

    Raises:
        DataError: Task or labels differ.
    """
    got = (marker["task"], tuple(marker["labels"]))
    if got != (card.task, card.label_ids):
        raise DataError(
            f"{dataset_dir}: built for task {got[0]!r} with the labels {', '.join(got[1])}; the task card is for "
            f"{card.task!r} with {', '.join(card.label_ids)}: give the card of the build"
        )


def is_complete(dataset_dir: Path, fingerprint: str) -> bool:
    """True when a finished build of exactly these inputs is there, no file changed, no photo gone or of other size."""
    if not (dataset_dir / MARKER).is_file():
        return False
    marker = read_marker(dataset_dir)
    if marker.get("fingerprint") != fingerprint:
        return False
    for name, sha256 in marker["files"].items():
        path = dataset_dir / name
        if not path.is_file() or file_sha256(path) != sha256:
            return False
    sizes = photo_sizes(dataset_dir)
    return marker.get("photos", sizes) == sizes  # markers of earlier builds have no such entry


def photo_sizes(dataset_dir: Path) -> str:
    """Hash of names and sizes of all photos below ``images/``, for ``build.json``; reading them would take too long."""
    images = dataset_dir / IMAGES
    # What a killed run has left half written is no photo.
    files = [path for path in images.rglob("*") if path.is_file() and path.suffix != ".tmp"]
    return content_hash(sorted([path.relative_to(images).as_posix(), path.stat().st_size] for path in files))
