"""``decisions.parquet``: what every system makes of every test photo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_builders.files import atomic_path
from dataset_builders.task_card import TaskCard
from fusion.rows import Rows
from fusion.systems import SYSTEMS, UNDECIDED, Applied

__all__ = ["DECISIONS_NAME", "write_decisions"]

DECISIONS_NAME = "decisions.parquet"
ROW_GROUP = 1 << 17
REPEATED = ("source", "label", *SYSTEMS, "submitted")


def write_decisions(
    out: Path, card: TaskCard, specialists: Sequence[str], test: Rows, applied: Applied, submitted: pa.Array
) -> None:
    """Write one row a test photo, atomically.

    Columns: ``sample_id``, ``source``, ``name``, ``label`` (null when unknown); ``p_base_<label>`` (calibrated); by
    specialist ``<name>_positive`` (calibrated) and ``<name>_coefficient``; ``p_fused_<label>``; one label column a
    system (null where base has no answer); ``submitted``; ``base_error`` and by specialist ``<name>_error`` (empty
    where the model answered).

    Args:
        out: Fusion directory.
        card: Knows the labels.
        specialists: Names of the specialists.
        test: The test rows.
        applied: What the systems make of them.
        submitted: Label identifier that is submitted for each.
    """

    def table(start: int) -> pa.Table:
        return _table(card, specialists, test, applied, submitted, slice(start, start + ROW_GROUP))

    first = table(0)
    # A dictionary pays where values repeat; of a million different numbers it costs more time than the rest.
    coded = [*REPEATED, *(name for name in first.column_names if name.endswith("_error"))]
    with (
        atomic_path(out / DECISIONS_NAME) as temporary,
        pq.ParquetWriter(temporary, first.schema, compression="zstd", use_dictionary=coded) as writer,
    ):
        writer.write_table(first)
        del first
        for start in range(ROW_GROUP, len(test), ROW_GROUP):
            writer.write_table(table(start))


def _table(
    card: TaskCard, specialists: Sequence[str], test: Rows, applied: Applied, submitted: pa.Array, rows: slice
) -> pa.Table:
    """The columns of these rows; of a million photos they do not all have to be in memory once more."""
    manifest = test.table.slice(rows.start, rows.stop - rows.start)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        name: manifest[name] for name in ("sample_id", "source", "name", "label")
    }
    base, fused = np.exp(applied.base_logps_NK[rows]), np.exp(applied.fused_logps_NK[rows])
    columns |= {f"p_base_{label}": pa.array(base[:, k]) for k, label in enumerate(card.label_ids)}
    for s, name in enumerate(specialists):
        columns[f"{name}_positive"] = pa.array(applied.positive_SN[s, rows])
        columns[f"{name}_coefficient"] = pa.array(applied.kappa_SN[s, rows])
    columns |= {f"p_fused_{label}": pa.array(fused[:, k]) for k, label in enumerate(card.label_ids)}
    label_ids = pa.array(card.label_ids)
    for system in SYSTEMS:
        found = applied.labels[system][rows]
        columns[system] = label_ids.take(pa.array(found, mask=found == UNDECIDED))
    columns["submitted"] = submitted[rows]
    columns["base_error"] = test.base_errors[rows]
    # A photo that nobody could read has its reason in base_error.
    answered = pa.array(test.answered[rows])
    for name, errors in zip(specialists, test.look_errors, strict=True):
        columns[f"{name}_error"] = pc.if_else(answered, errors[rows], "")
    return pa.table(columns)
