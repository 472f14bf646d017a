"""The data behind a run: counts of every split, and all that was left out, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_builders.dataset_dir import read_marker
from dataset_builders.manifest import DROPPED, MANIFEST_NAME, QUARANTINED
from fusion.predictions import MARKER_NAME
from launch.pipeline.record import read_json
from launch.report.run_files import RunFiles

__all__ = ["DataSummary", "LeftOut", "summarize_data"]

UNLABELLED = "unlabelled"  # as in ``build.json``


@dataclass(frozen=True)
class LeftOut:
    """Photos of one kind that could not be used, with the reasons of those that are listed.

    Attributes:
        key: ``quarantined``, ``dropped``, ``failed`` or ``fallback``.
        where: Stage or test source; empty when it is the whole data set.
        photos: How many there are.
        rows: (photo, reason) of those that are shown.
    """

    key: str
    where: str
    photos: int
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DataSummary:
    """What ``build.json`` and the predictions' markers say.

    Attributes:
        fingerprint: Of the data set.
        labels: Label identifiers, and ``unlabelled`` where there are such photos.
        counts: Column name -> label -> photos, as in ``build.json``.
        sources: Test source -> photos that can be read.
        groups: Near-duplicate groups: how many, photos in them, size of the largest.
        contradictions: How many sets of equal photos have different labels.
        augmented: Whether there are copies.
        left_out: What could not be used; kinds without photos are left out.
    """

    fingerprint: str
    labels: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    sources: dict[str, int]
    groups: dict[str, int]
    contradictions: int
    augmented: bool
    left_out: tuple[LeftOut, ...]


def summarize_data(files: RunFiles, limit: int) -> DataSummary:
    """Read what a run's data set is made of.

    Args:
        files: The run.
        limit: At most so many rows of each kind are listed.

    Raises:
        DataError: A marker is damaged.
    """
    marker = read_marker(files.dataset)
    counts: dict[str, dict[str, int]] = marker.get("counts", {})
    used = {label for per_class in counts.values() for label in per_class}
    table = pq.read_table(files.dataset / MANIFEST_NAME, columns=["sample_id", "source", "split", "status", "reason"])
    ok_tests = table.filter(pc.and_(pc.equal(table["split"], "test"), pc.equal(table["status"], "ok")))
    sources = ok_tests.group_by("source").aggregate([("source", "count")]).to_pydict()
    kinds = [_of_status(table, status, limit) for status in (QUARANTINED, DROPPED)]
    kinds += [_failed(files, limit, stage) for stage in range(len(files.stages))]
    kinds += _fallbacks(files, limit)
    return DataSummary(
        fingerprint=marker["fingerprint"],
        labels=(*files.card.label_ids, *([UNLABELLED] if UNLABELLED in used else [])),
        counts=counts,
        sources=dict(zip(sources["source"], sources["source_count"], strict=True)),
        groups=marker.get("groups", {"count": 0, "photos": 0, "largest": 1}),
        contradictions=len(marker.get("contradictions", [])),
        augmented="augment" in marker,
        left_out=tuple(kind for kind in kinds if kind.photos),
    )


def _of_status(table: Any, status: str, limit: int) -> LeftOut:
    rows = table.filter(pc.equal(table["status"], status))
    shown = rows.slice(0, limit).select(["sample_id", "reason"]).to_pylist()
    return LeftOut(status, "", len(rows), tuple((row["sample_id"], row["reason"]) for row in shown))


def _failed(files: RunFiles, limit: int, number: int) -> LeftOut:
    stage = files.stages[number]
    path = stage.predictions / MARKER_NAME if stage.predictions else None
    marker = read_json(path) if path and path.is_file() else {}
    listed = [(row["sample_id"], row["error"]) for row in marker.get("failed_rows", [])]
    return LeftOut("failed", stage.name, int(marker.get("failed", 0)), tuple(listed[:limit]))


def _fallbacks(files: RunFiles, limit: int) -> list[LeftOut]:
    if files.fusion is None:
        return []
    found = []
    for path in sorted(files.fusion.glob("fallback*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = tuple((name, reason) for name, _, reason in (line.partition("\t") for line in lines[:limit]))
        found.append(LeftOut("fallback", path.name, len(lines), rows))
    return found
