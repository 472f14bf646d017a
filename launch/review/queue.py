"""The review queue of a run as the app walks it: photos in the order of ``review.csv`` with what the models say."""

from __future__ import annotations

import csv
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_builders.errors import ConfigError, DataError
from dataset_builders.manifest import MANIFEST_NAME
from dataset_builders.task_card import BASE, TaskCard
from fusion.answer import SCORE_NAME
from fusion.decisions_table import DECISIONS_NAME
from fusion.fusion_model import MODEL_NAME, load_fusion_model
from fusion.review_queue import REVIEW_NAME, sheet_cells
from launch.pipeline.record import read_json
from launch.report.decisions import read_decisions
from launch.report.run_files import RunFiles
from launch.review.opinion import Opinion, SecondLook

__all__ = ["QueuedPhoto", "ReviewQueue", "read_queue", "sources_of"]

SET_SEPARATOR = " | "


@dataclass(frozen=True)
class QueuedPhoto:
    """One photo to review.

    Attributes:
        sample_id: Source and name.
        source: Test source.
        name: As the test list spells it.
        image: The file to show; None when there is none.
        opinion: What the models say.
    """

    sample_id: str
    source: str
    name: str
    image: Path | None
    opinion: Opinion


@dataclass(frozen=True)
class ReviewQueue:
    """The photos to review, the most costly first, and the test sources that they come from."""

    photos: tuple[QueuedPhoto, ...]
    sources: tuple[str, ...]


def sources_of(files: RunFiles) -> dict[str, tuple[str, str]]:
    """Source and name of every test photo by its sample id.

    Raises:
        DataError: There are no decisions.
    """
    path = _fusion(files) / DECISIONS_NAME
    if not path.is_file():
        raise DataError(f"{path}: no such file; make it with `riskfuse fuse`")
    table = pq.read_table(path, columns=["sample_id", "source", "name"])
    columns = (table[name].cast(pa.string()).to_pylist() for name in ("sample_id", "source", "name"))
    return {sample_id: (source, name) for sample_id, source, name in zip(*columns, strict=True)}


def read_queue(files: RunFiles, source: str | None = None) -> ReviewQueue:
    """Read the queue of a run.

    Args:
        files: The run, see ``find_run``.
        source: Photos of this test source alone.

    Raises:
        DataError: A file of the fusion is missing, damaged, or of another run than the others.
        ConfigError: There is no such source.
    """
    fusion, card = _fusion(files), files.card
    model = load_fusion_model(fusion / MODEL_NAME)
    names = tuple(specialist.name for specialist in model.parameters.specialists)
    decisions = read_decisions(fusion, card, names, read_json(fusion / SCORE_NAME)["chosen"])
    if source is not None and source not in decisions.sources:
        raise ConfigError(f"no test source {source!r} in {fusion}; it has {', '.join(decisions.sources)}")
    entries = [row for row in _read_csv(fusion / REVIEW_NAME, card, names) if source in (None, row["source"])]
    at = _rows_of(entries, decisions.table, card, fusion)
    ids, of_source, called = (_column(decisions.table, name, at) for name in ("sample_id", "source", "name"))
    images = _images(files.dataset, ids)
    errors = {name: _column(decisions.table, f"{name}_error", at) for name in names}
    photos = []
    for n, (row, entry) in enumerate(zip(at, entries, strict=True)):
        looks = tuple(
            SecondLook(
                name=name,
                targets=tuple(card.text_of(label) for label in model.targets[name]),
                positive=_known(decisions.positive_SN[s, row]),
                coefficient=float(decisions.coefficient_SN[s, row]),
                error=errors[name][n],
            )
            for s, name in enumerate(names)
        )
        base = tuple(decisions.p_base_NK[row].tolist())
        opinion = Opinion(
            decided=card.label_ids[decisions.submitted_N[row]],
            in_set=_in_set(entry["prediction_set"], card),
            base=() if math.isnan(base[0]) else base,
            fused=tuple(float(entry[f"p_{label}"]) for label in card.label_ids if entry[f"p_{label}"]),
            looks=looks,
            expected_cost=float(entry["expected_cost"]) if entry["expected_cost"] else None,
            reason=entry["reason"],
        )
        photos.append(QueuedPhoto(ids[n], of_source[n], called[n], images.get(ids[n]), opinion))
    return ReviewQueue(tuple(photos), decisions.sources)


