"""A prediction run: list → shards → engine → part files → completion marker; goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dataset_builders.errors import DataError, FingerprintMismatch, RiskFuseError, StepError, StoreError
from dataset_builders.files import content_hash, remove_unfinished, write_json
from dataset_builders.manifest import PHOTOS_KEY, photos_sha256
from dataset_builders.stores import FORBIDDEN, Location, StorePath, each, listed, location
from launch.predict.config import PredictConfig
from launch.predict.endpoint.scorer import score_at_endpoint
from launch.predict.engines import score_locally, score_on_ray
from launch.predict.fingerprint import differences
from launch.predict.metrics import MetricsFile
from launch.predict.parts import PartHeader, ShardScores, failures_of, part_path, read_failures, read_header, write_part
from launch.predict.plan import endpoint_job, part_header, photo_rows, scoring_job, vllm_server_spec
from launch.predict.progress import PhotoProgress
from launch.predict.rows import Shard, cut_shards
from launch.predict.vllm.engine import score_on_vllm
from launch.predict.worker import ScoringJob, ShardResult

__all__ = ["MARKER_NAME", "PredictReport", "predict"]

MARKER_NAME = "predictions.json"
_REMEDY = "Name another --out, or remove them with --overwrite"


@dataclass(frozen=True)
class PredictReport:
    """What a run left behind.

    Attributes:
        out: Predictions directory.
        fingerprint: Hash of what decides a prediction.
        rows: Photos in the list.
        quarantined: Rows that the data set had marked as unusable.
        failed_rows: ``{"sample_id", "error"}`` of all failed rows, quarantined ones among them.
        failed_shards: Part number → traceback; not empty means that the run is not complete.
        reused: Shards that were there already.
    """

    out: Location
    fingerprint: str
    rows: int
    quarantined: int
    failed_rows: list[dict[str, str]]
    failed_shards: dict[int, str]
    reused: int

    @property
    def complete(self) -> bool:
        """True when every row is in a part file and the completion marker stands."""
        return not self.failed_shards


def predict(config: PredictConfig) -> PredictReport:
    """Score all photos of a list and write a predictions directory (``docs/contracts.md``).

    Shards that are there already, made from the same fingerprint and photos, are kept.

    Raises:
        ConfigError: Recipe, task card, model or adapter are missing or impossible.
        DataError: The data set, list or a part file is not what it must be.
        FingerprintMismatch: ``out`` holds predictions of another configuration or list.
        StepError: Ray workers died again and again, an endpoint or vLLM stopped answering, or a part file cannot be
            written.
        StoreError: A store behind a URI does not answer, or holds no photo that may be read.
        StoreForbidden: A store lets us write or list nothing.
    """
    job = scoring_job(config)
    header = part_header(config, job)
    rows = photo_rows(config)
    shards = cut_shards(rows, config.shard_size)
    remove_unfinished(config.out)
    todo = _missing_shards(config.out, shards, header, overwrite=config.overwrite)
    reused = sorted({shard.index for shard in shards} - {shard.index for shard in todo})
    paths = [part_path(config.out, index) for index in reused]
    failures = dict(zip(reused, each(read_failures, paths), strict=True))
    failed_shards: dict[int, str] = {}
    if todo:
        (config.out / MARKER_NAME).unlink(missing_ok=True)
        already = len(rows) - sum(len(shard.rows) for shard in todo)
        kept = MetricsFile(config.metrics, stage=config.stage, out=config.out, photos=len(rows), already=already)
        with kept as metrics, PhotoProgress(len(rows), already, f"predict {config.stage}") as progress:
            for result in _engine(config, job, todo, metrics):
                if result.scores is None:
                    failed_shards[result.shard.index] = result.error
                else:
                    _check_store(result.shard, result.scores)
                    _write(part_path(config.out, result.shard.index), result.shard, result.scores, header)
                    failures[result.shard.index] = failures_of(result.shard, result.scores)
                progress.advance(len(result.shard.rows))
                metrics.count_shard(len(result.shard.rows), result.scores)
    failed_rows = [row for index in sorted(failures) for row in failures[index]]
    if not failed_shards:
        _write_marker(config, header, shards, failed_rows)
    return PredictReport(
        out=config.out,
        fingerprint=header.fingerprint,
        rows=len(rows),
        quarantined=sum(bool(row.problem) for row in rows),
        failed_rows=failed_rows,
        failed_shards=failed_shards,
        reused=len(reused),
    )


def _write(path: Location, shard: Shard, scores: ShardScores, header: PartHeader) -> None:
    try:
        write_part(path, shard, scores, header)
    except RiskFuseError:
        raise
    except OSError as error:
        raise StepError(
            f"{path}: cannot be written: {error.strerror or error}; mend that (df -h shows free space) and run the "
            "same command again: it goes on where it stopped"
        ) from error


def _check_store(shard: Shard, scores: ShardScores) -> None:
    """Refuse a part whose photos are all forbidden: that is a store without the worker's credentials, no photo's fault.

    Raises:
        StoreError: It is such a part.
    """
    errors = [error for row, error in zip(shard.rows, scores.errors, strict=True) if not row.problem]
    if not errors or not all(error.endswith(FORBIDDEN) for error in errors):
        return
    image = next(row.image for row in shard.rows if not row.problem)
    if isinstance(location(image), StorePath):
        raise StoreError(
            f"{image}: {FORBIDDEN} to read it or any photo of its part; every machine that takes part needs the "
            "store's credentials. The same command goes on where it stopped"
        )


def _missing_shards(out: Location, shards: Sequence[Shard], header: PartHeader, *, overwrite: bool) -> list[Shard]:
    """Shards without a part file. With ``overwrite`` those in the way are removed, and all others kept.

    Raises:
        DataError: A part file is none.
        FingerprintMismatch: A part file was made from something else, or belongs to a longer list.
    """
    there = listed(out, "part-*.parquet")
    present = set(there)
    finished = {path: shard for shard in shards if (path := part_path(out, shard.index)) in present}
    stale: list[Location] = []
    for (path, shard), found in zip(finished.items(), each(_header, list(finished)), strict=True):
        if (error := _mismatch(path, shard, found, header)) is not None:
            if not overwrite:
                raise error
            stale.append(path)
    if extra := [path for path in there if path not in finished]:
        if not overwrite:
            names = ", ".join(path.name for path in extra)
            raise FingerprintMismatch(f"{out}: {names} belong to a longer list. {_REMEDY}")
        stale += extra
    if stale:
        (out / MARKER_NAME).unlink(missing_ok=True)
    for path in stale:
        path.unlink()
    kept = present.difference(stale)
    return [shard for shard in shards if part_path(out, shard.index) not in kept]


def _header(path: Location) -> tuple[PartHeader, str] | DataError:
    try:
        return read_header(path)
    except DataError as error:
        return error


def _mismatch(
    path: Location, shard: Shard, found: tuple[PartHeader, str] | DataError, header: PartHeader
) -> RiskFuseError | None:
    """Why a part file is not this run's part of that shard."""
    if isinstance(found, DataError):
        return found
    there, content = found
    if there.fingerprint != header.fingerprint:
        what = differences(there.components, header.components)
        return FingerprintMismatch(f"{path}: made with another configuration: {what}. {_REMEDY}")
    if content != shard.content:
        return FingerprintMismatch(f"{path}: made from other photos than the list has now. {_REMEDY}")
    return None


