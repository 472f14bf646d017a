import csv

import numpy as np
import pyarrow as pa
import pytest
from fusion_data import make_card

from fusion.review_queue import REVIEW_NAME, cost_matrix, expected_costs, queued_for_review, write_review_queue
from fusion.rows import Rows
from fusion.systems import UNDECIDED

CARD = make_card()


def _rows(names, errors):
    size = len(names)
    table = pa.table({"source": ["b"] * size, "name": names})
    nothing = np.full((size, 4), np.nan)
    return Rows(table, np.zeros(size, dtype=np.int64), nothing, np.empty((0, size, 2)), pa.array(errors), ())


def _write(tmp_path, names, probs, decided, sets, errors=None, confidence=None):
    rows = _rows(names, errors or [""] * len(names))
    with np.errstate(divide="ignore"):
        logps = np.log(np.array(probs, dtype=np.float64))
    decided, sets = np.array(decided), np.array(sets, dtype=bool)
    write_review_queue(
        tmp_path,
        CARD,
        rows,
        logps_NK=logps,
        decided_N=decided,
        sets_NK=sets,
        confidences={"base": np.nanmax(np.append(np.exp(logps), np.zeros((len(names), 1)), axis=1), axis=1)}
        | (confidence or {}),
    )
    raw = (tmp_path / REVIEW_NAME).read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    return queued_for_review(decided, sets), list(csv.DictReader(raw.decode("utf-8-sig").splitlines()))


def test_cost_is_weight_times_steps_and_off_the_ladder_is_below_its_end():
    assert cost_matrix(CARD).tolist() == [
        [0, 2, 4, 6],
        [1.5, 0, 1.5, 3],
        [2, 1, 0, 1],
        [3, 2, 1, 0],
    ]
    logps = np.log(np.array([[0.1, 0.2, 0.3, 0.4]] * 2))
    assert expected_costs(logps, np.array([0, 2]), CARD) == pytest.approx([0.3 + 0.6 + 1.2, 0.4 + 0.3 + 0.4])


def test_sets_of_the_decided_label_alone_stay_out_and_the_rest_is_sorted_by_cost(tmp_path):
    probs = [[0, 0, 1, 0], [0.4, 0, 0.6, 0], [0, 0.1, 0.9, 0], [0.3, 0.3, 0.2, 0.2], [0.8, 0.2, 0, 0], [np.nan] * 4]
    sets = [[0, 0, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]]
    decided = [2, 2, 2, 0, 0, UNDECIDED]
    errors = ["", "", "", "", "", "broken\nphoto"]
    looks = {"second": np.array([0.1, 0.2, np.nan, 0.4, 0.5, np.nan])}
    queued, lines = _write(tmp_path, list("abcdef"), probs, decided, sets, errors, looks)
    assert queued.tolist() == [False, True, True, True, True, True]
    assert [line["name"] for line in lines] == ["f", "b", "d", "e", "c"]
    assert [line["rank"] for line in lines] == ["1", "2", "3", "4", "5"]
    assert [line["reason"] for line in lines] == [
        "not read: broken photo",
        "may be 红 色",
        "no label fits",
        "the decided label does not fit",
        "several labels fit",
    ]
    assert lines[0]["decided"] == CARD.text_of(CARD.fallback)
    assert (lines[0]["prediction_set"], lines[0]["p_red"], lines[0]["expected_cost"]) == ("", "", "")
    assert (lines[1]["prediction_set"], lines[1]["p_red"], lines[1]["expected_cost"]) == ("红 色 | 绿", "0.4", "1.6")
    assert (lines[1]["base_confidence"], lines[1]["second_confidence"]) == ("0.6", "0.2")
    assert lines[4]["second_confidence"] == ""


def test_names_are_no_formulas_and_stay_on_one_line(tmp_path):
    names = ["=1+1", "+a", "-b", "@c", "\t=d", "＝e", 'say "x", y', "two\r\nlines\u2028here", "楼 1.jpg", "a=b"]
    size = len(names)
    _, lines = _write(tmp_path, names, [[0.5, 0.5, 0, 0]] * size, [0] * size, [[1, 1, 0, 0]] * size)
    found = [line["name"] for line in lines]
    assert found[:4] == ["'=1+1", "'+a", "'-b", "'@c"]
    assert found[4].startswith("'")
    assert found[5:] == ["'＝e", 'say "x", y', "two lines here", "楼 1.jpg", "a=b"]


def test_equal_costs_keep_the_order_of_the_list_and_no_photo_is_an_empty_queue(tmp_path):
    _, lines = _write(tmp_path, list("cab"), [[0.5, 0.5, 0, 0]] * 3, [0] * 3, [[1, 1, 0, 0]] * 3)
    assert [line["name"] for line in lines] == list("cab")
    queued, lines = _write(tmp_path, ["a"], [[1, 0, 0, 0]], [0], [[1, 0, 0, 0]])
    assert (queued.tolist(), lines) == ([False], [])
