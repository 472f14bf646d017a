"""The fusion step: fit on held-out photos, then answer the test photos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dataset_builders.files import content_hash
from dataset_builders.task_card import BASE, TaskCard
from fusion.answer import FuseResult, answer, sources_of
from fusion.fit import Fit, FitSettings, fit
from fusion.fusion_model import FittedOn, FusionModel, SecondLooks
from fusion.opinions import Opinions, marker_name, read_opinions
from fusion.report import closing_notes, score_fit
from fusion.review import fit_review

__all__ = ["fuse"]


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
    opinions = read_opinions(dataset_dir, card, base_dir, specialist_dirs, out_of_fold)
    sources_of(opinions.test, submit_source)  # before the fit, which takes a while
    fitted = fit(opinions.fit_rows(), opinions.target, settings)
    model = _model(card, fitted, opinions, settings)
    return answer(
        card,
        model,
        score_fit(card, opinions.labelled, fitted, settings),
        opinions.test,
        Path(out),
        submit_source=submit_source,
        settings=settings,
        notes=model.notes,
    )


def _model(card: TaskCard, fitted: Fit, opinions: Opinions, settings: FitSettings) -> FusionModel:
    labelled, target = opinions.labelled, opinions.target
    pairs = sorted(zip(labelled.column("sample_id").tolist(), labelled.labels_N.tolist(), strict=True))
    fitted_on = FittedOn(
        mode="out of fold" if opinions.held_out else "one split",
        rows=len(labelled),
        rows_hash=content_hash(pairs),
        task_hash=content_hash(card.model_dump(mode="json")),
        base_fingerprint=opinions.made_by[BASE].fingerprint,
        second_looks={
            name: SecondLooks(
                rows=int(labelled.second_looks_SN[s].sum()),
                positives=int(target.targets_SK[s, labelled.labels_N].sum()),
                fingerprint=opinions.made_by[name].fingerprint,
                prior_source="fitted" if target.priors[s] is None else marker_name(name),
            )
            for s, name in enumerate(target.names)
        },
        components={name: found.components for name, found in opinions.made_by.items()},
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