def _engine(
    config: PredictConfig, job: ScoringJob, todo: Sequence[Shard], metrics: MetricsFile
) -> Iterator[ShardResult]:
    if config.engine == "local":
        return score_locally(job, todo)
    if config.engine == "endpoint":
        return score_at_endpoint(endpoint_job(config), todo)
    if config.engine == "vllm":
        return score_on_vllm(job.spec, vllm_server_spec(config, job.spec), endpoint_job(config), todo)
    return score_on_ray(job, todo, workers=config.workers, address=config.address, on_death=metrics.count_death)


def _write_marker(
    config: PredictConfig, header: PartHeader, shards: Sequence[Shard], failed_rows: list[dict[str, str]]
) -> None:
    marker = {
        "fingerprint": header.fingerprint,
        "rows_sha256": content_hash([shard.content for shard in shards]),
        PHOTOS_KEY: photos_sha256(pa.array([row.sha256 for shard in shards for row in shard.rows], pa.string())),
        "stage": header.stage,
        "answers": list(header.answer_ids),
        "shards": len(shards),
        "rows": sum(len(shard.rows) for shard in shards),
        "failed": len(failed_rows),
        "failed_rows": failed_rows,
        "components": header.components,
    }
    path = config.out / MARKER_NAME
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # none, or half of one
        written = None
    if written != marker:
        write_json(path, marker)
