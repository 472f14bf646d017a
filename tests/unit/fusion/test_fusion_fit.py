from dataclasses import replace

import numpy as np
import pytest
from fusion_data import make_target, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.calibration import apply_temperature, measure, prior_weights
from fusion.calibrators import MatrixCalibrator, TemperatureCalibrator
from fusion.coefficient import NO_FUSION
from fusion.coefficient_fit import family
from fusion.cross_fit import assign_folds
from fusion.decision import decide, fit_offsets
from fusion.fit import FitRows, FitSettings, fit, fit_parameters
from fusion.metrics import confusion_matrix, weighted_f1
from fusion.systems import SYSTEMS, UNDECIDED, apply_parameters

WEIGHTS = np.array([2.0, 1.5, 1.0, 1.0])
QUICK = FitSettings(folds=3, resamples=200)


def _score(labels, predicted):
    return float(weighted_f1(confusion_matrix(labels, predicted, 4), WEIGHTS))


def _held_out_gain(seed, specialist, *, decision, rows=600):
    target = make_target()
    parameters = fit_parameters(simulate(seed, rows, specialist=specialist), target, QUICK)
    fresh = simulate(10_000 + seed, 20_000, specialist=specialist)
    found = apply_parameters(parameters, fresh.base_logps_NK, fresh.looks_SN2, target.targets_SK).labels
    scores = {name: _score(fresh.labels_N, found[name]) for name in SYSTEMS}
    fused, base, override = (scores[f"{system}_{decision}"] for system in ("fused", "base", "override"))
    return fused - base, fused - override, parameters.specialists[0].coefficient


@pytest.mark.parametrize("seed", range(4))
def test_an_informative_specialist_improves_on_fresh_photos_and_beats_the_override(seed):
    over_base, over_override, coefficient = _held_out_gain(seed, 2.5, decision="argmax")
    assert over_base > 0.15
    assert over_override > 0
    assert coefficient.exponent > 0


def test_a_specialist_that_knows_nothing_does_no_harm():
    gains, members = [], []
    for seed in range(10):
        gain, _, member = _held_out_gain(seed, 0.0, decision="argmax")
        gains.append(gain)
        members.append(member)
    assert np.mean(gains) > -0.01
    assert sum(member == NO_FUSION for member in members) >= 8


@pytest.mark.parametrize("specialist", [0.0, 1.0, 2.5])
def test_on_the_rows_of_the_fit_fusion_is_never_worse_than_its_rivals(specialist):
    rows, target = simulate(7, 400, specialist=specialist), make_target()
    parameters = fit_parameters(rows, target, QUICK)
    found = apply_parameters(parameters, rows.base_logps_NK, rows.looks_SN2, target.targets_SK).labels
    fused = _score(rows.labels_N, found["fused_argmax"])
    assert fused >= _score(rows.labels_N, found["base_argmax"]) - 1e-9
    assert fused >= _score(rows.labels_N, found["override_argmax"]) - 1e-9


def test_the_prior_is_found_when_nobody_wrote_it_down():
    parameters = fit_parameters(simulate(0, 4000), make_target(prior=None), QUICK)
    assert parameters.specialists[0].prior == pytest.approx(1 / 3, abs=0.1)


def test_several_targets_take_the_most_probable_one():
    target = make_target(targets=(0, 1))
    rows = simulate(3, 500, targets=(0, 1))
    parameters = fit_parameters(rows, target, QUICK)
    found = apply_parameters(parameters, rows.base_logps_NK, rows.looks_SN2, target.targets_SK)
    positive = rows.looks_SN2[0, :, 0] > rows.looks_SN2[0, :, 1]
    expected = rows.base_logps_NK[:, :2].argmax(axis=1)
    np.testing.assert_array_equal(found.labels["override_argmax"][positive], expected[positive])
    assert _score(rows.labels_N, found.labels["fused_argmax"]) > _score(rows.labels_N, found.labels["base_argmax"])


