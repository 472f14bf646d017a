"""The photos that fusion speaks about: rows of the manifest with what all models said about them.

Columns, not row objects: a million photos fit in a few hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataset_builders.errors import DataError
from dataset_builders.manifest import MANIFEST_NAME, OK
from dataset_builders.task_card import TaskCard
from fusion.predictions import Predictions, check_photos

__all__ = ["UNLABELLED", "Rows", "read_manifest_columns", "read_rows"]

UNLABELLED = -1
COLUMNS = ("sample_id", "source", "name", "position", "label", "split", "fold", "group", "parent", "status", "reason")
REPEATED = ("source", "split")  # few distinct texts; an object for each of a million rows takes 80 MB


@dataclass(frozen=True)
class Rows:
    """N rows of the manifest, in its order, with the log-probabilities of the base model and of S specialists.

    Attributes:
        table: The manifest's columns that fusion needs, see ``COLUMNS``.
        labels_N: Class index of every row; ``UNLABELLED`` where the label is not known.
        base_logps_NK: Natural log-probabilities of the base model; NaN where it has no answer.
        looks_SN2: Those of the specialists, the positive answer first; NaN without a second look.
        base_errors: Arrow strings: why the base model has no answer; empty where it has one.
        look_errors: For each specialist Arrow strings: why there is no second look; empty where there is one.
    """

    table: pa.Table
    labels_N: NDArray[np.int64]
    base_logps_NK: NDArray[np.float64]
    looks_SN2: NDArray[np.float64]
    base_errors: pa.Array
    look_errors: tuple[pa.Array, ...]

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """True where the base model has an answer, shape (N,)."""
        return np.isfinite(self.base_logps_NK.max(axis=1))

    @property
    def second_looks_SN(self) -> NDArray[np.bool_]:  # noqa: N802 - an array's name carries its axes
        """True where a specialist has an answer."""
        return np.isfinite(self.looks_SN2.max(axis=2))

    def take(self, mask_N: NDArray[np.bool_]) -> Rows:
        """The rows where the mask is True."""
        keep = pa.array(mask_N)
        return Rows(
            table=self.table.filter(keep),
            labels_N=self.labels_N[mask_N],
            base_logps_NK=self.base_logps_NK[mask_N],
            looks_SN2=self.looks_SN2[:, mask_N],
            base_errors=self.base_errors.filter(keep),
            look_errors=tuple(errors.filter(keep) for errors in self.look_errors),
        )

    @property
    def group_N(self) -> NDArray[np.int64]:  # noqa: N802 - an array's name carries its axes
        """A number for every row, the same for near-duplicates."""
        group_N = self.column("group").astype(np.int64)
        return np.where(group_N >= 0, group_N, -1 - np.arange(len(group_N)))

    def keys(self) -> list[str]:
        """One text a row: near-duplicates share a number; a photo without one stands for itself."""
        columns = (self.column("group").tolist(), self.column("sample_id").tolist())
        return [f"group {group}" if group >= 0 else f"photo {one}" for group, one in zip(*columns, strict=True)]

    def column(self, name: str) -> NDArray:
        """A column of the manifest as a NumPy array; values of ``REPEATED`` columns are objects that rows share."""
        if name not in REPEATED:
            return self.table[name].to_numpy()
        coded = self.table[name].combine_chunks().dictionary_encode()
        return coded.dictionary.to_numpy(zero_copy_only=False)[coded.indices.to_numpy(zero_copy_only=False)]


def read_rows(
    dataset_dir: str | Path,
    card: TaskCard,
    base: Predictions,
    specialists: Mapping[str, Predictions],
    *,
    folds: Collection[int] = (),
) -> tuple[Rows, list[str]]:
    """Read the validation and test rows of a data set directory and join all models' predictions.

    A photo that is in the data set must have a row of the base model: leaving it out would shorten the submission.
    A specialist may look at some photos only.

    Args:
        dataset_dir: Data set directory.
        card: The task.
        base: The base model's predictions.
        specialists: Those of the specialists.
        folds: Training photos of these folds are read too, without augmented copies.

    Returns:
        The rows, and notes for the user about what is incomplete but allowed.

    Raises:
        DataError: No manifest, unknown labels, predictions of photos that the data set does not have, or photos
            without a base prediction.
    """
    path = Path(dataset_dir) / MANIFEST_NAME
    table = read_manifest_columns(dataset_dir)
    wanted = _wanted(table, folds)
    keep = wanted.to_numpy().astype(bool)
    sha256s = read_manifest_columns(dataset_dir, ["sha256"])["sha256"]
    base_at, *looks_at = (_find(said, table, sha256s, path)[keep] for said in (base, *specialists.values()))
    del sha256s
    table = table.filter(wanted).combine_chunks()
    sample_ids = table["sample_id"].combine_chunks()
    usable = pc.equal(table["status"], OK).to_numpy().astype(bool)
    base_logps, base_errors = _join(base, base_at)
    lost = usable & (base_at < 0)
    if lost.any():
        names = sample_ids.filter(pa.array(lost)).to_pylist()
        raise DataError(
            f"{base.directory}: {len(names)} photos of {path} have no row; run `riskfuse predict` on the splits "
            f"val and test{', and `riskfuse out-of-fold` on the folds' if folds else ''}: {', '.join(names[:10])}"
        )
    reasons = pc.binary_join_element_wise("quarantined", table["reason"], ": ")
    base_errors = _flat(pc.if_else(pa.array(usable), base_errors, reasons))
    base_logps[~usable] = np.nan
    looks_SN2 = np.full((len(specialists), len(table), 2), np.nan)
    look_errors, notes = [], []
    for s, ((name, predictions), at) in enumerate(zip(specialists.items(), looks_at, strict=True)):
        logps, errors = _join(predictions, at)
        looks_SN2[s, usable] = logps[usable]
        look_errors.append(_flat(errors))
        if unseen := int((usable & (at < 0)).sum()):
            notes.append(f"{unseen} of {len(table)} photos were not shown to {name}: coefficient 1")
    labels_N = _label_indices(table, card, path)
    return Rows(table, labels_N, base_logps, looks_SN2, base_errors, tuple(look_errors)), notes


def read_manifest_columns(dataset_dir: str | Path, columns: Sequence[str] = COLUMNS) -> pa.Table:
    """Read columns of the manifest.

    Raises:
        DataError: There is no manifest, or it lacks a column.
    """
    path = Path(dataset_dir) / MANIFEST_NAME
    if not path.is_file():
        raise DataError(f"{path}: no such file; make the data set with `riskfuse build CONFIG.yaml`")
    missing = [name for name in columns if name not in pq.read_schema(path).names]
    if missing:
        raise DataError(f"{path}: lacks the columns {', '.join(missing)}; run `riskfuse build` again")
    return pq.read_table(path, columns=list(columns))


def _wanted(table: pa.Table, folds: Collection[int]) -> pa.ChunkedArray:
    """Validation and test rows, and originals among the training rows of the folds."""
    wanted = pc.is_in(table["split"], value_set=pa.array(["val", "test"]))
    if not folds:
        return wanted
    held_out = pc.and_(
        pc.is_in(table["fold"], value_set=pa.array(sorted(folds), pa.int8())), pc.is_null(table["parent"])
    )
    return pc.or_(wanted, held_out)


def _find(predictions: Predictions, table: pa.Table, sha256s: pa.ChunkedArray, path: Path) -> NDArray[np.int64]:
    """The prediction of every row of the manifest; -1 where there is none.

    Raises:
        DataError: There are predictions of photos that the manifest does not have, or has as other pictures.
    """
    sample_ids = table["sample_id"].combine_chunks()
    at = predictions.positions(sample_ids)
    if len(at[at >= 0]) < len(predictions):
        known = pc.is_in(predictions.sample_ids, value_set=sample_ids)
        strangers = predictions.sample_ids.filter(pc.invert(known)).to_pylist()
        raise DataError(
            f"{predictions.directory}: {len(strangers)} rows are of photos that {path} does not have, so the "
            f"predictions belong to another data set: {', '.join(strangers[:10])}"
        )
    check_photos(predictions, at, sha256s)
    return at


def _join(predictions: Predictions, at: NDArray[np.int64]) -> tuple[NDArray[np.float64], pa.Array]:
    """Log-probabilities and errors of the predictions at these positions; NaN and a reason where -1."""
    seen = at >= 0
    logps = predictions.logps_NK[np.where(seen, at, 0)]
    logps[~seen] = np.nan
    errors = pc.if_else(pa.array(seen), predictions.errors.take(pa.array(np.where(seen, at, 0))), "not predicted")
    return logps, errors


def _label_indices(table: pa.Table, card: TaskCard, path: Path) -> NDArray[np.int64]:
    labels = table["label"].combine_chunks()
    unknown = sorted(set(pc.unique(labels.drop_null()).to_pylist()) - set(card.label_ids))
    if unknown:
        raise DataError(
            f"{path}: labels {', '.join(unknown)} are not in the card of task {card.task!r} "
            f"({', '.join(card.label_ids)}); give the card that the data set was built with"
        )
    found = pc.index_in(labels, value_set=pa.array(card.label_ids), skip_nulls=True)
    return pc.fill_null(found, UNLABELLED).to_numpy(zero_copy_only=False).astype(np.int64)


def _flat(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
