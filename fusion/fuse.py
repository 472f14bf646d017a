"""The fusion step: fit on held-out photos, answer the test photos, write everything that the next steps read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dataset_builders.dataset_dir import read_marker
from dataset_builders.errors import ConfigError, DataError
from dataset_builders.files import content_hash, write_json, write_text
from dataset_builders.task_card import BASE, TaskCard
from fusion.decisions_table import write_decisions
from fusion.fit import Fit, FitRows, FitSettings, Target, fit
from fusion.fusion_model import MODEL_NAME, FittedOn, FusionModel, SecondLooks
from fusion.held_out import HeldOut, read_held_out
from fusion.predictions import Predictions, read_predictions
from fusion.report import closing_notes, format_report, score_systems
from fusion.review import Review, fit_review, format_review, review_rows, write_review
from fusion.rows import UNLABELLED, Rows, read_manifest_columns, read_rows
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
    dataset_dir, out = Path(dataset_dir), Path(out)
    base = read_predictions(base_dir, tuple(a.id for a in card.answers(card.stages[0])))
    specialists = _read_specialists(card, specialist_dirs)
    held_out: dict[str, HeldOut] = {}
    if out_of_fold is not None:
        manifest = read_manifest_columns(dataset_dir)
        stages = {BASE: base, **specialists}
        held_out = {name: read_held_out(out_of_fold, name, main, manifest, card) for name, main in stages.items()}
        base, *others = (found.predictions for found in held_out.values())
        specialists = dict(zip(specialists, others, strict=True))
    folds = frozenset.intersection(*(found.folds for found in held_out.values())) if held_out else frozenset()
    rows, notes = read_rows(dataset_dir, card, base, specialists, folds=folds)
    names = tuple(specialists)
    fingerprints = tuple(predictions.fingerprint for predictions in (base, *specialists.values()))
    held_out_fingerprints = {name: found.fingerprint for name, found in held_out.items()}
    del base, specialists, held_out  # rows hold what is needed; of a million photos, each copy counts
    pa.default_memory_pool().release_unused()  # Arrow keeps what was freed, the more the more threads read at once
    is_test = rows.column("split") == "test"
    sources = tuple(dict.fromkeys(rows.column("source")[is_test].tolist()))
    if not sources:
        raise DataError(f"{dataset_dir}: no test photos, so there is nothing to submit; add a source with role test")
    submit_source = sources[-1] if submit_source is None else submit_source
    if submit_source not in sources:
        raise ConfigError(f"no test source {submit_source!r} in {dataset_dir}; it has {', '.join(sources)}")
    usable = (rows.labels_N != UNLABELLED) & rows.answered
    labelled, test = rows.take(~is_test & usable), rows.take(is_test)
    del rows
    if left_out := int((~is_test & ~usable).sum()):
        notes.append(f"{left_out} photos without a label or a base prediction were left out of the fit")
    if not len(labelled):
        raise DataError(
            f"{dataset_dir}: no labelled validation photo that the base model could read, so nothing can be fitted; "
            f"predict the split val into {base_dir}"
        )
    target = _target(dataset_dir, card, names)
    fitted = fit(_fit_rows(labelled), target, settings)
    model = _model(card, fitted, labelled, target, fingerprints, held_out_fingerprints, settings, tuple(notes))
    applied = model.apply(test.base_logps_NK, test.looks_SN2)
    review = review_rows(
        card, model.review, test, applied, model.submitted, resamples=settings.resamples, seed=settings.seed
    )
    scores = score_systems(card, model, labelled, fitted, test, applied, sources, settings)
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


def _read_specialists(card: TaskCard, directories: Mapping[str, str | Path]) -> dict[str, Predictions]:
    """The predictions of the named specialists, in the card's order."""
    for name in directories:
        card.specialist(name)
    names = [name for name in card.stages[1:] if name in directories]
    if not names:
        raise ConfigError(f"no specialist to fuse with; give predictions of {' or '.join(card.stages[1:])}")
    return {name: read_predictions(directories[name], tuple(a.id for a in card.answers(name))) for name in names}


def _target(dataset_dir: Path, card: TaskCard, names: tuple[str, ...]) -> Target:
    return Target(
        names=names,
        targets_SK=np.array([[label in card.specialist(name).targets for label in card.label_ids] for name in names]),
        priors=tuple(_training_prior(dataset_dir, name) for name in names),
        weights_K=np.array([label.weight for label in card.labels]),
    )


def _training_prior(dataset_dir: Path, specialist: str) -> float | None:
    """Share of positives that a specialist was trained with, by its data set's marker; None when there is no marker.

    Raises:
        DataError: The marker does not say how many rows of each class were written.
    """
    name = _marker_name(specialist)
    if not (dataset_dir / name).is_file():
        return None
    train = read_marker(dataset_dir, name).get("train", {})
    try:
        positives, negatives = int(train["positive_rows"]), int(train["negative_rows"])
        return positives / (positives + negatives)
    except (KeyError, ZeroDivisionError):
        raise DataError(
            f"{dataset_dir / name}: expected positive_rows and negative_rows of train, got {train}; "
            "run `riskfuse specialist` again"
        ) from None


def _marker_name(specialist: str) -> str:
    return f"{specialist}.json"


def _fit_rows(labelled: Rows) -> FitRows:
    return FitRows(
        keys=_keys(labelled),
        sample_ids=labelled.column("sample_id").tolist(),
        labels_N=labelled.labels_N,
        base_logps_NK=labelled.base_logps_NK,
        looks_SN2=labelled.looks_SN2,
    )


def _keys(rows: Rows) -> list[str]:
    """Near-duplicates share a number; a photo without one stands for itself."""
    columns = (rows.column("group").tolist(), rows.column("sample_id").tolist())
    return [f"group {group}" if group >= 0 else f"photo {sample_id}" for group, sample_id in zip(*columns, strict=True)]


def _model(
    card: TaskCard,
    fitted: Fit,
    labelled: Rows,
    target: Target,
    fingerprints: tuple[str, ...],
    held_out: Mapping[str, str],
    settings: FitSettings,
    notes: tuple[str, ...],
) -> FusionModel:
    pairs = sorted(zip(labelled.column("sample_id").tolist(), labelled.labels_N.tolist(), strict=True))
    fitted_on = FittedOn(
        mode="out of fold" if held_out else "one split",
        rows=len(labelled),
        rows_hash=content_hash(pairs),
        task_hash=content_hash(card.model_dump(mode="json")),
        base_fingerprint=fingerprints[0],
        second_looks={
            name: SecondLooks(
                rows=int(labelled.second_looks_SN[s].sum()),
                positives=int(target.targets_SK[s, labelled.labels_N].sum()),
                fingerprint=fingerprints[1 + s],
                prior_source="fitted" if target.priors[s] is None else _marker_name(name),
            )
            for s, name in enumerate(target.names)
        },
        held_out=dict(held_out),
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
            _keys(labelled),
            np.logical_or.reduce(target.targets_SK),
            alpha=settings.alpha,
            label_errors=settings.label_errors,
            folds=settings.folds,
            seed=settings.seed,
        ),
        guard=fitted.guard,
        calibration=fitted.calibration,
        fitted_on=fitted_on,
        notes=(*notes, *fitted.notes, *closing_notes(fitted_on, fitted.guard)),
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