def _fusion(files: RunFiles) -> Path:
    if files.fusion is None:
        raise DataError(
            f"{files.run}: fusion has not been run yet, so nothing is to be reviewed; run the pipeline first"
        )
    return files.fusion


def _read_csv(path: Path, card: TaskCard, names: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; make it with `riskfuse fuse`")
    wanted = {"source", "name", "decided", "prediction_set", "expected_cost", "reason", f"{BASE}_confidence"}
    wanted |= {f"p_{label}" for label in card.label_ids} | {f"{name}_confidence" for name in names}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if lacking := sorted(wanted - set(reader.fieldnames or ())):
            raise DataError(f"{path}: lacks the columns {', '.join(lacking)}; fuse again with this task card")
        return list(reader)


def _rows_of(entries: Sequence[Mapping[str, str]], table: pa.Table, card: TaskCard, fusion: Path) -> list[int]:
    """Row of ``decisions.parquet`` of each entry of ``review.csv``.

    ``review.csv`` writes names for spreadsheets, so that two names may look alike in it; then the probability of base,
    which both files hold, tells them apart.
    """
    sources, called = (sheet_cells(table[name].cast(pa.string())).to_pylist() for name in ("source", "name"))
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(sources, called, strict=True)):
        rows[key].append(row)
    best = pc.max_element_wise(*(table[f"p_base_{label}"] for label in card.label_ids))
    found = []
    for entry in entries:
        candidates = rows[entry["source"], entry["name"]]
        if not candidates:
            raise DataError(
                f"{fusion / REVIEW_NAME}: holds {entry['source']}/{entry['name']}, which {DECISIONS_NAME} beside it "
                "does not; a spreadsheet may have changed the file, so fuse again"
            )
        if len(candidates) > 1:
            wanted = float(entry[f"{BASE}_confidence"] or "nan")
            candidates.sort(key=lambda row: _distance(wanted, best[row].as_py()))
        found.append(candidates.pop(0))
    return found


def _distance(wanted: float, got: float) -> float:
    if math.isnan(wanted) or math.isnan(got):
        return 0.0 if math.isnan(wanted) == math.isnan(got) else math.inf
    return abs(wanted - got)


def _in_set(text: str, card: TaskCard) -> tuple[bool, ...]:
    """The prediction set, from the texts of its labels; an apostrophe may stand before what looks like a formula."""
    parts = {*text.split(SET_SEPARATOR), *text.removeprefix("'").split(SET_SEPARATOR)}
    return tuple(label.text in parts for label in card.labels)


def _images(dataset: Path, sample_ids: Sequence[str]) -> dict[str, Path]:
    """File of each photo; those without one are left out, and those outside of the data set."""
    table = pq.read_table(dataset / MANIFEST_NAME, columns=["sample_id", "image"])
    table = table.filter(pc.is_in(table["sample_id"], value_set=pa.array(sample_ids, pa.string())))
    found = {}
    for sample_id, image in zip(table["sample_id"].to_pylist(), table["image"].to_pylist(), strict=True):
        inside = Path(os.path.normpath(image or ".."))
        if not inside.is_absolute() and inside.parts[0] != "..":
            found[sample_id] = dataset / inside
    return found


def _column(table: pa.Table, name: str, at: Sequence[int]) -> list[str]:
    if name not in table.column_names:
        return [""] * len(at)
    return [value or "" for value in table[name].take(pa.array(at, pa.int64())).cast(pa.string()).to_pylist()]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
