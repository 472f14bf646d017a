import math

import numpy as np
import pytest
from fusion_data import SHARES
from hypothesis import given
from hypothesis import strategies as st

from fusion.calibration import renormalise
from fusion.conformal import PredictionSets, conformal_quantile, fit_prediction_sets
from fusion.coverage import binomial_interval, coverage, format_coverage

TARGET = np.array([True, False, False, False])


def _sample(rng, rows, sharp=1.0):
    labels = rng.choice(4, rows, p=SHARES)
    logits = rng.normal(size=(rows, 4))
    logits[np.arange(rows), labels] += 2
    return renormalise(sharp * logits), labels


@given(st.integers(1, 200), st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.5]))
def test_quantile_is_the_rank_that_the_guarantee_asks_for(n, alpha):
    found = conformal_quantile(np.arange(n)[::-1].astype(float), alpha)
    covered = n + 1 if math.isinf(found) else int(found) + 1  # of n + 1 equally likely ranks of the next row
    assert covered >= (n + 1) * (1 - alpha) - 1e-6
    assert covered - 1 < (n + 1) * (1 - alpha) or n + 1 == covered


def test_nineteen_rows_are_the_fewest_for_alpha_one_twentieth():
    assert conformal_quantile(np.arange(19.0), 0.05) == 18
    assert conformal_quantile(np.arange(18.0), 0.05) == math.inf
    assert conformal_quantile(np.empty(0), 0.05) == math.inf


@pytest.mark.parametrize("sharp", [0.5, 1.0, 3.0])
def test_coverage_is_what_was_asked_for_even_where_probabilities_are_wrong(sharp):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        fitted = fit_prediction_sets(*_sample(rng, 800, sharp), TARGET, alpha=0.1)
        logps, labels = _sample(rng, 1500, sharp)
        figures = coverage(fitted.sets(logps), labels, ("a", "b", "c", "d"))
        found.append((figures["coverage"], figures["per_class"]["a"]["coverage"]))
    all_classes, target = np.mean(found, axis=0)
    assert all_classes == pytest.approx(0.9, abs=0.01)
    assert 0.89 <= target <= 0.9 + 1 / (800 * SHARES[0]) + 0.01


def test_a_target_with_too_few_rows_shares_the_threshold():
    rng = np.random.default_rng(1)
    logps, labels = _sample(rng, 300)
    keep = (labels != 0) | (np.cumsum(labels == 0) <= 8)
    fitted = fit_prediction_sets(logps[keep], labels[keep], TARGET, alpha=0.1)
    assert all(threshold.shared for threshold in fitted.thresholds)
    assert fitted.thresholds[0].rows == keep.sum()
    fitted = fit_prediction_sets(logps, labels, TARGET, alpha=0.1)
    assert [threshold.shared for threshold in fitted.thresholds] == [False, True, True, True]
    assert fitted.thresholds[0].rows + fitted.thresholds[1].rows == 300


def test_few_rows_leave_no_label_out_and_read_back():
    fitted = fit_prediction_sets(np.log(np.full((5, 4), 0.25)), np.arange(5) % 4, TARGET, alpha=0.05)
    assert fitted.sets(np.log([[0.97, 0.01, 0.01, 0.01]])).all()
    assert PredictionSets.model_validate_json(fitted.model_dump_json()) == fitted


def test_ties_and_unread_photos_are_in_and_rows_stand_alone():
    logps = np.log(np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.25, 0.25, 0.25, 0.25]]))
    tied = np.repeat(logps[:1], 50, axis=0)
    fitted = fit_prediction_sets(tied, np.zeros(50, dtype=int), TARGET, alpha=0.1)
    assert fitted.thresholds[0].score == pytest.approx(-np.log(0.7))
    assert fitted.sets(tied)[:, 0].all()
    rng = np.random.default_rng(2)
    fitted = fit_prediction_sets(*_sample(rng, 400), TARGET, alpha=0.1)
    assert fitted.sets(np.full((1, 4), np.nan)).all()
    logps, _ = _sample(rng, 50)
    np.testing.assert_array_equal(fitted.sets(logps), np.concatenate([fitted.sets(row[None]) for row in logps]))


@pytest.mark.parametrize(("hits", "rows"), [(0, 0), (0, 10), (10, 10), (95, 100), (1, 3)])
def test_binomial_interval_agrees_with_scipy(hits, rows):
    from scipy.stats import binomtest

    low, high = binomial_interval(hits, rows)
    if not rows:
        assert (low, high) == (0, 1)
        return
    theirs = binomtest(hits, rows).proportion_ci(0.95, method="exact")
    assert (low, high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))


def test_coverage_counts_by_true_class_and_prints():
    sets = np.array([[True, False], [True, True], [False, False], [False, True]])
    found = coverage(sets, np.array([0, 1, 1, 0]), ("a", "b"))
    assert (found["rows"], found["covered"], found["coverage"], found["mean_size"]) == (4, 2, 0.5, 1.0)
    assert found["one_label"] == 0.5
    assert found["per_class"]["b"]["coverage"] == 0.5
    text = format_coverage("title", found)
    assert text.splitlines()[0] == "title"
    assert "0.5000" in text
    empty = coverage(sets[:0], np.empty(0, dtype=int), ("a", "b"))
    assert (empty["coverage"], empty["coverage_interval"]) == (None, [0.0, 1.0])
