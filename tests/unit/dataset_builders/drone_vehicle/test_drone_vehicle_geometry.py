"""Clipping keeps exactly what is inside."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builders.drone_vehicle.geometry import Point, area, clip, order_corners, overlap, rectangle

WINDOW = rectangle(0, 0, 640, 512)
quads = st.lists(st.tuples(st.integers(-300, 900), st.integers(-300, 900)), min_size=4, max_size=4)
boxes = st.builds(
    lambda x, y, length, width, angle: [
        (x + u * length * math.cos(angle) - v * width * math.sin(angle),
         y + u * length * math.sin(angle) + v * width * math.cos(angle))
        for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ],
    st.floats(-200, 800), st.floats(-200, 700), st.floats(2, 200), st.floats(2, 60), st.floats(0, 6.2),
)  # fmt: skip


def test_area_of_known_shapes() -> None:
    assert area([]) == area([(1, 1)]) == area([(0, 0), (5, 5)]) == 0
    assert area(WINDOW) == 640 * 512
    assert area([(0, 0), (4, 0), (0, 3)]) == 6


@pytest.mark.parametrize(
    ("polygon", "expected"),
    [
        (rectangle(10, 10, 40, 30), 600),  # whole
        (rectangle(-10, 10, 20, 30), 400),  # over the left edge
        (rectangle(630, 500, 660, 540), 120),  # over a corner
        (rectangle(-50, 10, 0, 30), 0),  # touches from outside
        (rectangle(700, 10, 720, 30), 0),
        (rectangle(-100, -100, 900, 900), 640 * 512),  # around the window
        ([(-10, 256), (320, -10), (650, 256), (320, 522)], None),  # a diamond that loses four tips
    ],
)
def test_clipping_known_shapes(polygon: list[Point], expected: float | None) -> None:
    inside = area(clip(polygon, WINDOW))
    assert 0 < inside < area(polygon) if expected is None else inside == pytest.approx(expected, abs=1e-9)


@given(boxes)
def test_what_is_inside_lies_in_the_window_and_stays_when_clipped_again(polygon: list[Point]) -> None:
    inside = clip(polygon, WINDOW)
    assert all(-1e-6 <= x <= 640 + 1e-6 and -1e-6 <= y <= 512 + 1e-6 for x, y in inside)
    assert area(inside) <= area(polygon) + 1e-6
    assert area(clip(inside, WINDOW)) == pytest.approx(area(inside), abs=1e-5)


@given(boxes, st.floats(-100, 700), st.floats(-100, 600))
def test_parts_sum_to_the_whole(polygon: list[Point], x: float, y: float) -> None:
    far = 5000.0
    parts = [
        rectangle(left, top, right, bottom)
        for left, right in ((-far, x), (x, far))
        for top, bottom in ((-far, y), (y, far))
    ]
    assert sum(area(clip(polygon, part)) for part in parts) == pytest.approx(area(polygon), rel=1e-6, abs=1e-4)


@given(quads)
def test_order_does_not_depend_on_the_order_of_clicks(corners: list[Point]) -> None:
    first, second, third, fourth = corners
    assert area(order_corners([third, first, fourth, second])) == pytest.approx(area(order_corners(corners)))


@given(boxes, boxes)
def test_overlap_is_symmetric_and_one_with_itself(first: list[Point], second: list[Point]) -> None:
    assert overlap(first, first) == pytest.approx(1)
    assert overlap(first, second) == pytest.approx(overlap(second, first), abs=1e-6)
    assert 0 <= overlap(first, second) <= 1 + 1e-9
