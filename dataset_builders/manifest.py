"""``manifest.parquet``: one row an entry of the sources. The schema and the only code that reads and writes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builders.errors import DataError
from dataset_builders.files import atomic_path
from dataset_builders.stores import Location, location, parquet_source

__all__ = [
    "DROPPED",
    "MANIFEST_NAME",
    "MANIFEST_SCHEMA",
    "OK",
    "PHOTOS_KEY",
    "QUARANTINED",
    "ManifestRow",
    "photos_sha256",
    "read_manifest",
    "write_manifest",
]

MANIFEST_NAME = "manifest.parquet"
OK = "ok"
QUARANTINED = "quarantined"
PHOTOS_KEY = "photos_sha256"  # in the marker of predictions: which pictures were looked at
DROPPED = "dropped"  # an augmented copy that the verification took out; its photo stays

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("fold", pa.int8(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("repeats", pa.int32(), nullable=False),
        pa.field("parent", pa.string()),
        pa.field("transform", pa.string()),
        pa.field("verification_score", pa.float64()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One entry of a source. The columns, their types and meaning are those of ``docs/contracts.md``."""

    sample_id: str
    source: str
    name: str
    position: int
    split: str
    label: str | None = None
    image: str = ""
    source_file: str = ""
    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    fold: int = -1
    group: int = -1
    repeats: int = 0
    parent: str | None = None
    transform: str | None = None
    verification_score: float | None = None
    status: str = OK
    reason: str = ""

    @property
    def usable(self) -> bool:
        """True when the photo is there and decodes; False when it is quarantined or dropped."""
        return self.status == OK


def write_manifest(dataset_dir: Path, rows: Sequence[ManifestRow]) -> None:
    """Write the manifest, atomically and with the same bytes for the same rows."""
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=MANIFEST_SCHEMA)
    with atomic_path(dataset_dir / MANIFEST_NAME) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=1 << 20)


def read_manifest(dataset_dir: str | Location) -> list[ManifestRow]:
    """Read the manifest of a data set directory, in the order of the sources' lists.

    Raises:
        DataError: There is no manifest, or it is not one of this version.
    """
    path = location(dataset_dir) / MANIFEST_NAME
    if not path.is_file():
        raise DataError(f"{path}: no such file; make the data set with `riskfuse build CONFIG.yaml`")
    try:
        table = pq.read_table(parquet_source(path))
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({error}); run `riskfuse build` again") from error
    missing = [name for name in MANIFEST_SCHEMA.names if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: lacks the columns {', '.join(missing)}; run `riskfuse build` again")
    return [ManifestRow(**row) for row in table.select(MANIFEST_SCHEMA.names).to_pylist()]


def photos_sha256(sha256s: pa.StringArray) -> str:
    """Hash of the pictures of some rows, in their order.

    Names do not tell: another delivery of photos may bear those of the one before.

    Args:
        sha256s: The column ``sha256`` of N rows, without nulls. Only its bytes are read, so a million rows take 0.1 s.
    """
    offsets, data = sha256s.buffers()[1:]
    ends = memoryview(offsets).cast("i") if len(sha256s) else (0,)
    first, last = ends[sha256s.offset], ends[sha256s.offset + len(sha256s)]
    return hashlib.sha256(memoryview(data)[first:last] if data is not None else b"").hexdigest()
