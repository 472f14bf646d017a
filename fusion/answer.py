"""Answers the test photos by a fitted fusion, and writes everything that the next steps read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataset_builders.errors import ConfigError
from dataset_builders.files import write_json, write_text
from dataset_builders.task_card import TaskCard
from fusion.decisions_table import write_decisions
from fusion.fit import FitSettings
from fusion.fusion_model import MODEL_NAME, FusionModel
from fusion.report import format_report, score_systems
from fusion.review import Review, format_review, review_rows, write_review
from fusion.rows import Rows
from fusion.submission import write_submission
from fusion.systems import UNDECIDED, Applied

__all__ = ["SCORE_NAME", "SUBMISSION_NAME", "Fallback", "FuseResult", "answer", "sources_of"]

SUBMISSION_NAME = "b-submit.txt"
SCORE_NAME = "score.json"
FALLBACK_NAME = "fallback.txt"


@dataclass(frozen=True)
class Fallback:
    """A test photo that the fallback label answered: its source, its name and why."""

    source: str
    name: str
    reason: str


@dataclass(frozen=True)
class FuseResult:
    """What ``fuse`` wrote.

    Attributes:
        model: The fitted fusion.
        scores: Contents of ``score.json``.
        table: Contents of ``scores.txt``.
        submissions: Submission file by test source.
        fallbacks: Test photos that were answered by the fallback label.
        notes: What the user should know.
    """

    model: FusionModel
    scores: dict[str, Any]
    table: str
    submissions: dict[str, Path]
    fallbacks: tuple[Fallback, ...]
    notes: tuple[str, ...]


def sources_of(test: Rows, submit_source: str | None) -> tuple[tuple[str, ...], str]:
    """Test sources in the manifest's order, and the one of ``b-submit.txt``: the last one when None is given.

    Raises:
        ConfigError: There is no such source.
    """
    sources = tuple(dict.fromkeys(test.column("source").tolist()))
    submit_source = sources[-1] if submit_source is None else submit_source
    if submit_source not in sources:
        raise ConfigError(f"no test source {submit_source!r}; the data set has {', '.join(sources)}")
    return sources, submit_source


def answer(
    card: TaskCard,
    model: FusionModel,
    validation: dict[str, Any],
    test: Rows,
    out: Path,
    *,
    submit_source: str | None,
    settings: FitSettings,
    notes: Sequence[str],
    with_fit: bool = True,
) -> FuseResult:
    """Decide for the test rows and write the fusion directory.

    Args:
        card: The task.
        model: The fitted fusion.
        validation: Its scores on the rows of the fit, see ``fusion.report.score_fit``.
        test: At least one row.
        out: Fusion directory, see ``docs/contracts.md``; ``fusion.json`` is written last.
        submit_source: Test source of ``b-submit.txt``; the last one in the manifest when None. Every other source
            gets ``submit-<source>.txt``.
        settings: Resamples and seed of the intervals.
        notes: What the user should know.
        with_fit: Show the scores on the rows of the fit in the table too.

    Raises:
        ConfigError: ``submit_source`` is not a test source.
    """
    sources, submit_source = sources_of(test, submit_source)
    applied = model.apply(test.base_logps_NK, test.looks_SN2)
    review = review_rows(
        card, model.review, test, applied, model.submitted, resamples=settings.resamples, seed=settings.seed
    )
    scores = score_systems(card, model, validation, test, applied, sources, settings)
    scores |= {"review": review.figures}
    labels = _labels(card, review)
    counts = _format_counts(card, test, labels, sources)
    result = FuseResult(
        model=model,
        scores=scores,
        table=f"{format_report(scores, model, with_fit=with_fit)}\n{counts}\n{format_review(review.figures)}\n",
        submissions=_submission_paths(out, sources, submit_source),
        fallbacks=_fallbacks(test),
        notes=tuple(notes),
    )
    _write(out, card, result, test, labels, applied, review, submit_source)
    return result


def _labels(card: TaskCard, review: Review) -> np.ndarray:
    """Label identifier that is submitted for each photo, objects that rows share."""
    fallback = card.label_ids.index(card.fallback)
    chosen = np.where(review.decided_N == UNDECIDED, fallback, review.decided_N)
    return np.array(card.label_ids, dtype=object)[chosen]


def _format_counts(card: TaskCard, test: Rows, labels: np.ndarray, sources: tuple[str, ...]) -> str:
    of_source, lines = test.column("source"), []
    for source in sources:
        found = Counter(labels[of_source == source])
        lines.append(
            f"submitted for {source}: " + ", ".join(f"{found[label.id]} {label.text}" for label in card.labels)
        )
    return "\n".join(lines) + "\n"


def _fallbacks(test: Rows) -> tuple[Fallback, ...]:
    failed = test.take(~test.answered)
    columns = (failed.column("source"), failed.column("name"), failed.base_errors.to_pylist())
    # One line a photo: a reason that spans lines would read as several.
    return tuple(Fallback(s, n, " ".join(reason.split()) or "unknown") for s, n, reason in zip(*columns, strict=True))


def _submission_paths(out: Path, sources: tuple[str, ...], submit_source: str) -> dict[str, Path]:
    return {s: out / (SUBMISSION_NAME if s == submit_source else f"submit-{s}.txt") for s in sources}


def _write(
    out: Path,
    card: TaskCard,
    result: FuseResult,
    test: Rows,
    labels: np.ndarray,
    applied: Applied,
    review: Review,
    submit_source: str,
) -> None:
    # A fusion.json from an earlier call must not vouch for files that are being replaced.
    (out / MODEL_NAME).unlink(missing_ok=True)
    # Nor may a submission that it wrote for another --submit-source stay beside the new ones.
    for stale in (*out.glob("submit-*.txt"), *out.glob("fallback-*.txt")):
        stale.unlink()
    for source in result.submissions:
        _write_submission(out, card, result, test, labels, source, submit_source)
    write_decisions(out, card, list(result.model.targets), test, applied, pa.array(labels))
    write_review(out, card, review, test, applied, list(result.model.targets))
    write_text(out / "scores.txt", result.table)
    write_json(out / SCORE_NAME, result.scores)
    result.model.save(out / MODEL_NAME)


def _write_submission(
    out: Path, card: TaskCard, result: FuseResult, test: Rows, labels: np.ndarray, source: str, submit_source: str
) -> None:
    here = test.column("source") == source
    names, positions = test.column("name")[here], test.column("position")[here]
    order = np.argsort(positions, kind="stable")
    write_submission(result.submissions[source], names[order].tolist(), labels[here][order].tolist(), card)
    lines = [f"{f.name}\t{f.reason}\n" for f in result.fallbacks if f.source == source]
    write_text(out / (FALLBACK_NAME if source == submit_source else f"fallback-{source}.txt"), "".join(lines))
