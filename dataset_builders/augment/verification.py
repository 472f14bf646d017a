"""Does a copy still show what its label says? Its score, and which copies are dropped for it. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, FiniteFloat, model_validator

from dataset_builders.config_file import FrozenModel
from dataset_builders.manifest import DROPPED, OK, ManifestRow

__all__ = ["FLOOR", "DropRule", "Verdicts", "agreement", "is_copy", "judge_copies", "without_verdict"]

# A probability below one in twenty means no; how far below says nothing, since a model's tails are not calibrated.
FLOOR = 0.05


class DropRule(FrozenModel):
    """Which copies are dropped; exactly one of the two, or none of them, which keeps all.

    Attributes:
        below: Drop copies with a score under this value, whatever their label. A value up to log(FLOOR) / 2, which is
            about −1.5, never drops a copy that is as probable as its original, however hard the original is.
        quantile: Drop this share of every label's copies, those with the lowest scores, rounded down; 0 to below 1.
    """

    below: FiniteFloat | None = None
    quantile: Annotated[float, Field(ge=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> DropRule:
        if self.below is not None and self.quantile is not None:
            raise ValueError("a drop rule is a value or a quantile, not both")
        return self

    def threshold(self, scores_N: NDArray[np.float64]) -> float:
        """Copies of one label with a score under it are dropped; ``scores_N`` are all scores of the label, N >= 1."""
        if self.quantile is not None:
            # The score that floor(quantile x N) copies lie below, so equal scores are never torn apart.
            return float(np.sort(scores_N)[int(self.quantile * len(scores_N))])
        return -np.inf if self.below is None else self.below


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of the copies.

    Attributes:
        rows: The manifest's rows, in order; copies with score, status and reason.
        labels: Label id → ``copies``, ``dropped``, and the label's ``threshold`` and ``mean_score`` when there are any.
        dropped: ``sample_id``, ``label``, ``score`` and ``threshold`` of every dropped copy, the worst first.
    """

    rows: list[ManifestRow]
    labels: dict[str, dict[str, Any]]
    dropped: list[dict[str, Any]]


def agreement(logp_copy: ArrayLike, logp_original: ArrayLike) -> NDArray[np.float64]:
    """The score of a copy: higher means that its label is still true.

    The mean of two questions, with p̃ = p + FLOOR: does the model believe the label of the copy, log p̃(y | copy), and
    does it believe it as much as it believed the original's, log p̃(y | copy) − log p̃(y | original)? Together

        s = log p̃(y | copy) − ½ log p̃(y | original).

    The first question alone punishes the copies of hard photos, which are the rare ones; the second alone forgives a
    wrong label that the model did not believe of the original either. ``docs/verification.md`` has the comparison.

    Args:
        logp_copy: log p(label of the copy | copy), natural, <= 0, any shape; −inf is allowed.
        logp_original: log p(label of the original | original), same shape.

    Returns:
        Scores of that shape, from log FLOOR − ½ log(1 + FLOOR), about −3, to log(1 + FLOOR) − ½ log FLOOR, about 1.5.
        A copy that is as probable as its original has at least ½ log FLOOR, about −1.5.
    """
    copy, original = (np.exp(np.asarray(logp, dtype=np.float64)) + FLOOR for logp in (logp_copy, logp_original))
    return np.log(copy) - 0.5 * np.log(original)


def is_copy(row: ManifestRow) -> bool:
    """True for an augmented copy, dropped or not."""
    return row.parent is not None and row.status in (OK, DROPPED)


def without_verdict(row: ManifestRow) -> ManifestRow:
    """The row as the augmentation made it: every verification starts from all copies."""
    return replace(row, verification_score=None, status=OK, reason="") if is_copy(row) else row


def judge_copies(
    rows: Sequence[ManifestRow],
    logp_K_of: Mapping[str, NDArray[np.float64]] | None,
    label_ids: Sequence[str],
    rule: DropRule,
) -> Verdicts:
    """Score all copies and drop those that the rule names.

    Args:
        rows: The manifest's rows.
        logp_K_of: Sample id → log-probabilities of the labels, for every copy and its original. None keeps all copies
            without a score.
        label_ids: The card's labels in its order.
        rule: Which copies are dropped.

    Returns:
        The verdicts; an earlier verification's are forgotten.
    """
    rows = [without_verdict(row) for row in rows]
    copies = [index for index, row in enumerate(rows) if is_copy(row)]
    labels: dict[str, dict[str, Any]] = {}
    dropped: list[dict[str, Any]] = []
    scores = {} if logp_K_of is None else _scores(rows, copies, logp_K_of, label_ids)
    for label_id in label_ids:
        members = [index for index in copies if rows[index].label == label_id]
        if not members:
            continue
        labels[label_id] = {"copies": len(members), "dropped": 0}
        if logp_K_of is None:
            continue
        scores_N = np.array([scores[index] for index in members])
        threshold = rule.threshold(scores_N)
        for index in members:
            rows[index] = _with_score(rows[index], scores[index], threshold)
        gone = [_listed(rows[index], threshold) for index in members if rows[index].status == DROPPED]
        dropped += gone
        labels[label_id] |= {
            "dropped": len(gone),
            "threshold": threshold if np.isfinite(threshold) else None,
            "mean_score": float(scores_N.mean()),
        }
    return Verdicts(rows, labels, sorted(dropped, key=lambda item: (item["score"], item["sample_id"])))


def _scores(
    rows: Sequence[ManifestRow],
    copies: Sequence[int],
    logp_K_of: Mapping[str, NDArray[np.float64]],
    label_ids: Sequence[str],
) -> dict[int, float]:
    """Score by row number. Each photo is asked for its own label, so that a copy under another label is found."""
    column = {label_id: number for number, label_id in enumerate(label_ids)}
    label_of = {row.sample_id: row.label for row in rows}

    def own(sample_id: str) -> float:
        return float(logp_K_of[sample_id][column[str(label_of[sample_id])]])

    logp_copy = [own(rows[index].sample_id) for index in copies]
    logp_original = [own(str(rows[index].parent)) for index in copies]
    return dict(zip(copies, agreement(logp_copy, logp_original).tolist(), strict=True))


def _with_score(row: ManifestRow, score: float, threshold: float) -> ManifestRow:
    if score >= threshold:
        return replace(row, verification_score=score)
    reason = f"verification: score {score:.3f} is below {threshold:.3f}"
    return replace(row, verification_score=score, status=DROPPED, reason=reason, repeats=0)


def _listed(row: ManifestRow, threshold: float) -> dict[str, Any]:
    return {"sample_id": row.sample_id, "label": row.label, "score": row.verification_score, "threshold": threshold}
