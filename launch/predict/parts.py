"""Part files of a predictions directory: written whole, byte for byte the same for the same scores, and read back."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builders.errors import DataError, RiskFuseError
from dataset_builders.files import write_bytes
from dataset_builders.stores import Location, parquet_source
from launch.predict.rows import Shard

__all__ = [
    "FAILED",
    "OK",
    "PartHeader",
    "ShardScores",
    "failures_of",
    "part_name",
    "part_path",
    "read_failures",
    "read_header",
    "write_part",
]

OK = "ok"
FAILED = "failed"
_FINGERPRINT = b"riskfuse.fingerprint"
_STAGE = b"riskfuse.stage"
_INPUTS = b"riskfuse.inputs"


@dataclass(frozen=True)
class ShardScores:
    """What a worker returns for a shard of R rows and K answers.

    Attributes:
        logp_RK: Natural log-probabilities, float64; NaN where a row failed.
        off_label_R: Probability of anything but an answer, float64; NaN where a row failed.
        errors: Why a row failed, empty text where it did not, length R.
    """

    logp_RK: np.ndarray
    off_label_R: np.ndarray
    errors: tuple[str, ...]


@dataclass(frozen=True)
class PartHeader:
    """What stands in the metadata of all parts of a run.

    Attributes:
        fingerprint: Hash of ``components``.
        components: What decides a prediction, see ``launch.predict.fingerprint``.
        stage: Stage of the task card.
        answer_ids: Its answers, in column order.
    """

    fingerprint: str
    components: dict[str, Any]
    stage: str
    answer_ids: tuple[str, ...]


def part_name(index: int) -> str:
    """Name of a part file."""
    return f"part-{index:05d}.parquet"


def part_path(out: Location, index: int) -> Location:
    """Path of a part file."""
    return out / part_name(index)


def write_part(path: Location, shard: Shard, scores: ShardScores, header: PartHeader) -> None:
    """Write one part file, atomically."""
    columns: dict[str, pa.Array] = {
        "sample_id": pa.array([row.sample_id for row in shard.rows], pa.string()),
        "image": pa.array([row.image for row in shard.rows], pa.string()),
    }
    for column, answer_id in enumerate(header.answer_ids):
        columns[f"logp_{answer_id}"] = pa.array(scores.logp_RK[:, column], pa.float64())
    columns["off_label_mass"] = pa.array(scores.off_label_R, pa.float64())
    columns["status"] = pa.array([FAILED if error else OK for error in scores.errors], pa.string())
    columns["error"] = pa.array(list(scores.errors), pa.string())
    metadata = {
        _FINGERPRINT: _json(header.fingerprint),
        _STAGE: _json({"stage": header.stage, "answers": list(header.answer_ids)}),
        _INPUTS: _json({"rows": shard.content, "components": header.components}),
    }
    table = pa.table(columns).replace_schema_metadata(metadata)
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd", row_group_size=1 << 20)
    write_bytes(path, content.getvalue())


def read_header(path: Location) -> tuple[PartHeader, str]:
    """Header of a part file and the hash of its rows (``Shard.content``).

    Raises:
        DataError: The file is no part file.
    """
    try:
        metadata = pq.read_schema(parquet_source(path)).metadata or {}
        stage, inputs = json.loads(metadata[_STAGE]), json.loads(metadata[_INPUTS])
        fingerprint = json.loads(metadata[_FINGERPRINT])
    except RiskFuseError:
        raise
    except (pa.ArrowInvalid, KeyError, ValueError, OSError) as error:
        raise DataError(
            f"{path}: not a part file of riskfuse predict ({error}); delete it or use --overwrite"
        ) from error
    return PartHeader(fingerprint, inputs["components"], stage["stage"], tuple(stage["answers"])), inputs["rows"]


def failures_of(shard: Shard, scores: ShardScores) -> list[dict[str, str]]:
    """Failed rows of a shard, as ``read_failures`` gives them."""
    return [
        {"sample_id": row.sample_id, "error": error}
        for row, error in zip(shard.rows, scores.errors, strict=True)
        if error
    ]


def read_failures(path: Location) -> list[dict[str, str]]:
    """Failed rows of a part file, as ``{"sample_id": …, "error": …}``."""
    rows = pq.read_table(parquet_source(path), columns=["sample_id", "status", "error"]).to_pylist()
    return [{"sample_id": row["sample_id"], "error": row["error"]} for row in rows if row["status"] == FAILED]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode()