def test_the_order_of_rows_has_no_influence():
    rows, target = simulate(5, 300), make_target()
    order = np.random.default_rng(0).permutation(300)
    one, other = fit(rows, target, QUICK), fit(rows.take(order), target, QUICK)
    assert one.parameters == other.parameters
    assert one.decisions == other.decisions
    assert one.calibration == other.calibration
    assert one.guard == other.guard
    for name in SYSTEMS:
        np.testing.assert_array_equal(one.cross_fitted[name][order], other.cross_fitted[name])


def test_applying_treats_every_row_on_its_own():
    rows, target = simulate(6, 200), make_target()
    parameters = fit_parameters(rows, target, QUICK)
    whole = apply_parameters(parameters, rows.base_logps_NK, rows.looks_SN2, target.targets_SK)
    order = np.random.default_rng(1).permutation(200)[:50]
    part = apply_parameters(parameters, rows.base_logps_NK[order], rows.looks_SN2[:, order], target.targets_SK)
    np.testing.assert_array_equal(whole.fused_logps_NK[order], part.fused_logps_NK)
    for name in SYSTEMS:
        np.testing.assert_array_equal(whole.labels[name][order], part.labels[name])


def test_without_a_second_look_all_systems_agree_and_unread_rows_stay_undecided():
    rows, target = simulate(8, 300), make_target()
    parameters = fit_parameters(rows, target, QUICK)
    looks = np.full((1, 300, 2), np.nan)
    base = rows.base_logps_NK.copy()
    base[:5] = np.nan
    found = apply_parameters(parameters, base, looks, target.targets_SK)
    np.testing.assert_array_equal(found.kappa_SN, np.ones((1, 300)))
    np.testing.assert_array_equal(found.labels["override_argmax"], found.labels["base_argmax"])
    np.testing.assert_array_equal(found.labels["fused_argmax"], found.labels["base_argmax"])
    for name in SYSTEMS:
        assert (found.labels[name][:5] == UNDECIDED).all()
        assert (found.labels[name][5:] != UNDECIDED).all()


def _degenerate_rows(rows: FitRows, case: str) -> FitRows:
    if case == "one row":
        return rows.take(np.arange(1))
    if case == "no positive":
        return rows.take(rows.labels_N != 0)
    if case == "only positives":
        return rows.take(rows.labels_N == 0)
    if case == "one class":
        return rows.take(rows.labels_N == 2)
    if case == "no second look":
        return replace(rows, looks_SN2=np.full_like(rows.looks_SN2, np.nan))
    if case == "one group":
        return replace(rows, keys=["same"] * len(rows.keys))
    sure = np.full_like(rows.looks_SN2, -np.inf)
    sure[0, np.arange(sure.shape[1]), (rows.labels_N != 0).astype(int)] = 0.0
    return replace(rows, looks_SN2=sure)


@pytest.mark.parametrize(
    "case",
    ["one row", "no positive", "only positives", "one class", "no second look", "one group", "probability 0 or 1"],
)
@pytest.mark.parametrize("prior", [None, 0.3])
def test_degenerate_validation_rows_still_give_a_usable_fit(case, prior):
    rows, target = _degenerate_rows(simulate(9, 120), case), make_target(prior=prior)
    with np.errstate(invalid="raise"):
        found = fit(rows, target, QUICK)
    for labels in found.cross_fitted.values():
        assert ((labels >= 0) & (labels < 4)).all()
    if case != "probability 0 or 1" and case != "one group":
        assert found.parameters.specialists[0].coefficient == NO_FUSION
    if case in ("one row", "one group"):
        assert found.notes
        assert found.decisions == {"base": "argmax", "fused": "argmax"}
        assert found.guard.holds_back  # nothing honest to judge by
        assert not found.guard.cross_fitted
        assert "in-sample" in found.guard.describe()
        assert "so base is submitted" in found.guard.describe()


def test_a_forced_decision_is_kept():
    rows = simulate(2, 150)
    for decision in ("argmax", "rule"):
        found = fit(rows, make_target(), FitSettings(folds=2, resamples=50, decision=decision))
        assert found.decisions == {"base": decision, "fused": decision}


