"""Curves from logs that are whole, growing or damaged; scales; coefficients as text."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from launch.report.charts import Axis, linear_axis, log_axis, loss_axis, polyline
from launch.report.curves import POINTS, read_curve
from launch.report.heat_maps import mark_relevance
from launch.report.page import _factor, bilingual


def write_log(directory, lines):
    directory.mkdir(exist_ok=True)
    (directory / "trainer_log.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_no_curve_without_a_training(tmp_path):
    assert read_curve(tmp_path / "absent") is None
    assert read_curve(tmp_path) is None


def test_curve_of_a_training_that_goes_on(tmp_path):
    entries = [{"current_steps": n, "total_steps": 50, "loss": 1 / n, "epoch": n / 25} for n in (10, 20)]
    entries.append({"current_steps": 20, "total_steps": 50, "eval_loss": 0.3, "epoch": 0.8})
    write_log(tmp_path, [*(json.dumps(entry) for entry in entries), '{"current_st'])
    curve = read_curve(tmp_path)
    assert curve.train == ((10, 0.1), (20, 0.05))
    assert curve.evaluation == ((20, 0.3),)
    assert (curve.steps, curve.planned, curve.runtime_s, curve.skipped) == (20, 50, None, 1)


def test_losses_that_are_no_numbers_are_left_out(tmp_path):
    write_log(tmp_path, ['{"current_steps": 1, "loss": NaN}', '{"current_steps": 2, "loss": 0.5}', "[]", "3"])
    assert read_curve(tmp_path).train == ((2, 0.5),)


def test_long_curve_keeps_its_ends(tmp_path):
    history = [{"step": n, "loss": float(n)} for n in range(1, 5001)]
    state = {"max_steps": 5000, "log_history": [*history, {"step": 5000, "train_runtime": 9.5}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    curve = read_curve(tmp_path)
    assert len(curve.train) == POINTS
    assert (curve.train[0], curve.train[-1]) == ((1, 1), (5000, 5000))
    assert curve.runtime_s == 9.5


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 1), (-3, 7), (4.6, 5.9), (0.021, 0.024), (5, 5), (0, 3e6)])
def test_linear_axis_holds_its_values_between_round_ticks(low, high):
    axis = linear_axis(low, high)
    assert axis.low <= low <= high <= axis.high
    assert 3 <= len(axis.ticks) <= 9
    assert (axis.low, axis.high) == (axis.ticks[0], axis.ticks[-1])
    assert 0 <= axis.place(low, 0, 100) <= axis.place(high, 0, 100) <= 100


def test_tight_axis_ends_at_its_values():
    assert linear_axis(0, 1047, ticks=4, tight=True) == Axis(0, 1047, (0.0, 500.0, 1000.0))


@pytest.mark.parametrize(("low", "high"), [(0.15, 6.3), (1e-6, 1e4), (0.9, 1.1), (1, 1)])
def test_log_axis_holds_its_values(low, high):
    axis = log_axis(low, high)
    assert axis.low <= low <= high <= axis.high
    assert 1 <= len(axis.ticks) <= 12
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


def test_loss_is_logarithmic_only_where_it_falls_far():
    assert loss_axis([6.3, 0.15]).log
    assert not loss_axis([1.0, 0.5]).log
    assert not loss_axis([6.3, 0.0]).log
    assert loss_axis([]).ticks


def test_polyline_runs_from_bottom_to_top():
    axis = linear_axis(0, 1)
    assert polyline([(0, 0), (1, 1)], axis, axis, (10, 20, 110, 220)) == "10,220 110,20"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.0312, "0.03"), (1.0, "1.00"), (73.79, "73.79"), (1e4, "10,000"), (math.inf, "∞")]
)
def test_coefficient_as_text(value, text):
    assert _factor(value) == text


def test_values_in_texts_are_escaped_once():
    assert "&lt;b&gt;&amp;" in bilingual("{x}", "{x} 中", x="<b>&")
    assert "&amp;lt;" not in bilingual("{x}", "{x} 中", x=bilingual("<", "<"))


def test_relevance_tints_what_is_amplified_and_nothing_else():
    photo = Image.new("RGB", (400, 300), (0, 0, 200))
    relevance = np.zeros((3, 4))
    relevance[0, 0] = 1.0
    marked = np.asarray(mark_relevance(photo, relevance)).astype(int)
    assert marked.shape[:2] == (150, 200)
    assert marked[5, 5, 0] > 120
    assert tuple(marked[-5, -5]) == (0, 0, 200)
