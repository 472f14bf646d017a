import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fusion.coefficient import NO_FUSION, OVERRIDE, Coefficient, log_coefficient, multiply, multiply_all

PRIORS = st.floats(0.01, 0.99)
EXPONENTS = st.one_of(st.floats(0, 5), st.just(math.inf))
CAPS = st.one_of(st.floats(1, 1e6), st.just(math.inf))
ODDS = st.lists(st.one_of(st.floats(-800, 800), st.sampled_from([math.inf, -math.inf])), min_size=1, max_size=8)
TARGET = np.array([True, False, True, False])


@st.composite
def coefficients(draw):
    cap = draw(CAPS)
    floor = draw(st.sampled_from([1.0, 0.0 if math.isinf(cap) else 1 / cap]))
    return Coefficient(neutral=draw(PRIORS), exponent=draw(EXPONENTS), cap=cap, floor=floor)


@st.composite
def distributions(draw):
    row = st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda weights: sum(weights) > 1e-3)
    weights = draw(st.lists(row, min_size=1, max_size=6))
    with np.errstate(divide="ignore"):
        return np.log(np.array(weights) / np.sum(weights, axis=1, keepdims=True))


@settings(deadline=None)
@given(coefficients(), ODDS)
def test_coefficient_rises_with_the_second_look_within_its_bounds(coefficient, odds):
    found = log_coefficient(np.sort(np.array(odds)), coefficient)
    assert not np.isnan(found).any()
    assert (found[1:] >= found[:-1]).all()
    assert (found <= math.log(coefficient.cap)).all()
    assert (found >= (math.log(coefficient.floor) if coefficient.floor else -math.inf)).all()


@settings(deadline=None)
@given(coefficients())
def test_coefficient_is_one_at_the_neutral_point_and_without_a_second_look(coefficient):
    neutral = math.log(coefficient.neutral / (1 - coefficient.neutral))
    np.testing.assert_array_equal(log_coefficient(np.array([neutral, np.nan]), coefficient), [0, 0])


def test_coefficient_is_the_powered_odds_ratio():
    q, prior = 0.8, 0.3
    coefficient = Coefficient(neutral=prior, exponent=0.5, cap=100, floor=0.01)
    expected = ((q / (1 - q)) / (prior / (1 - prior))) ** 0.5
    assert np.exp(log_coefficient(np.array([math.log(q / (1 - q))]), coefficient)) == pytest.approx(expected)


def test_sure_second_looks_reach_the_bounds():
    capped = Coefficient(neutral=0.3, exponent=1, cap=50, floor=1 / 50)
    np.testing.assert_allclose(np.exp(log_coefficient(np.array([np.inf, -np.inf]), capped)), [50, 1 / 50])
    raising = Coefficient(neutral=0.3, exponent=1, cap=50, floor=1)
    np.testing.assert_allclose(np.exp(log_coefficient(np.array([-np.inf]), raising)), [1])
    np.testing.assert_array_equal(log_coefficient(np.array([np.inf, -np.inf]), NO_FUSION), [0, 0])


@settings(deadline=None)
@given(distributions(), st.lists(st.one_of(st.floats(-700, 700), st.sampled_from([math.inf, -math.inf])), min_size=6))
def test_multiplying_gives_a_distribution_and_keeps_both_inner_rankings(logps, factors):
    fused = np.exp(multiply(logps, TARGET, np.array(factors[: len(logps)])))
    assert np.isfinite(fused).all()
    np.testing.assert_allclose(fused.sum(axis=1), 1, rtol=1e-9)
    for inner in (TARGET, ~TARGET):
        before, after = np.exp(logps[:, inner]), fused[:, inner]
        np.testing.assert_allclose(before[:, 0] * after[:, 1], before[:, 1] * after[:, 0], atol=1e-9)


@settings(deadline=None)
@given(distributions())
def test_no_fusion_changes_nothing(logps):
    log_kappa = log_coefficient(np.linspace(-9, 9, len(logps)), NO_FUSION)
    np.testing.assert_allclose(np.exp(multiply(logps, TARGET, log_kappa)), np.exp(logps), atol=1e-12)


@settings(deadline=None)
@given(distributions(), st.lists(st.floats(-50, 50), min_size=6))
def test_the_hard_override_is_a_member(logps, odds):
    odds = np.array(odds[: len(logps)])
    fused = multiply(logps, TARGET, log_coefficient(odds, OVERRIDE))
    for base, row, log_odds in zip(logps, fused, odds, strict=True):
        if log_odds > 0 and np.isfinite(base[TARGET]).any():
            assert row.argmax() == np.where(TARGET, base, -np.inf).argmax()
        else:
            np.testing.assert_allclose(np.exp(row), np.exp(base), atol=1e-12)


@settings(deadline=None)
@given(distributions(), st.lists(st.lists(st.floats(-300, 300), min_size=6, max_size=6), min_size=3, max_size=3))
def test_finite_coefficients_of_several_specialists_commute_and_keep_the_ranking_of_classes_alike(logps, factors):
    targets = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]], dtype=bool)
    factors = np.array(factors)[:, : len(logps)]
    fused = np.exp(multiply_all(logps, targets, factors))
    order = [2, 0, 1]
    np.testing.assert_allclose(np.exp(multiply_all(logps, targets[order], factors[order])), fused, atol=1e-9)
    np.testing.assert_allclose(fused.sum(axis=1), 1, rtol=1e-9)
    before, after = np.exp(logps[:, 2:]), fused[:, 2:]  # no specialist tells these two apart
    np.testing.assert_allclose(before[:, 0] * after[:, 1], before[:, 1] * after[:, 0], atol=1e-9)
    rows = np.arange(len(logps))[::-1]
    np.testing.assert_array_equal(np.exp(multiply_all(logps[rows], targets, factors[:, rows])), fused[rows])


def test_of_contradicting_certainties_the_first_wins_and_agreeing_ones_commute():
    logps = np.log(np.array([[0.1, 0.2, 0.3, 0.4]]))
    sure = np.full((2, 1), math.inf)
    apart, nested = np.eye(4, dtype=bool)[:2], np.array([[1, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
    np.testing.assert_allclose(np.exp(multiply_all(logps, apart, sure)), [[1, 0, 0, 0]])
    np.testing.assert_allclose(np.exp(multiply_all(logps, apart[::-1], sure)), [[0, 1, 0, 0]])
    for order in ([0, 1], [1, 0]):
        np.testing.assert_allclose(np.exp(multiply_all(logps, nested[order], sure)), [[1, 0, 0, 0]])


def test_impossible_members_are_refused():
    for wrong in ({"neutral": 0}, {"neutral": 1}, {"exponent": -1}, {"cap": 0.5}, {"floor": 1.5}, {"cap": math.nan}):
        with pytest.raises(ValidationError):
            Coefficient(**{"neutral": 0.3, "exponent": 1, "cap": 10, "floor": 0.1, **wrong})
