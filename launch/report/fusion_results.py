"""What fusion left, gathered for the report: scores by set of photos, photos that changed, mistakes, review queue."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion.answer import SCORE_NAME
from fusion.fusion_model import MODEL_NAME, FusionModel, load_fusion_model
from fusion.review_queue import REVIEW_NAME
from launch.pipeline.record import read_json
from launch.report.decisions import Decisions, read_decisions
from launch.report.photos import Album, changed_photos, count_changes, unread_photos, worst_mistakes
from launch.report.reliability import Diagram, reliability_diagrams
from launch.report.run_files import RunFiles

__all__ = ["FusionResults", "ReviewRow", "ScoreSet", "read_fusion_results"]


@dataclass(frozen=True)
class ScoreSet:
    """Photos with labels on which all systems are compared.

    Attributes:
        key: Identifier in the page.
        source: Name of the test source; empty for the photos of the fit, each decided without its fold.
        is_fit: Whether these are the photos of the fit.
        scores: What ``fusion.scores.compare_systems`` found.
        of: Photos of the source, with and without labels.
        diagrams: Reliability; none for the photos of the fit, whose probabilities are not kept.
    """

    key: str
    source: str
    is_fit: bool
    scores: dict[str, Any]
    of: int
    diagrams: tuple[Diagram, ...]


@dataclass(frozen=True)
class ReviewRow:
    """A row of ``review.csv``; ``sample_id`` is source and name."""

    sample_id: str
    decided: str
    prediction_set: str
    expected_cost: str
    reason: str


@dataclass(frozen=True)
class FusionResults:
    """What fusion left.

    Attributes:
        model: The fitted fusion.
        scores: ``score.json``.
        sets: Labelled test sources, that of the submission first, then the photos of the fit.
        submitted_source: Test source of ``b-submit.txt``.
        photos: Test photos.
        labelled: Those of them whose label is known.
        changes: Photos whose label fusion changed, by what that did.
        change_counts: Photos by label of base (row) and of fused (column).
        mistakes: Worst mistakes; None when no label is known.
        unread: Photos that base could not read.
        review: First rows of the review queue.
        queued: Photos in it.
    """

    model: FusionModel
    scores: dict[str, Any]
    sets: tuple[ScoreSet, ...]
    submitted_source: str
    photos: int
    labelled: int
    changes: tuple[Album, ...]
    change_counts: list[list[int]]
    mistakes: Album | None
    unread: Album
    review: tuple[ReviewRow, ...]
    queued: int

    @property
    def albums(self) -> tuple[Album, ...]:
        """All albums."""
        return (*self.changes, *([self.mistakes] if self.mistakes else []), self.unread)

    @property
    def flipped(self) -> int:
        """Photos whose label fusion changed."""
        return sum(album.photos for album in self.changes)


def read_fusion_results(files: RunFiles, limit: int) -> FusionResults | None:
    """Read a fusion directory; None while fusion has not been run.

    Args:
        files: The run.
        limit: At most so many photos of each kind are shown.

    Raises:
        DataError: A file of it is missing, damaged or of another version.
    """
    if files.fusion is None:
        return None
    scores, model = read_json(files.fusion / SCORE_NAME), load_fusion_model(files.fusion / MODEL_NAME)
    names = tuple(specialist.name for specialist in model.parameters.specialists)
    decisions = read_decisions(files.fusion, files.card, names, scores["chosen"])
    source = _submitted_source(files.fusion, decisions.sources)
    return FusionResults(
        model=model,
        scores=scores,
        sets=tuple(_sets(scores, decisions, model, source)),
        submitted_source=source,
        photos=len(decisions),
        labelled=int((decisions.labels_N >= 0).sum()),
        changes=tuple(changed_photos(decisions, files.card, limit)),
        change_counts=count_changes(decisions, len(files.card.labels)).tolist(),
        mistakes=worst_mistakes(decisions, files.card, limit),
        unread=unread_photos(decisions, files.card, limit),
        review=tuple(_review(files.fusion / REVIEW_NAME, limit)),
        queued=sum(scores.get("review", {}).get("queued", {}).values()),
    )


def _sets(scores: dict[str, Any], decisions: Decisions, model: FusionModel, submitted: str) -> list[ScoreSet]:
    tests = sorted(scores["test"].items(), key=lambda item: item[0] != submitted)
    sets = [
        ScoreSet(
            key=f"set-{number}",
            source=source,
            is_fit=False,
            scores=found,
            of=found["of"],
            diagrams=tuple(reliability_diagrams(decisions, source, model.review.calibrator)),
        )
        for number, (source, found) in enumerate(tests, 1)
    ]
    fitted = scores["validation"]
    return [*sets, ScoreSet("fit", "", True, fitted, fitted["rows"], ())]


def _submitted_source(fusion: Path, sources: tuple[str, ...]) -> str:
    """The source of ``b-submit.txt``: all others have a file of their own."""
    return next((s for s in reversed(sources) if not (fusion / f"submit-{s}.txt").is_file()), sources[-1])


def _review(path: Path, limit: int) -> list[ReviewRow]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(limit), strict=False)]
    return [
        ReviewRow(
            sample_id=f"{row['source']}/{row['name']}",
            decided=row["decided"],
            prediction_set=row["prediction_set"],
            expected_cost=row["expected_cost"],
            reason=row["reason"],
        )
        for row in rows
    ]
