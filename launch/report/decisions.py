"""What every system made of every test photo, read back from the fusion directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataset_builders.errors import DataError
from dataset_builders.task_card import TaskCard
from fusion.decisions_table import DECISIONS_NAME
from fusion.rows import UNLABELLED
from fusion.systems import UNDECIDED

__all__ = ["Decisions", "read_decisions"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Decisions:
    """N test photos in the order of the manifest, K labels, S specialists.

    Attributes:
        table: ``decisions.parquet``.
        specialists: Names of the specialists.
        labels_N: True class index; ``UNLABELLED`` where it is not known.
        base_N: Class index by base, by the decision that was chosen for it; ``UNDECIDED`` where it has no answer.
        fused_N: The same after fusion.
        submitted_N: Class index that is submitted; the fallback's where base has no answer.
        p_base_NK: Calibrated probabilities of base; NaN where it has no answer.
        p_fused_NK: Probabilities after all corrections; NaN where base has no answer.
        positive_SN: Calibrated probability of each specialist's positive answer; NaN without a second look.
        coefficient_SN: The correction coefficients.
    """

    table: pa.Table
    specialists: tuple[str, ...]
    labels_N: Ints
    base_N: Ints
    fused_N: Ints
    submitted_N: Ints
    p_base_NK: Floats
    p_fused_NK: Floats
    positive_SN: Floats
    coefficient_SN: Floats

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def sources(self) -> tuple[str, ...]:
        """Test sources in the manifest's order."""
        return tuple(pc.unique(self.table["source"]).to_pylist())

    def of_source(self, source: str) -> NDArray[np.bool_]:
        """True for the photos of a test source, shape (N,)."""
        return pc.equal(self.table["source"], source).to_numpy().astype(bool)

    def texts(self, column: str, at: Ints) -> list[str]:
        """Texts of a column in some rows."""
        return self.table[column].take(pa.array(at)).to_pylist()


def read_decisions(fusion: Path, card: TaskCard, specialists: tuple[str, ...], chosen: dict[str, str]) -> Decisions:
    """Read ``decisions.parquet``.

    Args:
        fusion: Fusion directory.
        card: Knows the labels.
        specialists: Names of the specialists that fusion knows.
        chosen: System by which base and fused decide, see ``score.json``.

    Raises:
        DataError: The file is missing or was made for another task or with other specialists.
    """
    path = fusion / DECISIONS_NAME
    if not path.is_file():
        raise DataError(f"{path}: no such file; make it with `riskfuse fuse`")
    table = pq.read_table(path)
    ids = card.label_ids
    wanted = ["sample_id", "source", "name", "label", "submitted", "base_error", chosen["base"], chosen["fused"]]
    wanted += [f"p_{system}_{label}" for system in ("base", "fused") for label in ids]
    wanted += [f"{name}_{part}" for name in specialists for part in ("positive", "coefficient")]
    if lacking := [name for name in wanted if name not in table.column_names]:
        raise DataError(f"{path}: lacks the columns {', '.join(lacking)}; fuse again with this task card")

    def stacked(names: list[str]) -> Floats:
        columns: list[Any] = [table[name].to_numpy() for name in names]
        return np.array(columns, dtype=np.float64).reshape(len(names), len(table))

    def indices(name: str, missing: int) -> Ints:
        found = pc.index_in(table[name].cast(pa.string()), value_set=pa.array(ids), skip_nulls=True)
        return pc.fill_null(found, missing).to_numpy().astype(np.int64)

    return Decisions(
        table=table,
        specialists=specialists,
        labels_N=indices("label", UNLABELLED),
        base_N=indices(chosen["base"], UNDECIDED),
        fused_N=indices(chosen["fused"], UNDECIDED),
        submitted_N=indices("submitted", UNDECIDED),
        p_base_NK=stacked([f"p_base_{label}" for label in ids]).T,
        p_fused_NK=stacked([f"p_fused_{label}" for label in ids]).T,
        positive_SN=stacked([f"{name}_positive" for name in specialists]),
        coefficient_SN=stacked([f"{name}_coefficient" for name in specialists]),
    )
