"""What fusion reports: scores of all systems on the rows of the fit and on labelled test sources, as JSON and text."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataset_builders.task_card import TaskCard
from fusion.fit import Fit, FitSettings
from fusion.fusion_model import FittedOn, FusionModel
from fusion.guard import Guard
from fusion.rows import UNLABELLED, Rows
from fusion.score_table import format_differences, format_systems
from fusion.scores import compare_systems
from fusion.systems import UNDECIDED, Applied

__all__ = ["closing_notes", "format_report", "score_fit", "score_systems"]

# System and rival of every difference that is printed: like with like, then what the decision rule itself brings.
PAIRS = (
    ("override_argmax", "base_argmax"),
    ("fused_argmax", "base_argmax"),
    ("fused_argmax", "override_argmax"),
    ("override_rule", "base_rule"),
    ("fused_rule", "base_rule"),
    ("fused_rule", "override_rule"),
    ("base_rule", "base_argmax"),
    ("fused_rule", "fused_argmax"),
)
LEGEND = """\
argmax: the most probable label. rule: class offsets fitted for the score on the same photos, base and fused alike.
hard override: where a specialist says positive, the label becomes its target; otherwise that of base only.
* is what is submitted. Photos that base could not read count with the fallback label in every system."""


def closing_notes(fitted_on: FittedOn, guard: Guard) -> tuple[str, str]:
    """What the fit rests on and how far it can be trusted, and what the guard decided; one line each."""
    positives = ", ".join(f"{looks.positives} positives of {name}" for name, looks in fitted_on.second_looks.items())
    width = f"the {100 * guard.level:g} % interval of the gain is {guard.high - guard.low:.3f} of the score wide"
    rests = f"{fitted_on.rows} photos with {positives}; {width}"
    if fitted_on.mode == "one split":
        rests = f"fitted on one split: {rests}; out-of-fold predictions would narrow it (--out-of-fold)"
    else:
        rests = f"fitted out of fold: {rests}"
    return rests, f"guard: {guard.describe()}"


def score_fit(card: TaskCard, rows: Rows, fitted: Fit, settings: FitSettings) -> dict[str, Any]:
    """Scores on the rows of the fit, each decided by parameters that were fitted without its fold.

    Args:
        card: The task.
        rows: The rows of the fit.
        fitted: Its outcome on them.
        settings: Resamples and seed.
    """
    return _compare(card, rows, fitted.cross_fitted, settings)


def score_systems(
    card: TaskCard,
    model: FusionModel,
    validation: dict[str, Any],
    test: Rows,
    applied: Applied,
    sources: tuple[str, ...],
    settings: FitSettings,
) -> dict[str, Any]:
    """The content of ``score.json``, see ``docs/contracts.md``: scores on every test source that has labels.

    Args:
        card: The task.
        model: The fitted fusion.
        validation: What ``score_fit`` returned when it was fitted.
        test: The test rows.
        applied: What the systems make of them.
        sources: Test sources in the manifest's order.
        settings: Resamples and seed.
    """
    of_source = test.column("source")
    tests: dict[str, Any] = {}
    for source in sources:
        here = of_source == source
        labelled = here & (test.labels_N != UNLABELLED)
        if labelled.any():
            systems = {name: x[labelled] for name, x in applied.labels.items()}
            found = _compare(card, test.take(labelled), systems, settings)
            tests[source] = {"of": int(here.sum()), **found}
    return {
        "task": card.task,
        "submitted": model.submitted,
        # By which decision each of the three answers; the override is a rival of base, and so decides as base does.
        "chosen": {
            "base": f"base_{model.decisions['base']}",
            "override": f"override_{model.decisions['base']}",
            "fused": f"fused_{model.decisions['fused']}",
        },
        "guard": model.guard.model_dump(mode="json"),
        "fitted_on": {
            "mode": model.fitted_on.mode,
            "rows": model.fitted_on.rows,
            "positives": {name: looks.positives for name, looks in model.fitted_on.second_looks.items()},
        },
        "validation": validation,
        "test": tests,
    }


def _compare(card: TaskCard, rows: Rows, systems: dict[str, np.ndarray], settings: FitSettings) -> dict[str, Any]:
    fallback = card.label_ids.index(card.fallback)
    answered = {name: np.where(found == UNDECIDED, fallback, found) for name, found in systems.items()}
    return compare_systems(
        rows.labels_N,
        answered,
        PAIRS,
        label_ids=card.label_ids,
        weights_K=np.array([label.weight for label in card.labels]),
        resamples=settings.resamples,
        seed=settings.seed,
        group_N=rows.group_N,
    )


def format_report(scores: dict[str, Any], model: FusionModel, *, with_fit: bool) -> str:
    """The tables: test sources where labels are known, and first the rows of the fit, which an unlabelled test leaves.

    Args:
        scores: What ``score_systems`` returned.
        model: The fitted fusion.
        with_fit: Show the rows of the fit.
    """
    parts = []
    if with_fit:
        validation = scores["validation"]
        photos = "validation" if model.fitted_on.mode == "one split" else "out-of-fold"
        how = "cross-fitted: {} photos, each decided by parameters of the other folds"
        if not model.guard.cross_fitted:
            how = "in-sample, since there are too few photos for cross-fitting: {} photos"
        title = f"{photos}, {how.format(validation['rows'])}"
        parts += [format_systems(title, validation, scores["submitted"]), format_differences(validation)]
    for source, found in scores["test"].items():
        title = f"test source {source}: {found['rows']} labelled of {found['of']} photos"
        parts += [format_systems(title, found, scores["submitted"]), format_differences(found)]
    legend = [LEGEND] if parts else []
    return "\n\n".join([*parts, "\n".join(closing_notes(model.fitted_on, model.guard)), *legend]) + "\n"
