"""Geometry of the charts: numbers into coordinates of an SVG. The templates draw them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Axis", "linear_axis", "log_axis", "loss_axis", "polyline"]

Point = tuple[float, float]
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
WIDE = 20.0  # highest over lowest value from which a logarithmic scale shows more


@dataclass(frozen=True)
class Axis:
    """A scale.

    Attributes:
        low: Value at its start.
        high: Value at its end.
        ticks: Values that are named.
        log: Whether it is logarithmic.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float, start: float, end: float) -> float:
        """Coordinate of a value when the axis runs from ``start`` to ``end``; values outside stop at its ends."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return round(start + share * (end - start), 1)


def linear_axis(low: float, high: float, *, ticks: int = 5, tight: bool = False) -> Axis:
    """An axis whose ends are round numbers and hold both values; equal values get some room around them.

    Args:
        low: Least value.
        high: Greatest value.
        ticks: About so many steps between named values.
        tight: End at the values themselves, and name round numbers between them.
    """
    if high <= low:
        low, high = low - max(abs(low), 1.0) / 2, high + max(abs(high), 1.0) / 2
    rough = (high - low) / ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in STEPS if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = tuple(round(number * step, 12) for number in range(first, last + 1))
    if tight:
        return Axis(low, high, tuple(value for value in values if low <= value <= high))
    return Axis(values[0], values[-1], values)


def log_axis(low: float, high: float) -> Axis:
    """A logarithmic axis for values above 0, named at 1, 2 and 5 of every decade."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in (1, 2, 5)]
    start = max((value for value in values if value <= low), default=low)
    end = min((value for value in values if value >= high), default=high)
    named = [value for value in values if start <= value <= end]
    if len(named) > 8:
        named = [value for value in named if math.log10(value).is_integer()]
    return Axis(start, end, tuple(named), log=True)


def loss_axis(values: Sequence[float]) -> Axis:
    """The scale of a loss: logarithmic where it falls by more than twentyfold, from 0 otherwise."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if low > 0 and high / low > WIDE:
        return log_axis(low, high)
    return linear_axis(min(low, 0.0), high)


def polyline(points: Sequence[Point], x: Axis, y: Axis, box: tuple[float, float, float, float]) -> str:
    """Points of an SVG polyline inside a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    return " ".join(f"{x.place(a, left, right):g},{y.place(b, bottom, top):g}" for a, b in points)
