"""Predictions of the base stage without a model, for the tests that mine them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def predict(directory: Path, target_probabilities: dict[str, float], failed: tuple[str, ...] = ()) -> Path:
    """Predictions in two shards, as `riskfuse predict` writes them, but for the columns that nobody here reads."""
    directory.mkdir(exist_ok=True)
    rows = []
    for sample_id, p in target_probabilities.items():
        logps = [np.nan] * 3 if sample_id in failed else np.log([p, (1 - p) / 2, (1 - p) / 2]) - 0.1
        rows.append(
            {
                "sample_id": sample_id,
                **dict(zip(("logp_hot", "logp_warm", "logp_cold"), map(float, logps), strict=True)),
                "status": "failed" if sample_id in failed else "ok",
            }
        )
    half = len(rows) // 2
    for number, part in enumerate((rows[:half], rows[half:])):
        pq.write_table(pa.Table.from_pylist(part or rows), directory / f"part-{number:05d}.parquet")
    (directory / "predictions.json").write_text("{}", encoding="utf-8")
    return directory
