"""Who says how probable each label is for a photo. One interface; the first stage's own predictions are one judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dataset_builders.errors import DataError
from dataset_builders.findings import Findings
from dataset_builders.log_probabilities import read_log_probabilities
from dataset_builders.manifest import ManifestRow, read_manifest
from dataset_builders.stores import Location
from dataset_builders.task_card import TaskCard

__all__ = ["Judge", "StageOneJudge"]


class Judge(Protocol):
    """A source of log p(label | photo)."""

    @property
    def identity(self) -> dict[str, Any]:
        """JSON values that decide what the judge says; ``by`` is its name. Cheap to ask for."""
        ...

    def log_probabilities(self, dataset_dir: Path, rows: Sequence[ManifestRow]) -> Mapping[str, NDArray[np.float64]]:
        """Natural log-probabilities of the card's labels, normalised over them.

        Args:
            dataset_dir: Where the rows' images lie.
            rows: The augmented copies and their originals.

        Returns:
            Sample id → float64 of shape (K,), for every row.

        Raises:
            DataError: The judge has no opinion on a row. Names it and the remedy.
        """
        ...


class StageOneJudge:
    """The first stage's predictions, made by models that did not see the photos (``riskfuse out-of-fold``)."""

    def __init__(self, predictions_dirs: Sequence[str | Location], card: TaskCard) -> None:
        self._directories = ", ".join(map(str, predictions_dirs))
        self._found = read_log_probabilities(predictions_dirs, card)

    @property
    def identity(self) -> dict[str, Any]:
        """The name and the hashes of all part files."""
        return {"by": "stage1", "predictions": self._found.hashes}

    def log_probabilities(self, dataset_dir: Path, rows: Sequence[ManifestRow]) -> Mapping[str, NDArray[np.float64]]:
        """As ``Judge.log_probabilities``.

        Raises:
            DataError: A photo has no prediction, or a copy and its original were not scored by the same model.
        """
        found = self._found
        found.check_photos(read_manifest(dataset_dir))
        missing = Findings()
        for row in rows:
            if row.sample_id not in found.logp_K_of:
                failed = row.sample_id in found.directory_of
                missing.add(f"{row.sample_id}: {'its prediction failed' if failed else 'no prediction'}")
        missing.raise_if_any(
            DataError,
            f"{self._directories}: not every copy and its original in {dataset_dir} has a prediction; score all its "
            f"training photos with `riskfuse out-of-fold … --predict-data {dataset_dir}`, and give --predictions every "
            "directory",
        )
        apart = Findings()
        for row in rows:
            if row.parent is not None and found.directory_of[row.sample_id] != found.directory_of[row.parent]:
                apart.add(
                    f"{row.sample_id} is in {found.directory_of[row.sample_id]}, its original in "
                    f"{found.directory_of[row.parent]}"
                )
        apart.raise_if_any(
            DataError,
            "a copy and its original must be scored by the same model, so they must be in one predictions directory; "
            "score copies and originals of a fold together",
        )
        return found.logp_K_of
