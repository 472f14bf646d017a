"""Reads what the base stage says about photos: one row of log-probabilities a photo, from predictions directories."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataset_builders.errors import DataError
from dataset_builders.manifest import PHOTOS_KEY, ManifestRow, photos_sha256
from dataset_builders.stores import Location, each, listed, location
from dataset_builders.task_card import TaskCard

__all__ = ["LogProbabilities", "read_log_probabilities"]

_MARKER = "predictions.json"
_OK = "ok"


@dataclass(frozen=True, slots=True)
class LogProbabilities:
    """What was read.

    Attributes:
        logp_K_of: Sample id → natural log-probabilities of the card's labels in its order, float64 of shape (K,),
            normalised over the labels; failed photos are missing.
        directory_of: Sample id → directory that holds it; failed photos too.
        hashes: Hash of every file that was read, by directory number and file name, so that it does not depend on
            where the directories lie.
        photos_of: Directory → hash of its pictures, empty when its run did not say, and its sample ids in order.
    """

    logp_K_of: dict[str, NDArray[np.float64]]
    directory_of: dict[str, Location]
    hashes: dict[str, str]
    photos_of: dict[Location, tuple[str, list[str]]]

    def check_photos(self, rows: Sequence[ManifestRow]) -> None:
        """Refuse what the model said about other pictures of the same names.

        Args:
            rows: Of the manifest. A directory with photos that are not among them is passed over.

        Raises:
            DataError: The rows' pictures are not those that were predicted.
        """
        sha256_of = {row.sample_id: row.sha256 for row in rows}
        for directory, (expected, ids) in self.photos_of.items():
            found = [sha256_of.get(one) for one in ids] if expected else [None]
            if None not in found and photos_sha256(pa.array(found, pa.string())) != expected:
                raise DataError(
                    f"{directory}: the photos of the data set have changed since they were predicted, though not their "
                    "names; run the same prediction again"
                )


def read_log_probabilities(predictions_dirs: Sequence[str | Location], card: TaskCard) -> LogProbabilities:
    """Read the base stage's predictions.

    Args:
        predictions_dirs: Complete predictions directories, paths or URIs; no photo may be in two of them.
        card: The task card.

    Raises:
        DataError: A directory is no complete set of predictions of the base stage, or a photo is in two of them.
    """
    found = LogProbabilities({}, {}, {}, {})
    for number, directory in enumerate(map(location, predictions_dirs)):
        if not (directory / _MARKER).is_file():
            raise DataError(
                f"{directory / _MARKER}: no such file, so the predictions are not complete; run riskfuse predict"
            )
        marker = json.loads((directory / _MARKER).read_text(encoding="utf-8"))
        found.photos_of[directory] = (marker.get(PHOTOS_KEY, ""), [])
        parts = listed(directory, "part-*.parquet")
        for part, content in zip(parts, each(lambda path: path.read_bytes(), parts), strict=True):
            found.hashes[f"{number}/{part.name}"] = hashlib.sha256(content).hexdigest()
            ids, logp_NK, known_N = _read_part(part, content, card)
            found.photos_of[directory][1].extend(ids)
            for sample_id, logp_K, known in zip(ids, logp_NK, known_N, strict=True):
                if (other := found.directory_of.get(sample_id)) is not None:
                    raise DataError(f"{part}: {sample_id!r} is also in {other}; a photo needs one prediction")
                found.directory_of[sample_id] = directory
                if known:
                    found.logp_K_of[sample_id] = logp_K
    if not found.directory_of:
        raise DataError(f"{', '.join(map(str, predictions_dirs))}: no predictions; run riskfuse predict first")
    return found


def _read_part(
    path: Location, content: bytes, card: TaskCard
) -> tuple[list[str], NDArray[np.float64], NDArray[np.bool_]]:
    """Sample ids, log-probabilities normalised over the labels, and which rows have any."""
    columns = [f"logp_{label_id}" for label_id in card.label_ids]
    try:
        table = pq.read_table(pa.BufferReader(content))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({error}); predict again") from error
    missing = [name for name in ("sample_id", "status", *columns) if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: lacks the columns {', '.join(missing)}; "
            f"expected predictions of the base stage of task {card.task!r}"
        )
    known_N = np.array([status == _OK for status in table["status"].to_pylist()], dtype=bool)
    logp_NK = np.stack([table[name].to_numpy() for name in columns], axis=1).astype(np.float64)
    bad = np.flatnonzero(known_N & np.isnan(logp_NK).any(axis=1))
    if bad.size:
        raise DataError(f"{path}: row {bad[0]} is {_OK} but has no log-probabilities; predict again")
    # Nothing but -inf is no opinion about the photo: unknown, as a failed row.
    known_N &= ~np.isneginf(logp_NK).all(axis=1)
    logp_NK = np.where(known_N[:, None], logp_NK, 0.0)
    logp_NK -= np.logaddexp.reduce(logp_NK, axis=1, keepdims=True)
    return table["sample_id"].to_pylist(), logp_NK, known_N
