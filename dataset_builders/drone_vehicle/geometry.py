"""Polygons of a few corners: order, area, clipping, overlap. Coordinates are pixels, x to the right, y down."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["Point", "area", "clip", "order_corners", "overlap", "rectangle"]

Point = tuple[float, float]


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """The four corners of an upright rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def order_corners(corners: Sequence[Point]) -> list[Point]:
    """Corners in the order of their angle around their mean, so that the edges of a convex polygon do not cross."""
    mean_x = sum(x for x, _ in corners) / len(corners)
    mean_y = sum(y for _, y in corners) / len(corners)
    return sorted(corners, key=lambda corner: math.atan2(corner[1] - mean_y, corner[0] - mean_x))


def area(polygon: Sequence[Point]) -> float:
    """Area in square pixels by the shoelace formula, >= 0; 0 for fewer than three corners."""
    pairs = zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2


def clip(subject: Sequence[Point], window: Sequence[Point]) -> list[Point]:
    """The part of a polygon inside a convex window.

    Sutherland and Hodgman, "Reentrant polygon clipping", Communications of the ACM 17 (1974).

    Args:
        subject: The polygon.
        window: Convex, its corners in the order of ``rectangle`` and ``order_corners``.

    Returns:
        Corners of the part inside; empty when there is none. A subject that is not convex may get edges along the
        window that enclose no area.
    """
    result = list(subject)
    for start, end in zip(window, [*window[1:], *window[:1]], strict=True):
        corners, result = result, []
        for previous, corner in zip(corners[-1:] + corners[:-1], corners, strict=True):
            before, now = _side(previous, start, end), _side(corner, start, end)
            if (before >= 0) != (now >= 0):
                share = before / (before - now)
                result.append(
                    (previous[0] + share * (corner[0] - previous[0]), previous[1] + share * (corner[1] - previous[1]))
                )
            if now >= 0:
                result.append(corner)
    return result


def overlap(first: Sequence[Point], second: Sequence[Point]) -> float:
    """Intersection over union of two convex polygons, 0 to 1; their corners as for ``clip``'s window."""
    common = area(clip(first, second))
    union = area(first) + area(second) - common
    return common / union if union > 0 else 0.0


def _side(point: Point, start: Point, end: Point) -> float:
    """Positive inside of the window's edge, negative outside, 0 on it."""
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])
