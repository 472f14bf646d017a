"""The audit: alarmed by a planted shortcut, calm without one."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_builders.inspect.audit import audit_features

CLASSES = ("hot", "warm", "cold")


def _data(seed: int, count: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.array(CLASSES, dtype=object)[np.minimum(rng.geometric(0.5, count) - 1, 2)]
    return rng.normal(size=(count, 4)), labels, np.arange(count)


@pytest.mark.parametrize("seed", range(3))
def test_calm_on_noise(seed: int) -> None:
    features, labels, groups = _data(seed)
    audit = audit_features(features, "abcd", labels, groups, label_order=CLASSES, seed=0)
    assert audit is not None
    assert all(item.low < 0.65 for item in audit.classes)
    assert audit.interval[0] <= audit.balanced_accuracy <= audit.interval[1]
    assert audit.accuracy < audit.majority + 0.1


def test_one_class_of_another_size_is_seen_and_named() -> None:
    features, labels, groups = _data(0)
    features[:, 2] += 6 * (labels == "cold")
    audit = audit_features(features, "abcd", labels, groups, label_order=CLASSES, seed=0)
    assert audit is not None
    hot, _, cold = audit.classes
    assert cold.low > 0.95
    assert audit.features[0][0] == "c"
    assert hot.low < 0.8
    assert audit.accuracy > audit.majority + 0.05
    assert audit.interval[0] > audit.chance


def test_near_duplicates_do_not_leak_into_the_held_out_fold() -> None:
    """Twenty photos of each scene: a feature that tells the scene must not count as telling the class."""
    rng = np.random.default_rng(0)
    scenes = np.repeat(np.arange(40), 20)
    labels = np.array(CLASSES, dtype=object)[rng.integers(0, 3, 40)][scenes]
    features = rng.normal(size=(40, 3))[scenes] + 0.001 * rng.normal(size=(800, 3))
    kept = audit_features(features, "abc", labels, scenes, label_order=CLASSES, seed=0)
    parted = audit_features(features, "abc", labels, np.arange(800), label_order=CLASSES, seed=0)
    assert kept is not None
    assert parted is not None
    assert parted.balanced_accuracy > 0.95
    assert kept.balanced_accuracy < 0.6


def test_unknown_values_constant_features_and_rare_classes() -> None:
    features, labels, groups = _data(1)
    features[::3, 0] = np.nan
    features[:, 1] = 5
    labels[0] = "rare"
    audit = audit_features(features, "abcd", labels, groups, label_order=(*CLASSES, "rare"), seed=0)
    assert audit is not None
    assert [item.label for item in audit.classes] == list(CLASSES)
    assert "b" not in dict(audit.features)


def test_too_little_to_audit() -> None:
    assert (
        audit_features(np.zeros((0, 1)), "a", np.array([], object), np.array([], int), label_order="ab", seed=0) is None
    )
    labels = np.array(["a"] * 20 + ["b"] * 4, dtype=object)
    assert audit_features(np.zeros((24, 1)), "x", labels, np.arange(24), label_order="ab", seed=0) is None


def test_nothing_but_constants_is_chance() -> None:
    _, labels, groups = _data(2)
    audit = audit_features(np.ones((300, 2)), "ab", labels, groups, label_order=CLASSES, seed=0)
    assert audit is not None
    assert all(item.auc == 0.5 for item in audit.classes)
    assert audit.accuracy == audit.majority
