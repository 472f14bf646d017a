"""Counts into figures: per-class precision, recall and F1, the weighted score, and the levels to beat.

A confusion matrix has the true class in its rows and the predicted class in its columns. Every function takes
leading axes (such as bootstrap resamples) as they come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ClassScores",
    "accuracy",
    "chance_confusion",
    "class_scores",
    "confusion_matrix",
    "majority_confusion",
    "score_influence",
    "weighted_f1",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScores:
    """Figures of every class, each of shape (..., K) and in [0, 1], ``support`` aside (rows of that class)."""

    precision: Floats
    recall: Floats
    f1: Floats
    support: Floats


def confusion_matrix(true_N: Ints, predicted_N: Ints, classes: int) -> Ints:
    """Count rows by true and predicted class.

    Args:
        true_N: Class indices, 0 to ``classes`` - 1.
        predicted_N: Class indices, as many.
        classes: Number of classes K.

    Returns:
        Counts of shape (K, K), true class by row.
    """
    cells = np.bincount(np.asarray(true_N) * classes + np.asarray(predicted_N), minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def class_scores(confusion: NDArray) -> ClassScores:
    """Precision, recall and F1 of every class; what has no denominator is 0, as scikit-learn's ``zero_division=0``.

    Args:
        confusion: Counts of shape (..., K, K); expected counts may be fractions.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    support = confusion.sum(axis=-1).astype(np.float64)
    predicted = confusion.sum(axis=-2).astype(np.float64)
    return ClassScores(
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, support + predicted),
        support=support,
    )


def weighted_f1(confusion: NDArray, weights_K: Floats) -> Floats:
    """The competition's score: the sum of weight x F1 over the classes, 0 to the sum of the weights.

    Args:
        confusion: Counts of shape (..., K, K).
        weights_K: Weight of every class, >= 0.

    Returns:
        Scores of shape (...).
    """
    return class_scores(confusion).f1 @ np.asarray(weights_K, dtype=np.float64)


def accuracy(confusion: NDArray) -> Floats:
    """Share of rows on the diagonal, shape (...); 0 when there are no rows."""
    hits = np.trace(confusion, axis1=-2, axis2=-1).astype(np.float64)
    return _ratio(hits, confusion.sum(axis=(-2, -1)).astype(np.float64))


def majority_confusion(support_K: NDArray) -> Floats:
    """Confusion of answering the commonest class for every row."""
    confusion = np.zeros((len(support_K), len(support_K)))
    confusion[:, int(np.argmax(support_K))] = support_K
    return confusion


def chance_confusion(support_K: NDArray) -> Floats:
    """Expected confusion of labels drawn at random with the classes' own frequencies; F1 of a class is its share."""
    support = np.asarray(support_K, dtype=np.float64)
    return np.outer(support, support) / max(support.sum(), 1.0)


def score_influence(true_N: Ints, predicted_N: Ints, weights_K: Floats) -> Floats:
    """First-order influence of every row on the weighted score (delta method).

    The score is a smooth function of the confusion counts; a row's influence is the derivative by the count of its
    cell. The influences sum to 0, and the standard error of a paired difference of two systems on the same rows is
    the root of the summed squares of the differences of their influences.

    Returns:
        Influences of shape (N,).
    """
    weights = np.asarray(weights_K, dtype=np.float64)
    confusion = confusion_matrix(true_N, predicted_N, len(weights))
    mass_K = (confusion.sum(axis=0) + confusion.sum(axis=1)).astype(np.float64)
    f1_K = class_scores(confusion).f1
    cost_K = _ratio(weights * f1_K, mass_K)
    gain_K = _ratio(2 * weights, mass_K)
    return np.where(true_N == predicted_N, gain_K[true_N], 0.0) - cost_K[true_N] - cost_K[predicted_N]


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
