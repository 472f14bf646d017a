"""Annotated objects become vehicles in the frame: shifted, clipped, named; what is dropped is counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dataset_builders.drone_vehicle.annotation import Annotation, vehicle_of
from dataset_builders.drone_vehicle.frame import BORDER, BORDERED_SIZE, FRAME_SIZE
from dataset_builders.drone_vehicle.geometry import Point, area, clip, order_corners, overlap, rectangle
from dataset_builders.errors import PhotoError

__all__ = ["DROP_REASONS", "SAME_VEHICLE", "PlacedVehicles", "Vehicle", "merge_vehicles", "place_vehicles"]

# Why an object is no vehicle of the frame: no class, neither polygon nor box, no area, nothing of it in the frame.
DROP_REASONS = ("nameless", "shapeless", "degenerate", "outside")
# Overlap (intersection over union) from which on an RGB and an infrared object are one vehicle. The two cameras are a
# few pixels apart; neighbours in a queue do not overlap at all.
SAME_VEHICLE = 0.2

_FRAME = rectangle(0, 0, *FRAME_SIZE)
_LEAST_AREA = 1.0  # square pixels


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A vehicle in the frame.

    Attributes:
        name: One of ``VEHICLES``.
        polygon: Its corners inside the frame, in pixels of the frame.
    """

    name: str
    polygon: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class PlacedVehicles:
    """What became of a file's objects.

    Attributes:
        vehicles: In the file's order.
        dropped: How many objects were dropped, by ``DROP_REASONS``.
        clipped: How many vehicles lie partly outside of the frame.
        respelled: How often which spelling was mended.
    """

    vehicles: list[Vehicle]
    dropped: Counter[str] = field(default_factory=Counter)
    clipped: int = 0
    respelled: Counter[str] = field(default_factory=Counter)


def place_vehicles(annotation: Annotation, photo_size: tuple[int, int]) -> PlacedVehicles:
    """Bring objects into the frame.

    Coordinates are in the frame of the size that the file names: with the border, ``BORDER`` is subtracted.

    Args:
        annotation: The file; its names are known ones.
        photo_size: Size of the photo, for files that name none.

    Raises:
        PhotoError: The named size is neither that with nor that without the border.
    """
    size = annotation.size or photo_size
    if size not in (BORDERED_SIZE, FRAME_SIZE):
        expected = " or ".join(f"{width} x {height}" for width, height in (BORDERED_SIZE, FRAME_SIZE))
        raise PhotoError(f"wrong <size>: {size[0]} x {size[1]}; expected {expected}")
    shift = BORDER if size == BORDERED_SIZE else 0
    vehicles: list[Vehicle] = []
    dropped: Counter[str] = Counter()
    respelled: Counter[str] = Counter()
    clipped = 0
    for thing in annotation.objects:
        name = vehicle_of(thing.name)
        if not name:
            dropped["nameless"] += 1
            continue
        if thing.corners is None:
            dropped["shapeless"] += 1
            continue
        polygon = order_corners([(x - shift, y - shift) for x, y in thing.corners])
        inside = clip(polygon, _FRAME)
        if area(inside) < _LEAST_AREA:
            dropped["degenerate" if area(polygon) < _LEAST_AREA else "outside"] += 1
            continue
        clipped += any(corner not in polygon for corner in inside)
        if name != thing.name:
            respelled[thing.name] += 1
        vehicles.append(Vehicle(name, tuple(inside)))
    return PlacedVehicles(vehicles, dropped, clipped, respelled)


def merge_vehicles(leading: Sequence[Vehicle], other: Sequence[Vehicle]) -> list[Vehicle]:
    """All leading vehicles, and those others that overlap none of them; where both saw one, the leading name holds."""
    new = [
        vehicle for vehicle in other if all(overlap(vehicle.polygon, known.polygon) < SAME_VEHICLE for known in leading)
    ]
    return [*leading, *new]
