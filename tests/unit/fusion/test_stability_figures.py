import numpy as np
import pytest

from fusion.stability import compare_variations

IDS = ("a", "b", "c")


def _compare(logps, labels=None):
    size = len(next(iter(logps.values())))
    labels = np.full(size, -1) if labels is None else np.array(labels)
    return compare_variations(logps, labels, answer_ids=IDS, weights_K=np.ones(3), resamples=50, seed=0)


def test_the_same_probabilities_do_not_move_whatever_lies_off_the_answers():
    logps = np.log(np.random.default_rng(0).dirichlet(np.ones(3), 20))
    found = _compare({"reference": logps, "same": logps - 0.7})
    assert found["same"]["flips"] == 0
    assert found["same"]["max_change"] == pytest.approx(0, abs=1e-12)
    assert "score" not in found["same"]


def test_flips_changes_and_scores_are_counted():
    logps = np.log(np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.5, 0.4, 0.1]]))
    moved = logps.copy()
    moved[0] = np.log([0.3, 0.6, 0.1])
    moved[3] = np.nan
    found = _compare({"reference": logps, "moved": moved}, [0, 1, 2, 0])
    item = found["moved"]
    assert (item["photos"], item["failed"], item["flips"]) == (3, 1, 1)
    assert item["drift"] == pytest.approx(1 / 3)
    assert item["max_change"] == pytest.approx(0.3)
    assert item["mean_change"] == pytest.approx(0.6 / 9)
    assert found["reference"]["score"] == pytest.approx(3)
    assert item["score_change"] == pytest.approx(item["score"] - 3)
    assert item["score_change_interval"][0] <= item["score_change"] <= 0
    assert found["reference"]["score_change"] == 0


def test_nothing_to_compare_is_no_drift():
    found = _compare({"reference": np.full((2, 3), np.nan), "other": np.zeros((2, 3))}, [0, 1])
    assert (found["other"]["photos"], found["other"]["drift"], found["other"]["max_change"]) == (0, 0, 0)


def test_a_variation_that_failed_takes_no_score_from_the_others():
    logps = np.log(np.random.default_rng(1).dirichlet(np.ones(3), 20))
    found = _compare({"reference": logps, "same": logps, "dead": np.full((20, 3), np.nan)}, [0, 1] * 10)
    assert found["same"]["score"] == found["reference"]["score"]
    assert "score" not in found["dead"]
