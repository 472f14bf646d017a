import numpy as np

from fusion.calibration import expected_calibration_error, renormalise
from fusion.reliability import calibration_error_interval


def _sample(rng, rows, sharpness=1.0):
    logps = renormalise(rng.normal(size=(rows, 3)) * 2)
    labels = (rng.random(rows)[:, None] > np.exp(logps).cumsum(axis=1)).sum(axis=1).clip(max=2)
    return renormalise(logps * sharpness), labels


def test_interval_takes_back_what_chance_adds_to_the_error_of_calibrated_answers():
    rng = np.random.default_rng(0)
    samples = [_sample(rng, 500) for _ in range(20)]
    found = [expected_calibration_error(*sample) for sample in samples]
    low = [calibration_error_interval(*sample, resamples=300, rng=rng)[0] for sample in samples]
    assert np.mean(low) < 0.25 * np.mean(found)


def test_interval_holds_the_error_of_overconfident_answers():
    rng = np.random.default_rng(1)
    truth = expected_calibration_error(*_sample(rng, 200_000, 2.0))
    spans = [calibration_error_interval(*_sample(rng, 400, 2.0), resamples=300, rng=rng) for _ in range(40)]
    inside = np.mean([low <= truth <= high for low, high in spans])
    assert inside >= 0.85
    assert np.mean([low for low, _ in spans]) > 0.02


def test_slices_and_order_change_nothing_and_one_row_is_enough():
    rng = np.random.default_rng(2)
    logps, labels = _sample(rng, 300)
    order = rng.permutation(300)
    first = calibration_error_interval(logps, labels, resamples=100, rng=np.random.default_rng(0))
    np.testing.assert_allclose(
        first, calibration_error_interval(logps[order], labels[order], resamples=100, rng=np.random.default_rng(0))
    )
    low, high = calibration_error_interval(logps[:1], labels[:1], resamples=50, rng=rng)
    assert 0 <= low <= high <= 1
