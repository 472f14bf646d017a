"""Reads a predictions directory and refuses what is incomplete, mixed or malformed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataset_builders.errors import DataError, FingerprintMismatch, RiskFuseError
from dataset_builders.manifest import PHOTOS_KEY, photos_sha256
from dataset_builders.stores import Location, each, listed, location, parquet_source

__all__ = ["MARKER_NAME", "Predictions", "check_photos", "read_predictions"]

MARKER_NAME = "predictions.json"
FINGERPRINT_KEY = b"riskfuse.fingerprint"
LOGP_PREFIX = "logp_"
FIXED_COLUMNS = ("sample_id", "status", "error")
LOGP_SLACK = 1e-2  # rounding in half precision may lift a log-probability above 0 by this much
FAILED = "failed"
OK = "ok"


@dataclass(frozen=True)
class Predictions:
    """What one model said about N photos, in the order of the shards.

    Attributes:
        directory: Where they were read from, for messages.
        sample_ids: Arrow strings, unique.
        logps_NK: Natural log-probabilities of the answers, float64; NaN in failed rows.
        failed_N: True where the model has no answer.
        errors: Arrow strings: why a row failed; empty otherwise.
        answers: Answer identifiers, the order of the columns of ``logps_NK``.
        fingerprint: Identifies model, prompt and code that answered.
        components: What the fingerprint is of, part by part; empty when the run did not say.
        photos_sha256: Hash of the pictures in the order of the rows, see ``dataset_builders.manifest.photos_sha256``;
            empty when the run did not say, or when rows were taken out or put together.
    """

    directory: Location
    sample_ids: pa.Array
    logps_NK: NDArray[np.float64]
    failed_N: NDArray[np.bool_]
    errors: pa.Array
    answers: tuple[str, ...]
    fingerprint: str
    components: dict[str, Any]
    photos_sha256: str = ""

    def __len__(self) -> int:
        return len(self.sample_ids)

    def positions(self, sample_ids: pa.Array) -> NDArray[np.int64]:
        """Row of every sample id; -1 where it was not predicted."""
        found = pc.index_in(sample_ids, value_set=self.sample_ids)
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def read_predictions(directory: str | Location, answers: tuple[str, ...], *, stage: str | None = None) -> Predictions:
    """Read all shards of a finished prediction run.

    Args:
        directory: Predictions directory, a path or a URI, see ``docs/contracts.md``.
        answers: Answer identifiers of the stage in the task card's order.
        stage: The stage that the predictions must be of; specialists of one card have the same answers.

    Raises:
        DataError: The predictions are of another stage, the run is not finished, shards or rows are missing, a sample
            id occurs twice, the answers are not those of the task card, or an ``ok`` row holds no log-probabilities.
        FingerprintMismatch: The shards were not all made by the same model, prompt and code.
    """
    directory = location(directory)
    marker = _read_marker(directory)
    if stage is not None and marker.get("stage", stage) != stage:
        raise DataError(
            f"{directory}: holds predictions of stage {marker['stage']}, expected those of {stage}; name the directory "
            f"that `riskfuse predict … --stage {stage}` wrote"
        )
    paths = listed(directory, "part-*.parquet")
    if len(paths) != marker["shards"]:
        raise DataError(
            f"{directory}: {MARKER_NAME} counts {marker['shards']} shards, found {len(paths)} part-*.parquet; "
            "run the same `riskfuse predict` again"
        )
    tables, fingerprints = [], {f"{MARKER_NAME}": _canonical(marker["fingerprint"])}
    for path, table in zip(paths, each(lambda path: _read_shard(path, answers), paths), strict=True):
        fingerprints[path.name] = _fingerprint(table, path)
        tables.append(table)
    if len(set(fingerprints.values())) > 1:
        lines = "\n".join(f"  {name}: {value}" for name, value in fingerprints.items())
        raise FingerprintMismatch(
            f"{directory}: shards of different runs are mixed; remove the directory and predict again:\n{lines}"
        )
    table = pa.concat_tables([table.replace_schema_metadata(None) for table in tables]).combine_chunks()
    if len(table) != marker["rows"]:
        raise DataError(
            f"{directory}: {MARKER_NAME} counts {marker['rows']} rows, the shards hold {len(table)}; predict again"
        )
    found = _checked(directory, table, answers, fingerprints[MARKER_NAME], marker.get("components") or {})
    return replace(found, photos_sha256=marker.get(PHOTOS_KEY, ""))


def check_photos(predictions: Predictions, at_M: NDArray[np.int64], sha256s: pa.ChunkedArray) -> None:
    """Refuse what a model said about other pictures of the same names.

    Args:
        predictions: As they were read. Those of an earlier version, which did not record the pictures, pass.
        at_M: Prediction of each of M rows of the manifest, -1 where there is none; each prediction occurs once.
        sha256s: The manifest's column of this name, M rows.

    Raises:
        DataError: The manifest's pictures are not those that were predicted.
    """
    if not predictions.photos_sha256:
        return
    row_N = np.empty(len(predictions), np.int64)
    row_N[at_M[at_M >= 0]] = np.flatnonzero(at_M >= 0)
    if photos_sha256(sha256s.combine_chunks().take(pa.array(row_N))) != predictions.photos_sha256:
        raise DataError(
            f"{predictions.directory}: the photos of the data set have changed since they were predicted, though not "
            "their names; run the same `riskfuse predict` again, which names the parts to do anew"
        )


def _read_marker(directory: Location) -> dict[str, Any]:
    path = directory / MARKER_NAME
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file, so the predictions are not complete; run `riskfuse predict` to its end"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}); predict again") from error
    missing = [key for key in ("fingerprint", "shards", "rows") if key not in marker]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; predict again with this version")
    for key in ("shards", "rows"):
        # Either the count itself or the list that is counted.
        marker[key] = len(marker[key]) if isinstance(marker[key], list | dict) else marker[key]
    if marker["rows"] == 0:
        raise DataError(f"{path}: no rows were predicted; give `riskfuse predict` the splits val and test")
    return marker


def _read_shard(path: Location, answers: tuple[str, ...]) -> pa.Table:
    columns = [*FIXED_COLUMNS, *(LOGP_PREFIX + answer for answer in answers)]
    try:
        with pq.ParquetFile(parquet_source(path)) as file:
            names = file.schema_arrow.names
            table = file.read([name for name in columns if name in names])
    except RiskFuseError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({error}); remove it and predict again") from error
    got = [name.removeprefix(LOGP_PREFIX) for name in names if name.startswith(LOGP_PREFIX)]
    if sorted(got) != sorted(answers):
        raise DataError(
            f"{path}: answers {', '.join(got) or '(none)'}, but the task card's stage has {', '.join(answers)}; "
            "give the predictions of the right stage and task"
        )
    missing = [name for name in FIXED_COLUMNS if name not in names]
    if missing:
        raise DataError(f"{path}: lacks the columns {', '.join(missing)}; predict again with this version")
    return table.select(columns)


def _fingerprint(table: pa.Table, path: Location) -> str:
    raw = (table.schema.metadata or {}).get(FINGERPRINT_KEY)
    if raw is None:
        raise FingerprintMismatch(f"{path}: has no fingerprint in its metadata; predict again with this version")
    return _canonical(json.loads(raw))


def _canonical(fingerprint: Any) -> str:
    """A fingerprint is text, or whatever JSON value its writer chose: compared as JSON with sorted keys."""
    return fingerprint if isinstance(fingerprint, str) else json.dumps(fingerprint, sort_keys=True, ensure_ascii=False)


def _checked(
    directory: Location, table: pa.Table, answers: tuple[str, ...], fingerprint: str, components: dict[str, Any]
) -> Predictions:
    sample_ids = table["sample_id"].combine_chunks()
    counts = pc.value_counts(sample_ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise DataError(f"{directory}: sample ids occur twice, predict again: {', '.join(sorted(twice)[:10])}")
    strange = sorted(set(pc.unique(table["status"]).to_pylist()) - {OK, FAILED})
    if strange:
        raise DataError(f"{directory}: unknown status {strange}; expected {OK} or {FAILED}")
    failed = pc.equal(table["status"], FAILED).to_numpy().astype(bool)
    columns = [table[LOGP_PREFIX + a].cast(pa.float64()).to_numpy() for a in answers]
    logps = np.column_stack(columns).astype(np.float64)
    broken = ~failed & (np.isnan(logps).any(axis=1) | (logps > LOGP_SLACK).any(axis=1))
    if broken.any():
        rows = pc.filter(sample_ids, pa.array(broken)).to_pylist()
        raise DataError(
            f"{directory}: {len(rows)} rows are marked {OK} but hold NaN or a log-probability above 0, "
            f"predict again: {', '.join(rows[:10])}"
        )
    # Nothing but -inf: the model gives no answer any probability, which is no opinion about the photo.
    mute = ~failed & np.isneginf(logps).all(axis=1)
    errors = pc.if_else(pa.array(mute), "the model gives no answer any probability", pc.fill_null(table["error"], ""))
    logps[failed | mute] = np.nan
    return Predictions(directory, sample_ids, logps, failed | mute, _flat(errors), answers, fingerprint, components)


def _flat(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