def test_the_rule_is_chosen_where_it_pays_and_argmax_where_not():
    rows = simulate(11, 1500)
    for shift, expected in ((2.0, "argmax"), (6.0, "rule")):  # near the best offsets already, and far from them
        shifted = rows.base_logps_NK + np.array([-shift, 0, 0, shift / 2])
        found = fit(replace(rows, base_logps_NK=shifted), make_target(), QUICK)
        assert found.decisions["base"] == expected


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_the_decision_rule_is_never_worse_than_argmax_on_its_own_rows(seed, rows):
    sample = simulate(seed, rows)
    offsets = fit_offsets(sample.base_logps_NK, sample.labels_N, WEIGHTS)
    by_rule = _score(sample.labels_N, decide(sample.base_logps_NK, offsets))
    assert by_rule >= _score(sample.labels_N, sample.base_logps_NK.argmax(axis=1)) - 1e-12
    for k in set(range(4)) - set(sample.labels_N.tolist()):
        assert offsets[k] == 0


def test_ties_go_to_the_most_dangerous_class():
    assert decide(np.log(np.array([[0.4, 0.4, 0.2]])), (0.0, 0.0, 0.0)).tolist() == [0]


def test_folds_keep_groups_together_spread_classes_and_ignore_the_order():
    labels = np.random.default_rng(0).choice(4, 400, p=[0.05, 0.15, 0.4, 0.4])
    keys = [f"group {row // 2}" for row in range(400)]
    labels = np.repeat(labels[::2], 2)
    folds = assign_folds(keys, labels, folds=5, seed=0)
    assert (folds[::2] == folds[1::2]).all()
    for k in range(4):
        counts = np.bincount(folds[labels == k], minlength=5)
        assert counts.max() - counts.min() <= 2
    order = np.random.default_rng(1).permutation(400)
    again = assign_folds([keys[i] for i in order], labels[order], folds=5, seed=0)
    np.testing.assert_array_equal(folds[order], again)
    assert (assign_folds(keys, labels, folds=5, seed=1) != folds).any()


def test_the_family_begins_with_its_rivals():
    members = family(0.3, (1.0,), (10.0,))
    assert [m.exponent for m in members] == [0.0, float("inf"), 1.0, 1.0]
    assert [m.floor for m in members[2:]] == [0.1, 1.0]


CUTS = ((0,), (0, 1))  # red alone, and at least amber


def test_two_cuts_improve_on_one_and_on_base():
    target, one = make_target(targets=CUTS), make_target()
    gains = []
    for seed in range(3):
        rows, fresh = simulate(seed, 600, targets=CUTS), simulate(20_000 + seed, 20_000, targets=CUTS)
        both = fit_parameters(rows, target, QUICK)
        assert all(specialist.coefficient.exponent > 0 for specialist in both.specialists)
        single = fit_parameters(replace(rows, looks_SN2=rows.looks_SN2[:1]), one, QUICK)
        found = apply_parameters(both, fresh.base_logps_NK, fresh.looks_SN2, target.targets_SK).labels
        alone = apply_parameters(single, fresh.base_logps_NK, fresh.looks_SN2[:1], one.targets_SK).labels
        scores = [_score(fresh.labels_N, x["fused_argmax"]) for x in (found, alone)]
        gains.append((scores[0] - scores[1], scores[0] - _score(fresh.labels_N, found["base_argmax"])))
    assert min(gain for gain, _ in gains) > 0.1
    assert min(gain for _, gain in gains) > 0.3


