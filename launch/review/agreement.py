"""How far reviewers agree: for each pair the photos in common, percent agreement and Cohen's kappa.

Cohen's kappa (A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20, 1960) sets
the agreement against that of two people who answer by chance with the same shares of labels. On the ladder two labels
that stand further apart are a worse disagreement; there the weighted kappa with quadratic weights (Cohen, Psychological
Bulletin 70, 1968) is given too: it equals the intraclass correlation of the rungs (Fleiss and Cohen, Educational and
Psychological Measurement 33, 1973). Labels off the ladder have no rung, so photos that either reviewer put there are
left out of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from dataset_builders.task_card import TaskCard
from launch.review.store import ReviewerDecisions

__all__ = ["Agreement", "format_agreement", "measure_agreement"]


@dataclass(frozen=True)
class Agreement:
    """Of two reviewers.

    Attributes:
        reviewers: Their names.
        photos: Photos that both judged.
        same: Those of them with the same label.
        kappa: Cohen's kappa; NaN without photos, and where both gave one and the same label to all of them.
        on_ladder: Photos that both put on the ladder.
        quadratic_kappa: Weighted kappa of these; NaN as above.
    """

    reviewers: tuple[str, str]
    photos: int
    same: int
    kappa: float
    on_ladder: int
    quadratic_kappa: float


def measure_agreement(
    reviewers: Sequence[ReviewerDecisions], card: TaskCard, sample_ids: Sequence[str]
) -> list[Agreement]:
    """Agreement of all pairs of reviewers.

    Args:
        reviewers: Their decisions.
        card: Knows the labels; a decision for a label that it does not have is left out.
        sample_ids: The photos that count.
    """
    rungs = {label.id for label in card.ladder}
    known = set(card.label_ids)
    found = []
    for one, other in combinations(reviewers, 2):
        mine, theirs = one.labels, other.labels
        pairs = [(mine[key], theirs[key]) for key in sample_ids if mine.get(key) in known and theirs.get(key) in known]
        ladder = [pair for pair in pairs if rungs.issuperset(pair)]
        found.append(
            Agreement(
                reviewers=(one.reviewer, other.reviewer),
                photos=len(pairs),
                same=sum(a == b for a, b in pairs),
                kappa=_kappa(pairs, card.label_ids, None),
                on_ladder=len(ladder),
                quadratic_kappa=_kappa(ladder, [label.id for label in card.ladder], "quadratic"),
            )
        )
    return found


def format_agreement(found: Sequence[Agreement]) -> str:
    """A table with one line a pair."""
    if not found:
        return "agreement: one reviewer alone has decided photos, so there is nothing to compare"
    rows = [("reviewers", "photos", "same", "kappa", "on ladder", "quadratic kappa")]
    for pair in found:
        same = f"{100 * pair.same / pair.photos:.1f} %" if pair.photos else "-"
        figures = (str(pair.photos), same, _figure(pair.kappa), str(pair.on_ladder), _figure(pair.quadratic_kappa))
        rows.append((" / ".join(pair.reviewers), *figures))
    width = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(width[0]), *(cell.rjust(w) for cell, w in zip(row[1:], width[1:], strict=True))])
        for row in rows
    )


def _kappa(pairs: Sequence[tuple[str, str]], labels: Sequence[str], weights: str | None) -> float:
    if len({label for pair in pairs for label in pair}) < 2:
        return math.nan  # agreement by chance is certain: 0 / 0
    from sklearn.metrics import cohen_kappa_score

    index = {label: number for number, label in enumerate(labels)}
    one, other = ([index[pair[side]] for pair in pairs] for side in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(cohen_kappa_score(one, other, labels=range(len(labels)), weights=weights))


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
