"""Prediction sets with a coverage guarantee: the labels that a photo may have, at most alpha of the true ones left out.

Split conformal prediction (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005) with the score of
the least ambiguous sets, minus the log-probability of a label (Sadinle, Lei and Wasserman, Least ambiguous set-valued
classifiers with bounded error levels, JASA 114, 2019). Of all scores it gives the smallest sets where probabilities
are right, and needs no randomisation; adaptive scores (Romano, Sesia and Candès, Classification with valid and
adaptive coverage, NeurIPS 2020) give larger ones, which for a review queue is more photos to look at.

Thresholds are label-conditional (Mondrian): each of the specialist's targets has its own, so that the dangerous class
keeps its coverage however rare it is; all other labels share one. Where a known share of the written labels is wrong,
coverage is counted for the true ones, see ``fusion.label_errors``. What is guaranteed and what is not is in
``docs/review.md``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fusion.label_errors import true_shares, unmixing

__all__ = ["PredictionSets", "Threshold", "conformal_quantile", "fit_prediction_sets"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Threshold(BaseModel):
    """The largest score that a label may have and still be in the set.

    Attributes:
        score: Minus the natural log-probability; infinite where too few rows were there to leave any label out.
        rows: Rows that it was taken from.
        shared: Whether other labels have the same threshold, from the same rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    score: float
    rows: Annotated[int, Field(ge=0)]
    shared: bool


class PredictionSets(BaseModel):
    """Fitted thresholds.

    Attributes:
        alpha: Share of photos whose true label may be missing from its set, in (0, 1).
        thresholds: One a label, in the order of the card's labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    alpha: Annotated[float, Field(gt=0, lt=1)]
    thresholds: tuple[Threshold, ...]

    def sets(self, logps_NK: Floats) -> NDArray[np.bool_]:
        """Which labels are in the set of each photo, shape (N, K).

        A set may hold one label, several, or none: then no label looks like its calibration rows. A row of NaN, a photo
        that the base model could not read, gets every label.
        """
        limit_K = np.array([threshold.score for threshold in self.thresholds])
        return ~(-np.asarray(logps_NK, dtype=np.float64) > limit_K)


def conformal_quantile(scores_N: Floats, alpha: float, weights_N: Floats | None = None, rows: int = 0) -> float:
    """The smallest score up to which a share (1 - alpha) (1 + 1 / n) of n rows lies, infinity when there is none.

    Without weights that is the ceil((n + 1)(1 - alpha))-th smallest score. With it a further exchangeable row's score
    is not above the threshold with probability >= 1 - alpha for any n, and < 1 - alpha + 1 / (n + 1) where no scores
    are tied; ties only raise the coverage.

    Args:
        scores_N: Scores, in any order.
        alpha: Share that may lie above, in (0, 1).
        weights_N: What each score adds to the share, with the sum 1; may be negative, then the share must stay reached
            for all greater scores. 1 / n each when None.
        rows: n where it is not the number of scores.
    """
    scores_N = np.asarray(scores_N, dtype=np.float64)
    rows = rows or len(scores_N)
    if not rows:
        return math.inf
    order = np.argsort(scores_N, kind="stable")
    sorted_N = scores_N[order]
    share_N = np.arange(1, rows + 1) / rows if weights_N is None else np.cumsum(weights_N[order])
    # 20 x 0.95 is 19, whatever binary fractions make of it; of tied scores the last one has the share of all.
    reached_N = (share_N >= (1 - alpha) * (1 + 1 / rows) - 1e-9)[np.searchsorted(sorted_N, sorted_N, side="right") - 1]
    if not reached_N[-1]:
        return math.inf
    missed = np.flatnonzero(~reached_N)
    return float(sorted_N[missed[-1] + 1 if len(missed) else 0])


def fit_prediction_sets(
    logps_NK: Floats,
    labels_N: Ints,
    target_K: NDArray[np.bool_],
    *,
    alpha: float,
    written_KK: Floats | None = None,
    label_ids: Sequence[str] = (),
) -> PredictionSets:
    """Take the thresholds from labelled rows that the probabilities were not fitted on.

    A target gets a threshold of its own when it has enough rows for a finite one (19 at alpha 0.05); with fewer it
    would be in every set, so it shares the other labels' threshold instead.

    Args:
        logps_NK: Calibrated fused log-probabilities, no NaN; cross-fitted ones in practice.
        labels_N: Class indices as they were written.
        target_K: True for the specialist's targets.
        alpha: Share of true labels that may be left out, in (0, 1).
        written_KK: Probability of a written label (column) given the true one (row); None: all are right.
        label_ids: What errors call the labels; their numbers from 0 where not given.

    Raises:
        DataError: ``written_KK`` makes more wrong labels than there are labels.
    """
    classes = len(target_K)
    written_KK = np.eye(classes) if written_KK is None else written_KK
    shares_K = true_shares(labels_N, written_KK, label_ids)
    mix_KK = unmixing(shares_K, written_KK)
    count_K = np.bincount(labels_N, minlength=classes)

    def threshold(members: NDArray[np.int64], shared: bool) -> Threshold:
        """Of the labels in ``members`` together: each one's score of the rows that say something about it."""
        rows, total = int(count_K[members].sum()), shares_K[members].sum()
        scores, weights = [], []
        for k in members if total > 0 else ():
            weight_N = shares_K[k] / total * mix_KK[k, labels_N] / count_K[labels_N]
            told = weight_N != 0
            scores.append(-logps_NK[told, k])
            weights.append(weight_N[told])
        limit = conformal_quantile(np.concatenate(scores), alpha, np.concatenate(weights), rows) if scores else math.inf
        return Threshold(score=limit, rows=rows, shared=shared)

    alone = {int(k): threshold(np.array([k]), shared=False) for k in np.flatnonzero(target_K)}
    own = {k: found for k, found in alone.items() if math.isfinite(found.score)}
    shared = threshold(np.array([k for k in range(classes) if k not in own], dtype=np.int64), shared=True)
    return PredictionSets(alpha=alpha, thresholds=tuple(own.get(k, shared) for k in range(classes)))