@pytest.mark.parametrize("specialist", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("targets", [CUTS, ((0, 1), (0,)), ((0,), (1,))])
def test_several_specialists_are_never_worse_than_the_rivals_on_the_rows_of_the_fit(specialist, targets):
    for seed in range(3):
        rows, target = simulate(seed, 150, specialist=specialist, targets=targets), make_target(targets=targets)
        parameters = fit_parameters(rows, target, QUICK)
        found = apply_parameters(parameters, rows.base_logps_NK, rows.looks_SN2, target.targets_SK).labels
        fused = _score(rows.labels_N, found["fused_argmax"])
        assert fused >= _score(rows.labels_N, found["base_argmax"]) - 1e-9
        assert fused >= _score(rows.labels_N, found["override_argmax"]) - 1e-9


def test_a_second_specialist_that_knows_nothing_takes_no_part_and_does_no_harm():
    rows, target = simulate(4, 600, targets=CUTS), make_target(targets=CUTS)
    noise = simulate(5, 600, specialist=0.0).looks_SN2[0]
    parameters = fit_parameters(replace(rows, looks_SN2=np.array([rows.looks_SN2[0], noise])), target, QUICK)
    assert parameters.specialists[0].coefficient.exponent > 0
    assert parameters.specialists[1].coefficient == NO_FUSION


def test_the_override_takes_the_first_specialist_that_says_positive_and_later_ones_narrow_it():
    base = np.log(np.array([[0.1, 0.2, 0.3, 0.4]] * 5))
    yes, no = np.log([0.9, 0.1]), np.log([0.1, 0.9])
    for targets, expected in (
        (((0,), (1,)), [0, 0, 1, 3, 3]),  # they contradict each other: the first one decides
        (((0,), (0, 1)), [0, 0, 1, 3, 3]),
        (((0, 1), (0,)), [0, 1, 0, 3, 3]),
    ):
        looks = np.array([[yes, yes, no, no, [np.nan] * 2], [yes, no, yes, no, no]])
        target = make_target(targets=targets)
        parameters = fit_parameters(simulate(0, 40, targets=targets), target, QUICK)
        found = apply_parameters(parameters, base, looks, target.targets_SK)
        assert found.labels["override_argmax"].tolist() == expected


def test_the_guard_judges_what_would_be_submitted():
    """The rule pays for base alone: fused has to beat base by the rule, not the worse base by argmax."""
    settings = FitSettings(folds=3, resamples=300, exponents=(1.0,), caps=(10.0,))
    rows = simulate(5, 150, specialist=1.5)
    one = fit(rows, make_target(), settings)
    assert one.decisions["base"] != one.decisions["fused"]
    base, fused = (_score(rows.labels_N, one.cross_fitted[f"{s}_{one.decisions[s]}"]) for s in ("base", "fused"))
    assert one.guard.gain == pytest.approx(fused - base)
    assert (one.guard.decision, one.guard.base_decision) == (one.decisions["fused"], one.decisions["base"])
    assert f"fused ({one.guard.decision}) − base ({one.guard.base_decision})" in one.guard.describe()


def test_near_duplicates_do_not_make_the_guard_surer():
    """Ten copies of each photo say nothing that one does not: the interval is as wide."""
    rows = simulate(3, 100, specialist=1.2)
    copied = np.repeat(np.arange(100), 10)
    many = rows.take(copied)
    names = [f"{photo:03}/{copy:04}" for copy, photo in enumerate(copied)]
    many = replace(many, keys=[rows.keys[photo] for photo in copied], sample_ids=names)
    settings = FitSettings(folds=3, resamples=1000, exponents=(1.0,), caps=(10.0,), decision="argmax")
    few, many = (fit(one, make_target(), settings) for one in (rows, many))
    width = few.guard.high - few.guard.low
    assert many.guard.high - many.guard.low == pytest.approx(width, rel=0.2)


def test_a_specialist_s_reliability_is_measured_at_the_prior_that_was_fitted():
    rows = simulate(0, 40_000)  # so many that a fold's temperature is that of all rows
    found = fit(rows, make_target(prior=None), _quick(folds=2))
    specialist, positive = found.parameters.specialists[0], rows.labels_N == 0
    looks = apply_temperature(rows.looks_SN2[0], specialist.calibrator.temperature)
    expected = measure(looks, np.where(positive, 0, 1), prior_weights(positive, specialist.prior))
    assert found.calibration["look0"].after.log_loss == pytest.approx(expected.log_loss, rel=0.01)


def _quick(**more):
    return QUICK.model_copy(update=more)


def _skewed(rows):
    """A base model that is too fond of grey: offsets mend that, a temperature cannot."""
    logps = rows.base_logps_NK.copy()
    logps[:, 3] += 2.0
    return replace(rows, base_logps_NK=logps)


def test_a_calibrator_that_wins_by_cross_validation_is_taken_for_that_stage_alone():
    rows, target = _skewed(simulate(0, 800)), make_target()
    auto = fit(rows, target, _quick(calibrator="auto"))
    plain = fit(rows, target, QUICK)
    assert isinstance(auto.parameters.base_calibrator, MatrixCalibrator)
    assert isinstance(plain.parameters.base_calibrator, TemperatureCalibrator)
    assert isinstance(auto.parameters.specialists[0].calibrator, TemperatureCalibrator)  # needs no more
    losses = {name: one.calibration["base"].after.log_loss for name, one in (("auto", auto), ("plain", plain))}
    assert losses["auto"] < losses["plain"] - 0.05
    assert auto.calibration["base"].before == plain.calibration["base"].before


def test_reliability_after_calibration_is_of_photos_that_the_calibrator_has_not_seen():
    """Fitted on few photos a matrix looks better on them than it is; cross-fitted figures do not."""
    rows = _skewed(simulate(1, 120))
    found = fit(rows, make_target(), _quick(calibrator="auto"))
    in_sample = measure(found.parameters.base_calibrator.apply(rows.base_logps_NK), rows.labels_N)
    assert found.calibration["base"].after.log_loss > in_sample.log_loss


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_is_decided_about_a_photo_depends_on_no_other_photo_and_on_no_order(data):
    """With missing second looks, certain answers, ties and photos that base could not read among them."""
    size = data.draw(st.integers(2, 12))
    extreme = st.sampled_from([-np.inf, -700.0, -2.0, np.log(0.25), 0.0])
    base = np.array(data.draw(st.lists(st.lists(extreme, min_size=4, max_size=4), min_size=size, max_size=size)))
    base[np.isneginf(base).all(axis=1)] = 0.0
    looks = np.array(data.draw(st.lists(st.lists(extreme, min_size=2, max_size=2), min_size=size, max_size=size)))
    looks[np.isneginf(looks).all(axis=1)] = 0.0
    unseen, unread = (np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size))) for _ in range(2))
    looks[unseen], base[unread] = np.nan, np.nan
    order = np.array(data.draw(st.permutations(range(size))))
    target = make_target()
    parameters = _PARAMETERS[data.draw(st.booleans())]
    found = apply_parameters(parameters, base, looks[None], target.targets_SK)
    moved = apply_parameters(parameters, base[order], looks[None, order], target.targets_SK)
    alone = [apply_parameters(parameters, base[n : n + 1], looks[None, n : n + 1], target.targets_SK) for n in order]
    for name in SYSTEMS:
        assert (found.labels[name][order] == moved.labels[name]).all()
        assert [one.labels[name][0] for one in alone] == moved.labels[name].tolist()
        assert ((found.labels[name] == UNDECIDED) == unread).all()
    np.testing.assert_array_equal(found.fused_logps_NK[order], moved.fused_logps_NK)
    assert (found.kappa_SN[0][unseen] == 1).all()
    silent = unseen & ~unread
    np.testing.assert_allclose(found.fused_logps_NK[silent], found.base_logps_NK[silent], atol=1e-12)
    assert not np.isnan(found.fused_logps_NK[~unread]).any()
    np.testing.assert_allclose(np.exp(found.fused_logps_NK[~unread]).sum(axis=1), 1.0)


_PARAMETERS = [
    fit_parameters(_skewed(simulate(2, 400)), make_target(), _quick(calibrator=kind))
    for kind in ("temperature", "auto")
]
