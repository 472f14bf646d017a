"""Scores of several systems on the same labelled rows, with intervals and paired differences, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.bootstrap import LEVEL, interval, mcnemar_p, resample_confusions
from fusion.metrics import (
    accuracy,
    chance_confusion,
    class_scores,
    confusion_matrix,
    majority_confusion,
    weighted_f1,
)

__all__ = ["compare_systems"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def compare_systems(
    labels_N: Ints,
    predicted: Mapping[str, Ints],
    pairs: Sequence[tuple[str, str]],
    *,
    label_ids: Sequence[str],
    weights_K: Floats,
    resamples: int,
    seed: int,
    group_N: Ints | None = None,
) -> dict[str, Any]:
    """Score systems side by side.

    Args:
        labels_N: True class indices, at least one row.
        predicted: Class indices by system.
        pairs: (system, rival): differences are system minus rival.
        label_ids: Label identifiers in class order.
        weights_K: Weight of every class's F1.
        resamples: Bootstrap resamples; the same rows are drawn for all systems.
        seed: Seed of the resamples.
        group_N: Rows with the same number are near-duplicates and are drawn together; each row by itself when None.

    Returns:
        ``rows``, ``max_score``, ``levels`` (majority and chance), ``systems`` and ``differences``.
    """
    classes = len(label_ids)
    names = list(predicted)
    rng = np.random.default_rng(seed)
    answers = [predicted[name] for name in names]
    drawn = resample_confusions(labels_N, answers, classes, resamples=resamples, rng=rng, group_N=group_N)
    scores = {name: weighted_f1(drawn[i], weights_K) for i, name in enumerate(names)}
    errors = {name: 1 - accuracy(drawn[i]) for i, name in enumerate(names)}
    f1s = {name: class_scores(drawn[i]).f1 for i, name in enumerate(names)}
    systems = {}
    for name in names:
        figures = _figures(confusion_matrix(labels_N, predicted[name], classes), label_ids, weights_K)
        figures["score_interval"] = list(interval(scores[name]))
        figures["error_rate_interval"] = list(interval(errors[name]))
        for k, label in enumerate(label_ids):
            figures["per_class"][label]["f1_interval"] = list(interval(f1s[name][:, k]))
        systems[name] = figures
    support_K = np.bincount(labels_N, minlength=classes)
    return {
        "rows": len(labels_N),
        "max_score": float(np.sum(weights_K)),
        "interval_level": LEVEL,
        "resamples": resamples,
        "levels": {
            "chance": _figures(chance_confusion(support_K), label_ids, weights_K),
            "majority": _figures(majority_confusion(support_K), label_ids, weights_K),
        },
        "systems": systems,
        "differences": [
            _difference(a, b, labels_N, predicted, systems, scores[a] - scores[b], (errors[a], errors[b]))
            for a, b in pairs
        ],
    }


def _figures(confusion: NDArray, label_ids: Sequence[str], weights_K: Floats) -> dict[str, Any]:
    per_class = class_scores(confusion)
    return {
        "score": float(weighted_f1(confusion, weights_K)),
        "accuracy": float(accuracy(confusion)),
        "error_rate": 1 - float(accuracy(confusion)),
        "per_class": {
            label: {
                "precision": float(per_class.precision[k]),
                "recall": float(per_class.recall[k]),
                "f1": float(per_class.f1[k]),
                "support": int(per_class.support[k]),
            }
            for k, label in enumerate(label_ids)
        },
        "confusion": confusion.tolist(),
    }


def _difference(
    system: str,
    rival: str,
    labels_N: Ints,
    predicted: Mapping[str, Ints],
    systems: Mapping[str, Any],
    gain_R: Floats,
    errors_R: tuple[Floats, Floats],
) -> dict[str, Any]:
    after_R, before_R = errors_R
    errors_before = systems[rival]["error_rate"]
    error_change = systems[system]["error_rate"] - errors_before
    return {
        "system": system,
        "against": rival,
        "score": systems[system]["score"] - systems[rival]["score"],
        "score_interval": list(interval(gain_R)),
        "error_rate": error_change,
        "error_rate_interval": list(interval(after_R - before_R)),
        "relative_error_rate": error_change / errors_before if errors_before > 0 else None,
        # None too where a resample holds no error of the rival's, of which another share could be taken.
        "relative_error_rate_interval": list(interval(after_R / before_R - 1)) if before_R.all() else None,
        "mcnemar_p": mcnemar_p(predicted[system] != labels_N, predicted[rival] != labels_N),
    }
