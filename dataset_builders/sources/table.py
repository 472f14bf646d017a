"""CSV, TSV, JSON-lines and Parquet tables with a column of names and, for labelled photos, a column of labels."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builders.build_config import TableSource
from dataset_builders.errors import DataError
from dataset_builders.findings import Findings
from dataset_builders.sources.entries import RawRow
from dataset_builders.sources.text import read_text

__all__ = ["read_table"]

Records = Iterator[tuple[int, dict[str, Any]]]


def read_table(source: TableSource) -> list[RawRow]:
    """Read the rows of a table.

    Raises:
        DataError: The file is missing or broken, its suffix is unknown, a column is missing or there twice, or a name
            is empty.
    """
    readers: dict[str, Callable[[TableSource], Records]] = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    suffix = source.path.suffix.lower()
    if suffix not in readers:
        raise DataError(f"{source.path}: unknown kind of table {suffix!r}; expected {', '.join(readers)}")
    findings = Findings()
    rows = []
    for number, record in readers[suffix](source):
        where = f"{source.path}:{number}"
        missing = [column for column in (source.columns.name, source.columns.label) if column and column not in record]
        if missing:
            findings.add(
                f"{where}: no column {', '.join(missing)}; the table has {', '.join(map(str, record))}: "
                "set `columns: {name: …, label: …}` (label: null when unlabelled)"
            )
            if suffix != ".jsonl":  # the header is wrong, so every row is
                break
            continue
        name = _text(record[source.columns.name])
        if name is None:
            findings.add(f"{where}: column {source.columns.name!r} is empty; every row needs a photo")
            continue
        label = _text(record[source.columns.label]) if source.columns.label else None
        rows.append(RawRow(name=name, label=label, where=where))
    findings.raise_if_any(DataError, f"{source.path}: wrong rows in source {source.name!r}")
    return rows


def _text(value: Any) -> str | None:
    return None if value is None else str(value).strip() or None


def _read_csv(source: TableSource) -> Records:
    text = read_text(source.path, encoding=source.encoding)
    delimiter = "\t" if source.path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey="(surplus)", strict=True)
    try:
        names = list(reader.fieldnames or ())
        for column in (source.columns.name, source.columns.label):
            if column and names.count(column) > 1:  # the reader would take the last one
                raise DataError(f"{source.path}:1: column {column!r} is there twice; rename or delete one of them")
        for record in reader:
            if "(surplus)" in record:
                raise DataError(f"{source.path}:{reader.line_num}: more fields than the header names; quote the commas")
            yield reader.line_num, record
    except csv.Error as error:
        raise DataError(f"{source.path}:{reader.line_num}: not CSV: {error}") from error


def _read_jsonl(source: TableSource) -> Records:
    for number, line in enumerate(read_text(source.path, encoding=source.encoding).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{source.path}:{number}: not JSON: {error.msg}; expected one object a line") from error
        if not isinstance(record, dict):
            raise DataError(f"{source.path}:{number}: expected an object, got {type(record).__name__}")
        yield number, record


def _read_parquet(source: TableSource) -> Records:
    path: Path = source.path
    if not path.is_file():
        raise DataError(f"{path}: no such file; paths are relative to the current directory ({Path.cwd()})")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file: {error}") from error
    wanted = [name for name in table.column_names if name in (source.columns.name, source.columns.label)]
    # A file without the column of names still has to say which ones it has.
    columns = wanted if source.columns.name in wanted else table.column_names
    yield from enumerate(table.select(columns).to_pylist(), start=1)
