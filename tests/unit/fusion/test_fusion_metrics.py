import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.bootstrap import interval, joint_cells, mcnemar_p, resample_confusions
from fusion.metrics import (
    accuracy,
    chance_confusion,
    class_scores,
    confusion_matrix,
    majority_confusion,
    score_influence,
    weighted_f1,
)

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@settings(deadline=None)
@given(ROWS)
def test_agrees_with_scikit_learn_even_without_support_or_predictions(rows):
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    true, predicted = np.array(rows).T
    confusion = confusion_matrix(true, predicted, 4)
    found = class_scores(confusion)
    expected = precision_recall_fscore_support(true, predicted, labels=range(4), zero_division=0)
    for ours, theirs in zip((found.precision, found.recall, found.f1, found.support), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert accuracy(confusion) == pytest.approx(accuracy_score(true, predicted))


def test_no_rows_score_zero():
    empty = np.zeros((3, 3), dtype=int)
    assert weighted_f1(empty, np.ones(3)) == 0
    assert accuracy(empty) == 0


def test_levels_to_beat():
    support = np.array([10, 30, 60])
    chance = class_scores(chance_confusion(support)).f1
    np.testing.assert_allclose(chance, [0.1, 0.3, 0.6])
    majority = class_scores(majority_confusion(support)).f1
    np.testing.assert_allclose(majority, [0, 0, 2 * 0.6 / 1.6])


def test_chance_level_is_what_random_labels_score():
    rng = np.random.default_rng(0)
    true = np.repeat([0, 1, 2], [200, 800, 3000])
    drawn = [weighted_f1(confusion_matrix(true, rng.permutation(true), 3), np.ones(3)) for _ in range(200)]
    assert np.mean(drawn) == pytest.approx(weighted_f1(chance_confusion(np.bincount(true)), np.ones(3)), abs=0.01)


def test_influence_is_the_derivative_of_the_score_and_its_error_agrees_with_the_bootstrap():
    rng = np.random.default_rng(1)
    true = rng.choice(4, 2000, p=[0.1, 0.2, 0.3, 0.4])
    first, second = (np.where(rng.random(2000) < 0.3, rng.integers(0, 4, 2000), true) for _ in range(2))
    weights = np.array([2.0, 1.5, 1.0, 1.0])
    influence = score_influence(true, first, weights)
    assert influence.sum() == pytest.approx(0, abs=1e-12)
    drawn = resample_confusions(true, [first, second], 4, resamples=4000, rng=rng)
    scores = weighted_f1(drawn, weights)
    by_delta = np.sqrt(np.sum((influence - score_influence(true, second, weights)) ** 2))
    assert by_delta == pytest.approx(np.std(scores[0] - scores[1]), rel=0.08)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=25), st.integers(0, 5))
def test_every_resample_equals_scikit_learn_on_the_drawn_rows(rows, seed):
    from sklearn.metrics import f1_score

    true, first, second = np.array(rows).T
    drawn = resample_confusions(true, [first, second], 3, resamples=3, rng=np.random.default_rng(seed))
    cells, cell_N = joint_cells(true, [first, second], 3)
    counts = np.bincount(cell_N)
    times_RC = np.random.default_rng(seed).multinomial(len(rows), counts / counts.sum(), size=3)
    for r, times in enumerate(times_RC):
        resampled = np.repeat(cells, times, axis=0)
        for s in range(2):
            expected = f1_score(resampled[:, 0], resampled[:, 1 + s], labels=range(3), average=None, zero_division=0)
            np.testing.assert_allclose(class_scores(drawn[s, r]).f1, expected)


def test_cells_hold_every_row_for_many_systems():
    rng = np.random.default_rng(2)
    columns = rng.integers(0, 5, (8, 300))
    cells, cell_N = joint_cells(columns[0], list(columns[1:]), 5)
    np.testing.assert_array_equal(cells[cell_N], columns.T)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 2, st.integers(0, 6)), min_size=1, max_size=25))
def test_rows_of_a_group_are_drawn_together(rows):
    true, predicted, group = np.array(rows).T
    resampled = resample_confusions(
        true, [predicted], 3, resamples=300, rng=np.random.default_rng(0), group_N=group * 7 - 3
    )[0]
    of_group = np.array([confusion_matrix(true[group == g], predicted[group == g], 3) for g in np.unique(group)])
    # Every resample is a sum of as many groups as there are, and of none else: its mean and spread are theirs.
    sums = of_group.reshape(len(of_group), 9)
    error = np.sqrt(len(sums) * sums.var(axis=0) / 300) * 6 + 1e-9
    assert (np.abs(resampled.reshape(-1, 9).mean(axis=0) - sums.sum(axis=0)) <= error).all()
    np.testing.assert_allclose(resampled.reshape(-1, 9).var(axis=0), len(sums) * sums.var(axis=0), rtol=0.6, atol=0.5)


def test_groups_of_one_row_are_rows_and_copies_make_an_interval_wider():
    rng = np.random.default_rng(9)
    true, predicted = rng.integers(0, 3, (2, 100))

    def drawn(copies, group_N):
        rows = [np.repeat(values, copies) for values in (true, predicted)]
        rng = np.random.default_rng(0)
        return resample_confusions(rows[0], [rows[1]], 3, resamples=500, rng=rng, group_N=group_N)[0]

    np.testing.assert_array_equal(drawn(1, rng.permutation(100)), drawn(1, None))
    np.testing.assert_array_equal(drawn(10, np.repeat(np.arange(100), 10)), 10 * drawn(1, None))


def test_a_system_against_itself_never_differs():
    rng = np.random.default_rng(3)
    true, predicted = rng.integers(0, 3, (2, 100))
    drawn = resample_confusions(true, [predicted, predicted], 3, resamples=50, rng=rng)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn.sum(axis=(2, 3)) == 100).all()


def test_bootstrap_is_independent_of_the_order_of_rows():
    rng = np.random.default_rng(4)
    true, predicted = rng.integers(0, 3, (2, 100))
    order = rng.permutation(100)
    one, other = (
        resample_confusions(t, [p], 3, resamples=20, rng=np.random.default_rng(0))
        for t, p in ((true, predicted), (true[order], predicted[order]))
    )
    np.testing.assert_array_equal(one, other)


def test_interval_covers_the_true_score_about_as_often_as_it_says():
    weights, shares = np.ones(3), np.array([0.2, 0.3, 0.5])
    flip = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])
    truth = weighted_f1(shares[:, None] * flip, weights)
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        true = rng.choice(3, 300, p=shares)
        predicted = (rng.random(300)[:, None] > flip[true].cumsum(axis=1)).sum(axis=1)
        drawn = resample_confusions(true, [predicted], 3, resamples=300, rng=rng)
        low, high = interval(weighted_f1(drawn[0], weights))
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_two_thousand_resamples_of_a_thousand_rows_take_less_than_two_seconds_of_computing():
    import time

    rng = np.random.default_rng(6)
    true, *systems = rng.integers(0, 5, (7, 1000))  # unrelated systems: the most cells that there can be
    started = time.process_time()  # not the clock on the wall: other tests may share the machine
    resample_confusions(true, systems, 5, resamples=2000, rng=rng)
    assert time.process_time() - started < 2


def test_mcnemar_counts_only_rows_where_one_of_two_errs():
    from scipy.stats import binomtest

    a = np.array([True] * 8 + [False] * 20)
    b = np.array([False] * 6 + [True] * 3 + [False] * 19)
    assert mcnemar_p(a, b) == pytest.approx(binomtest(6, 7, 0.5).pvalue)
    assert mcnemar_p(a, a) == 1.0
