"""Scores one shard: a plain callable that the engines only distribute."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dataset_builders.build_config import BuildConfig
from dataset_builders.errors import PhotoError, StoreError, StoreForbidden
from dataset_builders.photo import decode_photo
from dataset_builders.stores import FORBIDDEN, Location, StorePath, each, location
from dataset_builders.task_card import Answer, Prompt
from launch.predict.model import ModelSpec, load_for_prediction
from launch.predict.parts import ShardScores
from launch.predict.rows import PhotoRow, Shard
from launch.predict.scorer import LabelScorer, off_label_mass
from launch.predict.views import Views, average_views, view_photos

__all__ = ["ScoringJob", "ShardResult", "ShardWorker", "read_photo"]

# A photo that a build would quarantine for its size is refused here for the same reason.
MAX_PIXELS: int = BuildConfig.model_fields["max_pixels"].default


@dataclass(frozen=True)
class ScoringJob:
    """What every worker of a run needs, in plain values.

    Attributes:
        spec: Model to load.
        prompt: What the stage asks.
        answers: What it may answer, in column order.
        batch_size: Rows in a forward pass, >= 1.
        views: Test-time views of each photo.
    """

    spec: ModelSpec
    prompt: Prompt
    answers: tuple[Answer, ...]
    batch_size: int
    views: Views = "none"


@dataclass(frozen=True)
class ShardResult:
    """A finished shard: either scores, or the error that made it fail."""

    shard: Shard
    scores: ShardScores | None
    error: str = ""


@dataclass(frozen=True)
class _Failure:
    """An error as text: the exception itself would keep the batch in memory while the photos are tried alone."""

    what: str
    trace: str


class ShardWorker:
    """Holds a model and scores shards, one after the other."""

    def __init__(self, job: ScoringJob) -> None:
        self._job = job
        self._scorer = LabelScorer(load_for_prediction(job.spec), job.prompt, job.answers)

    def attempt(self, shard: Shard) -> ShardResult:
        """Score a shard; its failure is a result too. Photos that fail alone as well become failed rows.

        When every photo fails, it is not the photos: the shard fails.

        Raises:
            torch.AcceleratorError: The GPU's context is broken; only a new process gets a new one.
            StoreError: The photos' store does not answer: no photo's fault, and the next shard would meet it too.
        """
        whole = self._tried(shard)
        if isinstance(whole, ShardScores):
            return ShardResult(shard, whole)
        errors = [row.problem or self._error_alone(shard, row) for row in shard.rows]
        if all(errors) or not any(error and not row.problem for error, row in zip(errors, shard.rows, strict=True)):
            return ShardResult(shard, None, whole.trace)
        rows = (replace(row, problem=error) for row, error in zip(shard.rows, errors, strict=True))
        rest = self._tried(replace(shard, rows=tuple(rows)))
        if isinstance(rest, ShardScores):
            return ShardResult(shard, rest)
        return ShardResult(shard, None, f"{whole.trace}\nand without the photos that fail alone:\n{rest.trace}")

    def _error_alone(self, shard: Shard, row: PhotoRow) -> str:
        """Why this photo makes scoring fail; empty when it does not."""
        found = self._tried(replace(shard, rows=(row,)))
        return "" if isinstance(found, ShardScores) else f"cannot be scored: {found.what}"

    def _tried(self, shard: Shard) -> ShardScores | _Failure:
        """The scores, or the failure that may be a photo's fault; others pass, also while photos are tried alone."""
        import torch

        try:
            return self.score(shard)
        except (torch.AcceleratorError, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - the shard's boundary: it is recorded and exits 1 at the end
            return _Failure(f"{type(error).__name__}: {error}", traceback.format_exc())

    def score(self, shard: Shard) -> ShardScores:
        """Score all rows. Which of them share a batch follows from the shard's rows and from nothing else.

        Photos of as many visual tokens share one, so that little of it is padding. A photo that cannot be read becomes
        a failed row; every other error is the shard's.
        """
        size = self._job.batch_size
        order = sorted(range(len(shard.rows)), key=lambda row: shard.rows[row].tokens)  # stable: equal ones stay put
        rows = tuple(shard.rows[row] for row in order)
        logp_RK = np.full((len(rows), len(self._job.answers)), np.nan)
        errors = [row.problem for row in rows]
        starts = range(0, len(rows), size)
        for start, (readable, encoded, found) in zip(starts, self._prepared(rows, starts), strict=True):
            for offset, error in found.items():
                errors[start + offset] = error
            if encoded is not None:
                views_VBK = np.stack([self._scorer.score_encoded(view) for view in encoded])
                logp_RK[[start + offset for offset in readable]] = average_views(views_VBK)
        back = np.argsort(order)
        logp_RK = logp_RK[back]
        errors = [errors[row] for row in back]
        return ShardScores(logp_RK=logp_RK, off_label_R=off_label_mass(logp_RK), errors=tuple(errors))

    def _prepared(self, rows: tuple[PhotoRow, ...], starts: range) -> Iterator[Any]:
        """Prepared batches; on a GPU, or from a store, the next one is read while the model works on this one."""
        batches = [rows[start : start + self._job.batch_size] for start in starts]
        if self._job.spec.device == "cpu" and not any(isinstance(location(row.image), StorePath) for row in rows):
            yield from map(self._prepare, batches)
            return
        with ThreadPoolExecutor(max_workers=1) as pool:
            ahead = None
            for batch in batches:
                following = pool.submit(self._prepare, batch)
                if ahead is not None:
                    yield ahead.result()
                ahead = following
            if ahead is not None:
                yield ahead.result()

    def _prepare(self, batch: tuple[PhotoRow, ...]) -> tuple[list[int], Any, dict[int, str]]:
        readable, photos, errors = [], [], {}
        offsets = [offset for offset, row in enumerate(batch) if not row.problem]
        found = each(_read, [location(batch[offset].image) for offset in offsets])
        for offset, content in zip(offsets, found, strict=True):
            try:
                photos.append(_decoded(content))
                readable.append(offset)
            except PhotoError as error:
                errors[offset] = str(error)
        views = view_photos(self._job.views, photos) if photos else []
        return readable, [self._scorer.encode(view) for view in views] or None, errors


def read_photo(path: str) -> Any:
    """Read a photo as an RGB PIL image.

    Raises:
        PhotoError: It is missing, unreadable or too large.
    """
    return _decoded(_read(location(path)))


def _read(place: Location) -> bytes | PhotoError:
    """A photo's bytes, or why there are none."""
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return PhotoError("no such file")
    except StoreForbidden:
        return PhotoError(f"cannot be read: {FORBIDDEN}")
    except StoreError:
        raise
    except OSError as error:
        return PhotoError(f"cannot be read: {error.strerror}")


def _decoded(content: bytes | PhotoError) -> Any:
    if isinstance(content, PhotoError):
        raise content
    return decode_photo(content, max_pixels=MAX_PIXELS).image
