import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter

from fusion.calibration import apply_temperature, log_loss, measure, renormalise
from fusion.calibrators import (
    CALIBRATORS,
    Calibrator,
    IsotonicCalibrator,
    MatrixCalibrator,
    choose_calibrator,
    cross_calibrate,
    fit_calibrator,
)
from fusion.cross_fit import assign_folds


def _calibrated(seed, rows, classes=4):
    rng = np.random.default_rng(seed)
    logps = renormalise(rng.normal(size=(rows, classes)) * 2)
    labels = (rng.random(rows)[:, None] > np.exp(logps).cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return logps, labels, [f"row {row}" for row in range(rows)]


def _skewed(logps):
    """Spoiled as no temperature can mend: the model prefers one answer, and is too sure of another."""
    return renormalise(logps * np.array([1.0, 3.0, 1.0, 0.5]) + np.array([2.0, 0.0, 0.0, -1.0]))


def test_temperature_stays_where_it_is_all_that_is_wrong():
    logps, labels, keys = _calibrated(0, 2000)
    choice = choose_calibrator(renormalise(logps * 2), labels, keys, folds=5, seed=0)
    assert choice.calibrator.kind == "temperature"
    assert choice.calibrator.temperature == pytest.approx(2, rel=0.1)
    assert set(choice.log_losses) == set(CALIBRATORS)


def test_matrix_is_chosen_where_answers_are_spoiled_apart_and_mends_rows_that_it_has_not_seen():
    logps, labels, keys = _calibrated(1, 6000)
    spoiled = _skewed(logps)
    choice = choose_calibrator(spoiled[:3000], labels[:3000], keys[:3000], folds=5, seed=0)
    assert choice.calibrator.kind == "matrix"
    mended = measure(choice.calibrator.apply(spoiled[3000:]), labels[3000:])
    assert mended.log_loss == pytest.approx(log_loss(logps[3000:], labels[3000:]), rel=0.02)
    assert mended.ece < 0.03 < measure(spoiled[3000:], labels[3000:]).ece


def test_isotonic_is_chosen_for_a_rising_step_that_no_line_follows():
    rng = np.random.default_rng(2)
    said = rng.random(4000)
    labels = (rng.random(4000) > np.where(said > 0.97, 0.9, 0.1)).astype(np.int64)
    logps = np.log(np.column_stack([said, 1 - said]))
    choice = choose_calibrator(logps, labels, [str(i) for i in range(4000)], folds=5, seed=0)
    assert choice.calibrator.kind == "isotonic"
    assert (np.diff(choice.calibrator.inputs[0]) > 0).all()
    assert (np.diff(choice.calibrator.outputs[0]) >= 0).all()


def test_rows_of_one_group_count_once():
    """Twenty copies of 60 rows are no 1,200 rows: what the copies share must not make a gain look sure."""
    logps, labels, keys = _calibrated(3, 60)
    spoiled, labels, keys = np.tile(_skewed(logps), (20, 1)), np.tile(labels, 20), keys * 20
    together = choose_calibrator(spoiled, labels, keys, folds=3, seed=0)
    apart = choose_calibrator(spoiled, labels, [str(i) for i in range(len(labels))], folds=3, seed=0)
    assert apart.calibrator.kind != "temperature"
    assert apart.log_losses["matrix"] < together.log_losses["matrix"]


def test_few_rows_or_an_answer_that_never_is_right_leave_temperature():
    logps, labels, keys = _calibrated(4, 300)
    for count in (0, 5, 20):
        choice = choose_calibrator(logps[:count], labels[:count], keys[:count], folds=5, seed=0)
        assert choice.calibrator.kind == "temperature"
        assert choice.log_losses == {}
    assert choose_calibrator(logps, np.minimum(labels, 2), keys, folds=5, seed=0).log_losses == {}
    one_group = choose_calibrator(logps, labels, ["same"] * 300, folds=5, seed=0)
    assert one_group.log_losses == {}


@pytest.mark.parametrize("kind", CALIBRATORS)
@pytest.mark.parametrize("classes", [2, 4])
def test_saved_calibrators_give_the_same_numbers(kind, classes):
    logps, labels, _ = _calibrated(5, 400, classes)
    fitted = fit_calibrator(kind, logps, labels, np.linspace(0.5, 2, 400))
    again = TypeAdapter(Calibrator).validate_json(fitted.model_dump_json())
    assert again == fitted
    np.testing.assert_array_equal(again.apply(logps), fitted.apply(logps))


@pytest.mark.parametrize("kind", CALIBRATORS)
def test_impossible_and_missing_answers_are_fine(kind):
    logps, labels, _ = _calibrated(6, 400)
    fitted = fit_calibrator(kind, logps, labels)
    odd = np.array([[0.0, -np.inf, -np.inf, -np.inf], [-np.inf] * 4, [np.nan] * 4])
    found = fitted.apply(odd)
    assert np.isfinite(found[:2]).all()
    np.testing.assert_allclose(np.exp(found[:2]).sum(axis=1), 1)
    assert np.isnan(found[2]).all()


@settings(deadline=None, max_examples=30)
@given(arrays(np.float64, (6, 4), elements=st.floats(-60, 0)), st.sampled_from(CALIBRATORS))
def test_rows_are_treated_on_their_own_and_sum_to_one(logps, kind):
    rows, labels, _ = _calibrated(7, 200)
    fitted = fit_calibrator(kind, rows, labels)
    together = fitted.apply(logps)
    np.testing.assert_allclose(np.exp(together).sum(axis=1), 1)
    alone = np.concatenate([fitted.apply(row[None]) for row in logps])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_weights_are_as_good_as_copies():
    logps, labels, _ = _calibrated(8, 300)
    weights = np.where(np.arange(300) < 100, 3.0, 1.0)
    index = np.repeat(np.arange(300), weights.astype(int))
    for kind in ("temperature", "matrix"):
        weighted = fit_calibrator(kind, logps, labels, weights).apply(logps)
        copied = fit_calibrator(kind, logps[index], labels[index]).apply(logps)
        np.testing.assert_allclose(weighted, copied, atol=2e-3)


def test_matrix_agrees_with_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    logps, labels, _ = _calibrated(9, 500)
    ours = fit_calibrator("matrix", logps, labels)
    assert isinstance(ours, MatrixCalibrator)
    theirs = LogisticRegression(max_iter=5000, tol=1e-8).fit(np.maximum(logps, np.log(1e-6)), labels)
    np.testing.assert_allclose(
        np.exp(ours.apply(logps)), theirs.predict_proba(np.maximum(logps, np.log(1e-6))), atol=1e-3
    )


def test_isotonic_never_says_impossible():
    logps = np.log(np.tile([[0.99, 0.01], [0.01, 0.99]], (50, 1)))
    fitted = fit_calibrator("isotonic", logps, np.arange(100) % 2)
    assert isinstance(fitted, IsotonicCalibrator)
    assert np.exp(fitted.apply(logps)).min() == pytest.approx(0.005)


def test_cross_calibration_does_not_see_the_own_fold():
    logps, labels, keys = _calibrated(10, 300)
    fold = assign_folds(keys, labels, folds=3, seed=0)
    found = cross_calibrate("temperature", logps, labels, fold)
    for f in range(3):
        without = fit_calibrator("temperature", logps[fold != f], labels[fold != f])
        np.testing.assert_array_equal(found[fold == f], apply_temperature(logps[fold == f], without.temperature))


WRITTEN = np.array([[0.9, 0.1, 0.0, 0.0], [0.05, 0.9, 0.05, 0.0], [0.0, 0.1, 0.9, 0.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.mark.parametrize("kind", CALIBRATORS)
def test_a_known_share_of_wrong_labels_is_not_taken_for_doubt(kind):
    logps, labels, _ = _calibrated(8, 8000)
    logps = renormalise(logps * 3)  # sure enough that a tenth of wrong labels is what makes it look wrong
    labels = (np.random.default_rng(9).random(8000)[:, None] > np.exp(logps).cumsum(axis=1)).sum(axis=1).clip(max=3)
    draws = np.random.default_rng(10).random(8000)[:, None]
    written = (draws > WRITTEN[labels].cumsum(axis=1)).sum(axis=1).clip(max=3)
    fit, test = slice(None, 5000), slice(5000, None)
    naive = fit_calibrator(kind, logps[fit], written[fit])
    aware = fit_calibrator(kind, logps[fit], written[fit], written_KK=WRITTEN)
    assert measure(naive.apply(logps[test]), labels[test]).ece > 0.05
    assert measure(aware.apply(logps[test]), labels[test]).ece < 0.02
    again = fit_calibrator(kind, logps[fit], written[fit], written_KK=np.eye(4))
    np.testing.assert_array_equal(again.apply(logps[test]), naive.apply(logps[test]))


def test_choice_by_the_log_loss_of_what_was_written():
    logps, labels, keys = _calibrated(11, 3000)
    written = (np.random.default_rng(12).random(3000)[:, None] > WRITTEN[labels].cumsum(axis=1)).sum(axis=1).clip(max=3)
    choice = choose_calibrator(logps, written, keys, folds=5, seed=0, written_KK=WRITTEN)
    assert choice.calibrator.kind == "temperature"
    assert choice.calibrator.temperature == pytest.approx(1, rel=0.1)
    expected = -np.log((np.exp(logps) * WRITTEN[:, written].T).sum(axis=1)).mean()
    assert choice.log_losses["temperature"] == pytest.approx(expected, rel=0.01)


def test_a_label_that_the_model_rules_out_counts_as_written():
    logps = np.log(np.array([[1.0, 1e-300, 1e-300, 1e-300]] * 20 + [[1e-300, 1e-300, 1e-300, 1.0]] * 20))
    labels = np.array([0] * 19 + [3] + [3] * 20)
    found = fit_calibrator("temperature", logps, labels, written_KK=WRITTEN)
    assert np.isfinite(found.apply(logps)).all()


def test_few_rows_stay_few_when_each_may_have_several_true_labels():
    logps, labels, _ = _calibrated(13, 9)
    assert fit_calibrator("temperature", logps * 3, labels, written_KK=WRITTEN).temperature == 1.0
