"""The order of an inspection: measure every photo once, look at it from six sides, write the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.dataset_dir import read_marker
from dataset_builders.errors import ConfigError, DataError
from dataset_builders.files import write_json, write_text
from dataset_builders.inspect.counts import inspect_counts
from dataset_builders.inspect.distributions import inspect_distributions
from dataset_builders.inspect.duplicates import group_numbers, inspect_duplicates
from dataset_builders.inspect.encoding import file_features
from dataset_builders.inspect.finding import FINDINGS, Finding, Section, Verdict, worst
from dataset_builders.inspect.label_errors import inspect_label_errors
from dataset_builders.inspect.measurements import measure_photos
from dataset_builders.inspect.near_duplicates import NearPair, find_near_duplicates
from dataset_builders.inspect.outliers import inspect_outliers
from dataset_builders.inspect.page import render_page
from dataset_builders.inspect.shortcuts import PHOTO_FEATURES, inspect_shortcuts
from dataset_builders.inspect.thumbnails import data_uri
from dataset_builders.manifest import ManifestRow, read_manifest
from dataset_builders.task_card import TaskCard

__all__ = ["HTML_NAME", "JSON_NAME", "Inspection", "check_finding_names", "inspect_dataset", "write_inspection"]

HTML_NAME = "report.html"
JSON_NAME = "report.json"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in a data set.

    Attributes:
        dataset_dir: The data set directory.
        header: Name, fingerprint, counts and labels, as JSON values.
        sections: In the order of the report.
        images: Sample id -> path of the photo in the data set directory, for the photos that are shown.
    """

    dataset_dir: Path
    header: dict[str, Any]
    sections: tuple[Section, ...]
    images: dict[str, str]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, in the order of the report."""
        return tuple(finding for section in self.sections for finding in section.findings)

    def problems(self, names: Sequence[str]) -> tuple[Finding, ...]:
        """The findings among the named ones that are a problem."""
        return tuple(f for f in self.findings if f.name in names and f.verdict is Verdict.PROBLEM)


def check_finding_names(names: Sequence[str]) -> None:
    """Check names that a person gave.

    Raises:
        ConfigError: A name is none of ``FINDINGS``.
    """
    unknown = [name for name in names if name not in FINDINGS]
    if unknown:
        raise ConfigError(f"unknown finding {', '.join(map(repr, unknown))}; the findings are {', '.join(FINDINGS)}")


def inspect_dataset(
    dataset_dir: str | Path,
    *,
    card: TaskCard | None = None,
    probabilities: Mapping[str, NDArray[np.float64]] | None = None,
    seed: int = 0,
    workers: int = 1,
) -> Inspection:
    """Look at a complete data set directory from every side.

    Args:
        dataset_dir: Data set directory with manifest.parquet and photos.
        card: Task card, for the labels' texts; identifiers are shown without one.
        probabilities: Sample id -> calibrated out-of-fold probabilities in the order of the labels.
        seed: Of the audits and the isolation forest.
        workers: Processes that read photos and threads that compare them; changes nothing but the time.

    Raises:
        ConfigError: The task card is another task's.
        DataError: The data set is incomplete or has no usable photo, a photo is broken, or no prediction fits.
    """
    dataset_dir = Path(dataset_dir)
    marker = read_marker(dataset_dir)
    label_ids: list[str] = marker["labels"]
    if card is not None and list(card.label_ids) != label_ids:
        raise ConfigError(
            f"{dataset_dir} holds task {marker['task']!r} with the labels {', '.join(label_ids)}; the task card is of "
            f"{card.task!r} with {', '.join(card.label_ids)}"
        )
    all_rows = read_manifest(dataset_dir)
    rows = [row for row in all_rows if row.usable]
    if not rows:
        raise DataError(f"{dataset_dir}: no row of the manifest is usable; there is nothing to inspect")
    sections = _inspect(dataset_dir, all_rows, rows, label_ids, probabilities, seed, workers)
    shown = {sample_id for section in sections for sample_id in section.shown}
    header = {
        "dataset": dataset_dir.resolve().name,
        "fingerprint": marker["fingerprint"],
        "task": marker["task"],
        "title": card.title if card else marker["task"],
        "labels": {label_id: card.text_of(label_id) if card else label_id for label_id in label_ids},
        "photos": sum(row.parent is None for row in rows),
        "copies": sum(row.parent is not None for row in rows),
        "seed": seed,
    }
    images = {row.sample_id: row.image for row in rows if row.sample_id in shown}
    return Inspection(dataset_dir, header, sections, images)


def _inspect(
    dataset_dir: Path,
    all_rows: Sequence[ManifestRow],
    rows: Sequence[ManifestRow],
    label_ids: Sequence[str],
    probabilities: Mapping[str, NDArray[np.float64]] | None,
    seed: int,
    workers: int,
) -> tuple[Section, ...]:
    measured = measure_photos(dataset_dir, rows, workers=workers)
    features_NF = np.concatenate([file_features(rows, measured.encodings), measured.light_NF], axis=1)
    at = [index for index, row in enumerate(rows) if row.parent is None]
    originals = [rows[index] for index in at]
    greys_NHW = measured.greys_NHW[at]
    pairs = find_near_duplicates(greys_NHW, [row.sha256 for row in originals], threads=workers)
    return (
        inspect_counts(rows, label_ids),
        inspect_distributions(
            [row for row in all_rows if row.parent is None], originals, features_NF[at], PHOTO_FEATURES, label_ids
        ),
        inspect_duplicates(originals, pairs),
        inspect_label_errors(originals, label_ids, probabilities),
        inspect_shortcuts(rows, features_NF, _groups(rows, originals, pairs), label_ids, seed=seed),
        inspect_outliers(originals, greys_NHW, measured.light_NF[at], seed=seed),
    )


def _groups(
    rows: Sequence[ManifestRow], originals: Sequence[ManifestRow], pairs: Sequence[NearPair]
) -> NDArray[np.int64]:
    """Near-duplicate group of every row; a copy is in its original's, or alone when that is gone."""
    group_of = dict(zip((row.sample_id for row in originals), group_numbers(originals, pairs).tolist(), strict=True))
    alone = len(rows)
    groups = [group_of.get(row.parent or row.sample_id, alone + index) for index, row in enumerate(rows)]
    return np.array(groups, dtype=np.int64)


def write_inspection(inspection: Inspection, out: Path) -> None:
    """Write ``report.html``, one file that needs nothing else, and then ``report.json``."""
    report = {
        **inspection.header,
        "verdict": worst(finding.verdict for finding in inspection.findings),
        "findings": {finding.name: asdict(finding) for finding in inspection.findings},
        "sections": {section.key: section.facts for section in inspection.sections},
    }
    thumbnails = {
        sample_id: data_uri(inspection.dataset_dir / image) for sample_id, image in sorted(inspection.images.items())
    }
    write_text(out / HTML_NAME, render_page(report, inspection.sections, thumbnails))
    write_json(out / JSON_NAME, report)
