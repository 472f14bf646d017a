"""The review of a fusion: prediction sets for the test photos, their coverage where labels are known, and the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_builders.task_card import TaskCard
from fusion.conformal import PredictionSets
from fusion.coverage import coverage, format_coverage
from fusion.review_queue import queued_for_review, write_review_queue
from fusion.rows import UNLABELLED, Rows
from fusion.systems import UNDECIDED, Applied

__all__ = ["Review", "format_review", "review_rows", "write_review"]


@dataclass(frozen=True)
class Review:
    """What a person should look at among N photos.

    Attributes:
        decided_N: Class index that is submitted; ``UNDECIDED`` where the base model has no answer.
        sets_NK: Prediction sets.
        figures: ``alpha``, ``thresholds`` by label, ``queued`` by source and ``coverage`` by source with labels, as JSON
            values.
    """

    decided_N: NDArray[np.int64]
    sets_NK: NDArray[np.bool_]
    figures: dict[str, Any]


def review_rows(
    card: TaskCard, fitted: PredictionSets, rows: Rows, applied: Applied, system: str, sources: Sequence[str]
) -> Review:
    """Make the prediction sets of ``rows`` and count what they hold.

    Args:
        card: Knows the labels.
        fitted: The thresholds.
        rows: N photos.
        applied: What the systems make of them.
        system: The one that is submitted.
        sources: Sources that are counted apart, in this order.
    """
    decided_N = applied.labels[system]
    sets_NK = fitted.sets(applied.fused_logps_NK)
    queued_N = queued_for_review(decided_N, sets_NK)
    of_source = rows.column("source")
    queued, covered = {}, {}
    for source in sources:
        here = of_source == source
        queued[source] = int(queued_N[here].sum())
        known = here & (rows.labels_N != UNLABELLED) & (decided_N != UNDECIDED)
        if known.any():
            covered[source] = coverage(sets_NK[known], rows.labels_N[known], card.label_ids)
    thresholds = {label: t.model_dump(mode="json") for label, t in zip(card.label_ids, fitted.thresholds, strict=True)}
    figures = {"alpha": fitted.alpha, "thresholds": thresholds, "queued": queued, "coverage": covered}
    return Review(decided_N, sets_NK, figures)


def format_review(figures: dict[str, Any]) -> str:
    """The coverage of every source with labels, then how many photos of each source are in the queue."""
    wanted = f"{100 * (1 - figures['alpha']):g} %"
    parts = [
        format_coverage(
            f"prediction sets, test source {source}: {wanted} asked, {found['mean_size']:.2f} labels a photo, "
            f"{100 * found['one_label']:.1f} % of the sets hold one label",
            found,
        )
        for source, found in figures["coverage"].items()
    ]
    queued = ", ".join(f"{count} of {source}" for source, count in figures["queued"].items())
    return "\n\n".join([*parts, f"photos to review (review.csv): {queued}"])


def write_review(out: Path, card: TaskCard, review: Review, rows: Rows, applied: Applied, names: Sequence[str]) -> None:
    """Write ``review.csv``; ``names`` are the specialists of ``applied``."""
    confidences = {card.stages[0]: np.exp(applied.base_logps_NK.max(axis=1))}
    confidences |= dict(zip(names, applied.positive_SN, strict=True))
    write_review_queue(
        out,
        card,
        rows,
        logps_NK=applied.fused_logps_NK,
        decided_N=review.decided_N,
        sets_NK=review.sets_NK,
        confidences=confidences,
    )
