"""Can a few plain numbers of a photo tell its class? A cross-validated classifier, with what chance would reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClassAudit", "FeatureAudit", "audit_features"]

_FOLDS = 5
_TREES = 40
_DEPTH = 4  # of the tree on a single feature
_LEAST_LEAF = 5  # photos in a leaf: a tree that learns single photos by heart tells nothing
_ROWS = 20_000  # a larger data set is sampled
_RESAMPLES = 500
_Z95 = 1.959964

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassAudit:
    """How well one class is told from all others.

    Attributes:
        label: The class.
        photos: How many photos it has.
        auc: Area under the ROC curve, 0.5 is chance, 1 is always.
        low: Lower end of its 95 % interval.
    """

    label: str
    photos: int
    auc: float
    low: float


@dataclass(frozen=True, slots=True)
class FeatureAudit:
    """What a set of features tells about the classes, in cross-validation.

    Attributes:
        photos: Photos that were used.
        accuracy: Share of right answers when every class has its real frequency.
        majority: Accuracy of always answering the largest class.
        balanced_accuracy: Mean recall of the classes.
        interval: Its 95 % bootstrap interval over near-duplicate groups.
        chance: Balanced accuracy of guessing: 1 / number of classes.
        classes: One a class, the order of ``labels``.
        features: Balanced accuracy of each feature alone, the best first.
    """

    photos: int
    accuracy: float
    majority: float
    balanced_accuracy: float
    interval: tuple[float, float]
    chance: float
    classes: tuple[ClassAudit, ...]
    features: tuple[tuple[str, float], ...]


def audit_features(
    features_NF: Floats,
    names: Sequence[str],
    label_N: NDArray[np.object_],
    group_N: NDArray[np.int64],
    *,
    label_order: Sequence[str],
    seed: int,
) -> FeatureAudit | None:
    """Cross-validate a random forest on the features, near-duplicates kept together, classes of equal weight.

    Args:
        features_NF: float64, NaN where unknown.
        names: Names of the features, F.
        label_N: Classes, object, shape (N,).
        group_N: Near-duplicate groups, int64, shape (N,).
        label_order: Classes in the order of the result; classes with fewer than five groups are left out.
        seed: Of folds, forests and resamples.

    Returns:
        The audit; None when fewer than two classes have photos in at least five groups.
    """
    kept_labels = [label for label in label_order if len(np.unique(group_N[label_N == label])) >= _FOLDS]
    if len(kept_labels) < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(np.isin(label_N, kept_labels))
    if len(rows) > _ROWS:
        rows = np.sort(rng.choice(rows, size=_ROWS, replace=False))
    target_N = np.array([kept_labels.index(label) for label in label_N[rows]], dtype=np.int64)
    features_NF, group_N = features_NF[rows], group_N[rows]
    varying = [f for f in range(len(names)) if len(np.unique(features_NF[:, f])) > 1]
    splits = _folds(target_N, group_N, seed)
    probs_NK = _cross_validate(features_NF[:, varying], target_N, splits, len(kept_labels), _TREES, seed)
    right_N = probs_NK.argmax(axis=1) == target_N
    single = [
        (names[f], _recall(_cross_validate(features_NF[:, [f]], target_N, splits, len(kept_labels), 0, seed), target_N))
        for f in varying
    ]
    return FeatureAudit(
        photos=len(rows),
        # The forest weighs classes equally; their frequencies make its answers comparable to the majority's.
        accuracy=float(np.mean((probs_NK * np.bincount(target_N)).argmax(axis=1) == target_N)),
        majority=float(np.bincount(target_N).max() / len(rows)),
        balanced_accuracy=_recall(probs_NK, target_N),
        interval=_interval(right_N, target_N, group_N, rng),
        chance=1 / len(kept_labels),
        classes=tuple(_class_audit(label, k, probs_NK, target_N) for k, label in enumerate(kept_labels)),
        features=tuple(sorted(single, key=lambda item: (-item[1], item[0]))),
    )


Splits = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def _folds(target_N: NDArray[np.int64], group_N: NDArray[np.int64], seed: int) -> Splits:
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_splits=_FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(target_N)), target_N, group_N))


def _cross_validate(
    features_NF: Floats, target_N: NDArray[np.int64], splits: Splits, classes: int, trees: int, seed: int
) -> Floats:
    """Out-of-fold class probabilities (N, K) of a forest, or of one small tree when ``trees`` is 0."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    if features_NF.shape[1] == 0:
        return np.full((len(target_N), classes), 1 / classes)
    leaf = {"min_samples_leaf": _LEAST_LEAF, "class_weight": "balanced", "random_state": seed}
    probs_NK = np.zeros((len(target_N), classes))
    for fitted, held_out in splits:
        # One job: with more, threads add up probabilities in an order that changes their last bits.
        tree = DecisionTreeClassifier(max_depth=_DEPTH, **leaf)
        model = RandomForestClassifier(trees, n_jobs=1, **leaf) if trees else tree
        model.fit(features_NF[fitted], target_N[fitted])
        probs_NK[np.ix_(held_out, model.classes_)] = model.predict_proba(features_NF[held_out])
    return probs_NK


def _recall(probs_NK: Floats, target_N: NDArray[np.int64]) -> float:
    right_N = probs_NK.argmax(axis=1) == target_N
    return float(np.mean(np.bincount(target_N, weights=right_N) / np.bincount(target_N)))


def _interval(
    right_N: NDArray[np.bool_], target_N: NDArray[np.int64], group_N: NDArray[np.int64], rng: np.random.Generator
) -> tuple[float, float]:
    """95 % percentile interval of the balanced accuracy when groups are drawn anew."""
    _, group_at_N = np.unique(group_N, return_inverse=True)
    groups = int(group_at_N.max()) + 1
    values = []
    for _ in range(_RESAMPLES):
        weight_N = rng.multinomial(groups, np.full(groups, 1 / groups))[group_at_N]
        drawn_K = np.bincount(target_N, weights=weight_N)
        right_K = np.bincount(target_N, weights=weight_N * right_N)
        values.append(float(np.mean(right_K[drawn_K > 0] / drawn_K[drawn_K > 0])))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _class_audit(label: str, at: int, probs_NK: Floats, target_N: NDArray[np.int64]) -> ClassAudit:
    """AUC with the interval of Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, 1982."""
    from sklearn.metrics import roc_auc_score

    is_N = target_N == at
    auc = float(roc_auc_score(is_N, probs_NK[:, at]))
    positives, negatives = int(is_N.sum()), int((~is_N).sum())
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    error = np.sqrt(max(variance, 0) / (positives * negatives))
    return ClassAudit(label, positives, auc, float(max(0.0, auc - _Z95 * error)))
