"""Prediction sets with a coverage guarantee: the labels that a photo may have, at most alpha of the true ones left out.

Split conformal prediction (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005) with the score of
the least ambiguous sets, minus the log-probability of a label (Sadinle, Lei and Wasserman, Least ambiguous set-valued
classifiers with bounded error levels, JASA 114, 2019). Of all scores it gives the smallest sets where probabilities
are right, and needs no randomisation; adaptive scores (Romano, Sesia and Candès, Classification with valid and
adaptive coverage, NeurIPS 2020) give larger ones, which for a review queue is more photos to look at.

Thresholds are label-conditional (Mondrian): each of the specialist's targets has its own, so that the dangerous class
keeps its coverage however rare it is; all other labels share one. What is guaranteed and what is not is in
``docs/review.md``.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

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


def conformal_quantile(scores_N: Floats, alpha: float) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest score, infinity when there are not so many.

    With it a further exchangeable row's score is not above the threshold with probability >= 1 - alpha for any n, and
    < 1 - alpha + 1 / (n + 1) where no scores are tied; ties only raise the coverage.
    """
    n = len(scores_N)
    rank = math.ceil((n + 1) * (1 - alpha) - 1e-9)  # 20 x 0.95 is 19, whatever binary fractions make of it
    return float(np.partition(scores_N, rank - 1)[rank - 1]) if rank <= n else math.inf


def fit_prediction_sets(
    logps_NK: Floats, labels_N: Ints, target_K: NDArray[np.bool_], *, alpha: float
) -> PredictionSets:
    """Take the thresholds from labelled rows that the probabilities were not fitted on.

    A target gets a threshold of its own when it has enough rows for a finite one (19 at alpha 0.05); with fewer it
    would be in every set, so it shares the other labels' threshold instead.

    Args:
        logps_NK: Calibrated fused log-probabilities, no NaN; cross-fitted ones in practice.
        labels_N: True class indices.
        target_K: True for the specialist's targets.
        alpha: Share of true labels that may be left out, in (0, 1).
    """
    scores_N = -logps_NK[np.arange(len(labels_N)), labels_N]
    own: dict[int, Threshold] = {}
    for k in np.flatnonzero(target_K):
        here = labels_N == k
        limit = conformal_quantile(scores_N[here], alpha)
        if math.isfinite(limit):
            own[int(k)] = Threshold(score=limit, rows=int(here.sum()), shared=False)
    rest = ~np.isin(labels_N, list(own))
    shared = Threshold(score=conformal_quantile(scores_N[rest], alpha), rows=int(rest.sum()), shared=True)
    return PredictionSets(alpha=alpha, thresholds=tuple(own.get(k, shared) for k in range(len(target_K))))
