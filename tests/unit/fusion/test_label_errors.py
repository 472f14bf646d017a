from pathlib import Path

import numpy as np
import pytest
from fusion_data import SHARES, make_card
from hypothesis import given
from hypothesis import strategies as st

from dataset_builders.errors import DataError
from dataset_builders.task_card import load_task_card
from fusion.calibration import renormalise
from fusion.conformal import fit_prediction_sets
from fusion.coverage import coverage
from fusion.label_errors import ladder_errors, true_shares, unmixing

RIGHT = np.eye(4)
CHAIN = np.array([[0.9, 0.1, 0, 0], [0.05, 0.9, 0.05, 0], [0, 0.05, 0.9, 0.05], [0, 0, 0.1, 0.9]])


def _write(rng, labels, written):
    return np.array([rng.choice(4, p=written[label]) for label in labels])


def test_errors_lie_between_neighbours_of_the_ladder_only():
    card = load_task_card(Path(__file__).parents[3] / "recipes" / "tasks" / "corridor.yaml")
    found = ladder_errors(card, 0.1)
    assert found.sum(axis=1) == pytest.approx(np.ones(5))
    assert found[0] == pytest.approx([0.9, 0.1, 0, 0, 0])
    assert found[1] == pytest.approx([0.05, 0.9, 0.05, 0, 0])
    assert found[4] == pytest.approx([0, 0, 0, 0, 1])
    assert (ladder_errors(make_card(), 0.0) == np.eye(len(make_card().labels))).all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
def test_right_labels_stay_as_they_are(labels):
    labels = np.array(labels)
    assert true_shares(labels, RIGHT) == pytest.approx(np.bincount(labels, minlength=4) / len(labels))
    assert unmixing(true_shares(labels, RIGHT), RIGHT) == pytest.approx(np.eye(4))


def test_shares_and_properties_of_the_true_labels_come_back():
    rng = np.random.default_rng(0)
    truth = rng.choice(4, 200_000, p=SHARES)
    labels = _write(rng, truth, CHAIN)
    assert true_shares(labels, CHAIN) == pytest.approx(SHARES, abs=0.005)
    seen = rng.random(len(truth)) < np.array([0.9, 0.2, 0.5, 0.1])[truth]
    by_written = np.array([seen[labels == j].mean() for j in range(4)])
    assert unmixing(true_shares(labels, CHAIN), CHAIN) @ by_written == pytest.approx([0.9, 0.2, 0.5, 0.1], abs=0.02)


def test_more_errors_than_rows_is_refused():
    with pytest.raises(DataError, match=r"only 0 labelled photos have label high.*--label-errors"):
        true_shares(np.array([1] * 50 + [2] * 50), CHAIN, ["high", "medium", "low", "none"])


def test_rows_that_errors_alone_explain_are_refused_too():
    """Two per cent of 1 written beside 98 of the next grade leave no true row, and no way to undo the mixture."""
    card = load_task_card(Path(__file__).parents[3] / "recipes" / "tasks" / "corridor.yaml")
    labels = np.repeat(np.arange(5), (1, 98, 1, 0, 20))
    with pytest.raises(DataError, match=r"no more than wrong labels alone would make.*--label-errors"):
        true_shares(labels, ladder_errors(card, 0.02), card.label_ids)


def test_one_group_of_near_duplicates_gets_a_review_with_label_errors():
    from fusion.review import fit_review

    rng = np.random.default_rng(0)
    logps, labels = np.log(rng.dirichlet(np.ones(4), 100)), rng.integers(0, 4, 100)
    target = np.array([True, False, False, False])
    model = fit_review(
        make_card(), logps, labels, ["same"] * 100, target, alpha=0.05, label_errors=0.02, folds=5, seed=0
    )
    assert model.calibrator.kind == "temperature"


def test_coverage_of_the_true_labels_is_what_was_asked_for():
    """With labels taken as right, sets of the dangerous label are far too wide: 29 % of its rows are not dangerous."""
    rng = np.random.default_rng(1)
    target = np.array([True, False, False, False])
    found = {"as written": [], "as true": []}
    sizes = {"as written": [], "as true": []}
    for _ in range(40):
        truth = rng.choice(4, 4000, p=SHARES)
        logits = 3 * rng.normal(size=(4000, 4))
        logits[np.arange(4000), truth] += 9
        logps, labels = renormalise(logits), _write(rng, truth, CHAIN)
        for name, written in (("as written", None), ("as true", CHAIN)):
            fitted = fit_prediction_sets(logps[:2000], labels[:2000], target, alpha=0.1, written_KK=written)
            figures = coverage(fitted.sets(logps[2000:]), truth[2000:], ("a", "b", "c", "d"))
            found[name].append((figures["coverage"], figures["per_class"]["a"]["coverage"]))
            sizes[name].append(figures["mean_size"])
    everything, dangerous = np.mean(found["as true"], axis=0)
    assert everything == pytest.approx(0.9, abs=0.015)
    assert dangerous == pytest.approx(0.9, abs=0.03)
    assert np.mean(found["as written"], axis=0)[0] > 0.95
    assert np.mean(sizes["as true"]) < np.mean(sizes["as written"]) - 0.1
