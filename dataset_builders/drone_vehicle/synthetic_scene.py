"""What a rendered drone photo shows: roads, and vehicles on their lanes, some of them partly outside of the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from dataset_builders.drone_vehicle.counts import VEHICLES
from dataset_builders.drone_vehicle.frame import FRAME_SIZE
from dataset_builders.drone_vehicle.geometry import Point, area, clip, order_corners, overlap, rectangle

__all__ = ["LANE", "Road", "Scene", "SceneVehicle", "compose_scene"]

LANE = 21.0  # width in pixels
_SIZES = {"car": (26, 12), "truck": (42, 15), "bus": (60, 16), "van": (31, 13), "freight car": (76, 16)}
_UNITS = {"car": 1, "truck": 2, "bus": 2, "van": 1, "freight car": 3}
_SHARES = (0.62, 0.12, 0.08, 0.1, 0.08)  # in the order of VEHICLES
_REACH = 460.0  # how far from its middle a road is filled; ends outside of the frame
_VISIBLE = (0.35, 0.9)  # of a vehicle that the frame cuts: enough to be seen, too little to be whole
_FRAME = rectangle(0, 0, *FRAME_SIZE)


@dataclass(frozen=True, slots=True)
class Road:
    """A straight road without ends.

    Attributes:
        middle: A point on its centre line.
        angle: Of the centre line, radians.
        lanes: In each direction.
    """

    middle: Point
    angle: float
    lanes: int


@dataclass(frozen=True, slots=True)
class SceneVehicle:
    """A vehicle, seen from above.

    Attributes:
        name: Its class.
        centre: In pixels of the frame.
        angle: Where it drives to, radians.
        length: In pixels.
        width: In pixels.
    """

    name: str
    centre: Point
    angle: float
    length: float
    width: float

    def part(self, rear: float, front: float, left: float = -1, right: float = 1) -> list[Point]:
        """Corners of a part of it; −1 to 1 is rear to front and left to right."""
        along, across = self.length / 2, self.width / 2
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        corners = [(u * along, v * across) for u, v in ((rear, left), (front, left), (front, right), (rear, right))]
        return [(self.centre[0] + u * cos - v * sin, self.centre[1] + u * sin + v * cos) for u, v in corners]


@dataclass(frozen=True, slots=True)
class Scene:
    """A place with its vehicles.

    Attributes:
        roads: One or two; the later one lies over the earlier one.
        vehicles: None of them touch; each is seen by the frame.
        daylight: 1 at noon, near 0 at night.
    """

    roads: list[Road]
    vehicles: list[SceneVehicle]
    daylight: float


def compose_scene(rng: Generator, units: int) -> Scene:
    """Compose a scene with about so many passenger car units.

    Args:
        rng: Source of randomness.
        units: Wanted passenger car units; vehicles are added until they are reached or no lane is free.
    """
    width, height = FRAME_SIZE
    middle = (width / 2 + rng.uniform(-70, 70), height / 2 + rng.uniform(-60, 60))
    angle = rng.uniform(-0.45, 0.45) + (math.pi / 2 if rng.random() < 0.3 else 0)
    roads = [Road(middle, angle, int(rng.integers(2, 4)))]
    if units > 12 or rng.random() < 0.4:
        roads.append(Road(middle, angle + math.pi / 2 + rng.uniform(-0.2, 0.2), int(rng.integers(1, 3))))
    vehicles: list[SceneVehicle] = []
    taken: list[list[Point]] = []
    slots = list(_slots(rng, roads))
    reached = 0
    for index in rng.permutation(len(slots)):
        if reached >= units:
            break
        centre, heading = slots[int(index)]
        name = VEHICLES[int(rng.choice(len(VEHICLES), p=_SHARES))]
        if reached + _UNITS[name] > units:
            name = VEHICLES[0]
        vehicle = _vehicle(rng, name, centre, heading)
        ground = order_corners(vehicle.part(-1.15, 1.15, -1.3, 1.3))  # some distance to others
        if _is_seen(vehicle) and all(overlap(ground, other) == 0 for other in taken):
            vehicles.append(vehicle)
            taken.append(ground)
            reached += _UNITS[name]
    return Scene(roads, vehicles, daylight=float(rng.choice([1.0, 0.8, 0.45, 0.12], p=[0.4, 0.2, 0.15, 0.25])))


def _slots(rng: Generator, roads: list[Road]) -> Iterator[tuple[Point, float]]:
    """Places on lanes where a vehicle may stand, and where it drives to; traffic keeps to the right."""
    for road in roads:
        cos, sin = math.cos(road.angle), math.sin(road.angle)
        for lane in range(-road.lanes, road.lanes):
            across = (lane + 0.5) * LANE
            heading = road.angle if across > 0 else road.angle + math.pi
            for along in np.arange(-_REACH + rng.uniform(0, 24), _REACH, 24):
                yield (
                    (road.middle[0] + along * cos - across * sin, road.middle[1] + along * sin + across * cos),
                    heading,
                )


def _vehicle(rng: Generator, name: str, centre: Point, heading: float) -> SceneVehicle:
    length, width = _SIZES[name]
    scale = rng.uniform(0.92, 1.08)
    return SceneVehicle(name, centre, heading + rng.normal(0, 0.02), length * scale, width * rng.uniform(0.94, 1.06))


def _is_seen(vehicle: SceneVehicle) -> bool:
    """True when the frame shows it whole, or a good part of it."""
    body = order_corners(vehicle.part(-1, 1))
    share = area(clip(body, _FRAME)) / area(body)
    return share > 0.999 or _VISIBLE[0] < share < _VISIBLE[1]
