import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.calibration import (
    TEMPERATURE_BOUNDS,
    apply_temperature,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    fit_temperature_and_prior,
    log_loss,
    measure,
    prior_weights,
    renormalise,
)


def _calibrated(rng, rows, classes=4):
    logps = renormalise(rng.normal(size=(rows, classes)) * 2)
    labels = (rng.random(rows)[:, None] > np.exp(logps).cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return logps, labels


def test_finds_the_temperature_that_spoiled_calibrated_answers():
    rng = np.random.default_rng(0)
    logps, labels = _calibrated(rng, 20_000)
    for temperature in (0.4, 1.0, 2.5):
        assert fit_temperature(logps / temperature, labels) == pytest.approx(1 / temperature, rel=0.05)


def test_calibration_never_raises_the_log_loss_and_lowers_the_calibration_error_of_overconfident_answers():
    rng = np.random.default_rng(1)
    logps, labels = _calibrated(rng, 3000)
    before = renormalise(logps * 3)
    after = apply_temperature(before, fit_temperature(before, labels))
    assert measure(after, labels).log_loss < measure(before, labels).log_loss
    assert measure(after, labels).brier < measure(before, labels).brier
    assert measure(after, labels).ece < 0.03 < measure(before, labels).ece


def test_all_right_or_all_wrong_ends_at_a_bound():
    logps = np.log(np.tile([0.7, 0.2, 0.1], (50, 1)))
    assert fit_temperature(logps, np.zeros(50, dtype=int)) == pytest.approx(TEMPERATURE_BOUNDS[0], rel=1e-3)
    assert fit_temperature(logps, np.full(50, 2)) == pytest.approx(TEMPERATURE_BOUNDS[1], rel=1e-3)


def test_few_rows_and_answers_without_any_preference_leave_the_model_as_it_is():
    logps = np.log(np.tile([0.7, 0.3], (9, 1)))
    assert fit_temperature(logps, np.zeros(9, dtype=int)) == 1.0
    assert fit_temperature(np.zeros((0, 2)), np.zeros(0, dtype=int)) == 1.0
    assert fit_temperature(np.log(np.full((40, 2), 0.5)), np.zeros(40, dtype=int)) == 1.0


def test_probability_zero_and_mass_off_the_answers_are_fine():
    logps = np.array([[0.0, -np.inf], [-np.inf, -np.inf], [-30.0, -31.0], [np.nan, np.nan]])
    found = apply_temperature(logps, 0.05)
    np.testing.assert_allclose(np.exp(found[:3]).sum(axis=1), 1)
    assert np.isfinite(found[:3]).all()
    assert np.isnan(found[3]).all()
    np.testing.assert_allclose(renormalise(logps)[1], np.log([0.5, 0.5]))
    assert np.isfinite(log_loss(found[:1], np.array([1])))


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-50, 0), min_size=3, max_size=3), min_size=1, max_size=5), st.floats(0.05, 20))
def test_temperature_keeps_the_ranking_and_sums_to_one(rows, temperature):
    found = apply_temperature(np.array(rows), temperature)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)
    ranked = np.take_along_axis(found, np.argsort(np.array(rows), axis=1, kind="stable"), axis=1)
    assert (np.diff(ranked, axis=1) >= -1e-9).all()


def test_figures_agree_with_scikit_learn():
    from sklearn.metrics import brier_score_loss
    from sklearn.metrics import log_loss as their_log_loss

    rng = np.random.default_rng(2)
    logps, labels = _calibrated(rng, 500, classes=2)
    weights = rng.random(500)
    probability = np.exp(logps)
    assert log_loss(logps, labels, weights) == pytest.approx(their_log_loss(labels, probability, sample_weight=weights))
    theirs = brier_score_loss(labels, probability[:, 1], sample_weight=weights)
    assert brier_score(logps, labels, weights) == pytest.approx(2 * theirs)


def test_calibration_error_of_a_model_that_is_sure_and_half_right():
    logps = np.log(np.tile([1 - 1e-12, 1e-12], (10, 1)))
    assert expected_calibration_error(logps, np.arange(10) % 2) == pytest.approx(0.5)


def test_weights_move_the_rows_to_the_training_prior():
    positive = np.array([True] * 5 + [False] * 95)
    weights = prior_weights(positive, 0.4)
    assert weights.sum() == pytest.approx(100)
    assert weights[positive].sum() == pytest.approx(40)
    np.testing.assert_array_equal(prior_weights(np.zeros(3, dtype=bool), 0.4), np.ones(3))


def test_fits_the_training_prior_that_nobody_wrote_down():
    rng = np.random.default_rng(3)
    positive = rng.random(40_000) < 0.05
    log_ratio = 2.0 * (rng.normal(size=40_000) + 2.0 * positive - 1.0)
    odds = 1.5 * (log_ratio + np.log(0.3 / 0.7))
    logps = np.column_stack([-np.logaddexp(0, -odds), -np.logaddexp(0, odds)])
    temperature, prior = fit_temperature_and_prior(logps, positive)
    assert temperature == pytest.approx(1.5, rel=0.08)
    assert prior == pytest.approx(0.3, abs=0.03)
    assert fit_temperature_and_prior(logps[:0], positive[:0]) == (1.0, 0.5)
    _, lowest = fit_temperature_and_prior(logps, np.zeros(40_000, dtype=bool))
    assert 0 < lowest < 1
