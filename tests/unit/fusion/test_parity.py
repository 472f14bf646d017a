"""Parity of two predictions directories: what is measured, what is beyond the bounds, what cannot be compared."""

import json

import numpy as np
import pytest
from fusion_data import write_predictions

from dataset_builders.errors import DataError
from fusion.parity import ParityBounds, measure_parity
from launch.cli import main

ANSWERS = ("red", "green")
BOUNDS = ParityBounds(max_difference=0.02, min_agreement=0.99)


def directory(tmp_path, name: str, p_N: list[float], *, errors=None, ids=None, mass: float = 1.0, answers=ANSWERS):
    """Predictions of two answers; ``mass`` is what they hold together."""
    p = np.array(p_N)
    ids = ids or [f"a/{n}" for n in range(len(p))]
    logps = np.log(mass * np.column_stack([p, 1 - p]))
    return write_predictions(tmp_path / name, ids, logps, answers, errors=errors)


def test_a_directory_is_itself(tmp_path):
    first = directory(tmp_path, "first", [0.1, 0.6, 0.9])
    parity = measure_parity(first, first)
    assert (parity.photos, parity.agreement, parity.max_difference, parity.mean_difference) == (3, 1, 0, 0)
    assert parity.within(ParityBounds(max_difference=0, min_agreement=1))


def test_differences_are_over_the_answers_alone(tmp_path):
    first = directory(tmp_path, "first", [0.1, 0.6, 0.9])
    second = directory(tmp_path, "second", [0.1, 0.61, 0.9], mass=0.5)
    parity = measure_parity(first, second)
    assert parity.max_difference == pytest.approx(0.01)
    assert parity.mean_difference == pytest.approx(0.01 / 3)
    assert parity.max_off_label_difference == pytest.approx(0.5)
    assert parity.worst == "a/1"
    assert parity.within(BOUNDS)


def test_another_top_answer_counts_however_small_the_difference(tmp_path):
    parity = measure_parity(directory(tmp_path, "a", [0.499, 0.9]), directory(tmp_path, "b", [0.501, 0.9]))
    assert parity.agreement == 0.5
    assert parity.disagreements == ("a/0",)
    assert not parity.within(BOUNDS)
    assert parity.within(ParityBounds(max_difference=0.02, min_agreement=0.5))


def test_photos_are_matched_by_name_and_a_sample_is_enough(tmp_path):
    whole = directory(tmp_path, "whole", [0.1, 0.2, 0.3, 0.4])
    sample = directory(tmp_path, "sample", [0.4, 0.2], ids=["a/3", "a/1"])
    parity = measure_parity(whole, sample)
    assert (parity.photos, parity.only_first, parity.only_second, parity.max_difference) == (2, 2, 0, 0)


def test_a_photo_that_one_side_failed_on_is_never_within_bounds(tmp_path):
    first = directory(tmp_path, "first", [0.1, 0.2, 0.3], errors=["broken", "", ""])
    second = directory(tmp_path, "second", [0.1, 0.2, 0.3], errors=["broken", "refused", ""])
    parity = measure_parity(first, second)
    assert (parity.photos, parity.failed_in_both, parity.failed_in_one) == (1, 1, 1)
    assert not parity.within(ParityBounds(max_difference=1, min_agreement=0))


def test_what_cannot_be_compared(tmp_path):
    first = directory(tmp_path, "first", [0.1])
    with pytest.raises(DataError, match=r"has the answers red, green, .* compare predictions of one stage"):
        measure_parity(first, directory(tmp_path, "second", [0.1], answers=("red", "blue")))
    with pytest.raises(DataError, match="no photo in common"):
        measure_parity(first, directory(tmp_path, "third", [0.1], ids=["b/0"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="not complete; run `riskfuse predict`"):
        measure_parity(first, tmp_path / "empty")


def test_the_command_fails_beyond_the_bounds(tmp_path, capsys):
    first, second = directory(tmp_path, "first", [0.1, 0.6]), directory(tmp_path, "second", [0.1, 0.45])
    assert main(["parity", str(first), str(first)]) == 0
    assert "within the bounds" in capsys.readouterr().out
    assert main(["parity", str(first), str(second)]) == 1
    shown = capsys.readouterr().out
    assert "another top answer: a/1" in shown
    assert shown.strip().endswith("beyond the bounds")
    words = ["parity", str(first), str(second), "--max-difference", "0.2", "--min-agreement", "0.5", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["within_bounds"]
    assert found["max_difference"] == pytest.approx(0.15)
    assert found["bounds"] == {"max_difference": 0.2, "min_agreement": 0.5}
    assert main([*words[:-1], "--max-difference", "2"]) == 2
    assert "--max-difference must be from 0 to 1" in capsys.readouterr().err
