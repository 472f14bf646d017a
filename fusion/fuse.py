"""The fusion step: fit on held-out photos, answer the test photos, write everything that the next steps read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataset_builders.errors import ConfigError
from dataset_builders.files import content_hash, write_json, write_text
from dataset_builders.task_card import TaskCard
from fusion.decisions_table import write_decisions
from fusion.fit import Fit, FitSettings, fit
from fusion.fusion_model import MODEL_NAME, FittedOn, FusionModel, SecondLooks
from fusion.opinions import Opinions, marker_name, read_opinions
from fusion.report import closing_notes, format_report, score_systems
from fusion.review import Review, fit_review, format_review, review_rows, write_review
from fusion.rows import Rows
from fusion.submission import write_submission
from fusion.systems import UNDECIDED, Applied

__all__ = ["SCORE_NAME", "SUBMISSION_NAME", "Fallback", "FuseResult", "fuse"]

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


def fuse(
    dataset_dir: str | Path,
    card: TaskCard,
    base_dir: str | Path,
    specialist_dirs: Mapping[str, str | Path],
    out: str | Path,
    *,
    out_of_fold: str | Path | None = None,
    submit_source: str | None = None,
    settings: FitSettings = FitSettings(),  # noqa: B008 - frozen
) -> FuseResult:
    """Fit on held-out rows of a data set, decide for its test rows and write the fusion directory.

    Args:
        dataset_dir: Data set directory with its manifest.
        card: The task.
        base_dir: Predictions of the base model on the splits val and test.
        specialist_dirs: Predictions of at least one specialist of the card, by name; photos that a specialist did not
            see keep the coefficient 1.
        out: Fusion directory, see ``docs/contracts.md``; ``fusion.json`` is written last.
        out_of_fold: Directory with a sub-directory for base and for each specialist, made by ``riskfuse out-of-fold``:
            fusion is then fitted on the photos of all folds that every stage has, and not on the split val alone.
        submit_source: Test source of ``b-submit.txt``; the last one in the manifest when None. Every other source
            gets ``submit-<source>.txt``.
        settings: Grids, folds, decision and seed.

    Raises:
        DataError: Predictions are incomplete or belong to another data set, or there are no usable rows.
        ConfigError: ``submit_source`` is not a test source, or the card has no such specialist, or none is given.
    """
    out = Path(out)
    opinions = read_opinions(dataset_dir, card, base_dir, specialist_dirs, out_of_fold)
    test = opinions.test
    sources = tuple(dict.fromkeys(test.column("source").tolist()))
    submit_source = sources[-1] if submit_source is None else submit_source
    if submit_source not in sources:
        raise ConfigError(f"no test source {submit_source!r} in {dataset_dir}; it has {', '.join(sources)}")
    fitted = fit(opinions.fit_rows(), opinions.target, settings)
    model = _model(card, fitted, opinions, settings)
    applied = model.apply(test.base_logps_NK, test.looks_SN2)
    review = review_rows(
        card, model.review, test, applied, model.submitted, resamples=settings.resamples, seed=settings.seed
    )
    scores = score_systems(card, model, opinions.labelled, fitted, test, applied, sources, settings)
    scores |= {"review": review.figures}
    result = FuseResult(
        model=model,
        scores=scores,
        table=f"{format_report(scores, model)}\n{format_review(review.figures)}\n",
        submissions=_submission_paths(out, sources, submit_source),
        fallbacks=_fallbacks(test),
        notes=model.notes,
    )
    _write(out, card, result, test, applied, review, submit_source)
    return result


def _model(card: TaskCard, fitted: Fit, opinions: Opinions, settings: FitSettings) -> FusionModel:
    labelled, target = opinions.labelled, opinions.target
    pairs = sorted(zip(labelled.column("sample_id").tolist(), labelled.labels_N.tolist(), strict=True))
    fitted_on = FittedOn(
        mode="out of fold" if opinions.held_out else "one split",
        rows=len(labelled),
        rows_hash=content_hash(pairs),
        task_hash=content_hash(card.model_dump(mode="json")),
        base_fingerprint=opinions.fingerprints[0],
        second_looks={
            name: SecondLooks(
                rows=int(labelled.second_looks_SN[s].sum()),
                positives=int(target.targets_SK[s, labelled.labels_N].sum()),
                fingerprint=opinions.fingerprints[1 + s],
                prior_source="fitted" if target.priors[s] is None else marker_name(name),
            )
            for s, name in enumerate(target.names)
        },
        held_out=dict(opinions.held_out),
        seed=settings.seed,
        folds=settings.folds,
    )
    return FusionModel(
        task=card.task,
        labels=card.label_ids,
        targets={name: card.specialist(name).targets for name in target.names},
        parameters=fitted.parameters,
        decisions=fitted.decisions,
        review=fit_review(
            card,
            fitted.fused_logps_NK,
            labelled.labels_N,
            labelled.keys(),
            np.logical_or.reduce(target.targets_SK),
            alpha=settings.alpha,
            label_errors=settings.label_errors,
            folds=settings.folds,
            seed=settings.seed,
        ),
        guard=fitted.guard,
        calibration=fitted.calibration,
        fitted_on=fitted_on,
        notes=(*opinions.notes, *fitted.notes, *closing_notes(fitted_on, fitted.guard)),
    )


def _fallbacks(test: Rows) -> tuple[Fallback, ...]:
    failed = test.take(~test.answered)
    columns = (failed.column("source"), failed.column("name"), failed.base_errors.to_pylist())
    # One line a photo: a reason that spans lines would read as several.
    return tuple(Fallback(s, n, " ".join(reason.split()) or "unknown") for s, n, reason in zip(*columns, strict=True))


def _submission_paths(out: Path, sources: tuple[str, ...], submit_source: str) -> dict[str, Path]:
    return {s: out / (SUBMISSION_NAME if s == submit_source else f"submit-{s}.txt") for s in sources}


def _write(
    out: Path, card: TaskCard, result: FuseResult, test: Rows, applied: Applied, review: Review, submit_source: str
) -> None:
    # A fusion.json from an earlier call must not vouch for files that are being replaced.
    (out / MODEL_NAME).unlink(missing_ok=True)
    fallback = card.label_ids.index(card.fallback)
    chosen = np.where(review.decided_N == UNDECIDED, fallback, review.decided_N)
    labels = np.array(card.label_ids, dtype=object)[chosen]  # objects that rows share
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
