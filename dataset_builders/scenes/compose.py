"""Chooses what stands in a scene, paints it, and says what the evidence for its grade is.

A scene's grade is not drawn on it but follows from what can be seen: ``grade_of`` applies the rules of the
corridor task to the list of visible things, and a scene whose evidence is hidden is composed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dataset_builders.scenes import clutter, hazards, places
from dataset_builders.scenes.camera import Camera, Canvas, Frame
from dataset_builders.scenes.photo import degrade

__all__ = ["GENERATOR_VERSION", "GRADES", "KINDS", "PLACES", "Scene", "Thing", "grade_of", "render_scene"]

# Part of every seed: any change of what is painted must raise it, which makes another board.
GENERATOR_VERSION = 1
SIZE = 336
GRADES = ("ignition", "combustible", "few", "clear", "elsewhere")
PLACES = ("corridor", "street", "room")

Painter = Callable[[Frame, Generator, float], None]
IGNITION: dict[str, Painter] = {
    "ebike": hazards.ebike,
    "battery": hazards.battery,
    "wire": hazards.charging_wire,
}
COMBUSTIBLE: dict[str, Painter] = {
    "cardboard": clutter.cardboard,
    "furniture": clutter.furniture,
    "foam": clutter.foam,
}
HARMLESS: dict[str, Painter] = {
    "bicycle": hazards.bicycle,
    "kick_scooter": hazards.kick_scooter,
    "shoes": clutter.shoes,
    "plant": clutter.plant,
    "bucket": clutter.bucket,
    "umbrella": clutter.umbrella,
    "plastic_box": clutter.plastic_box,
}
FIXTURES: dict[str, Painter] = {
    "extinguisher": hazards.extinguisher,
    "conduit": hazards.conduit,
    "poster": places.paint_poster,
    "person": clutter.person,
}
PAINTERS: dict[str, Painter] = IGNITION | COMBUSTIBLE | HARMLESS | FIXTURES
KINDS = tuple(PAINTERS)
# Things that hang on a wall or start from one.
ON_WALL = frozenset({"wire", "conduit", "poster"})
FEW_AT_MOST = 3  # more harmless things than this are clutter that blocks the way
VISIBLE_PIXELS = 110  # of 336 x 336: what a careful person still recognises
VISIBLE_SHARE = 0.22


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        kind: One of ``KINDS``.
        object_id: Its value in the scene's mask, 1 to 255.
        pixels: How many pixels show it.
        share: Part of it that nothing nearer hides, 0 to 1; 0 when its middle is outside the picture.
        distance_m: From the camera.
    """

    kind: str
    object_id: int
    pixels: int
    share: float
    distance_m: float

    @property
    def visible(self) -> bool:
        """Whether it can count as evidence."""
        return self.pixels >= VISIBLE_PIXELS and self.share >= VISIBLE_SHARE


@dataclass(frozen=True)
class Scene:
    """A rendered photo and its truth.

    Attributes:
        rgb_HWC: uint8 of shape (336, 336, 3).
        ids_HW: uint8 of shape (336, 336); which thing each pixel shows, 0 for none.
        things: What was placed.
        place: One of ``PLACES``.
        grade: One of ``GRADES``.
    """

    rgb_HWC: NDArray[np.uint8]
    ids_HW: NDArray[np.uint8]
    things: tuple[Thing, ...]
    place: str
    grade: str


def grade_of(place: str, things: tuple[Thing, ...]) -> str | None:
    """The grade that the rules give; the dominant risk decides.

    Returns:
        One of ``GRADES``, or None when something that would change the grade is there but hardly visible:
        such a photo could not be labelled fairly.
    """
    if place != "corridor":
        return "elsewhere"
    kinds = [thing.kind for thing in things if thing.visible]
    hidden = {thing.kind for thing in things if not thing.visible}
    if any(kind in IGNITION for kind in kinds):
        return "ignition"
    if hidden & IGNITION.keys():
        return None
    harmless = sum(kind in HARMLESS for kind in kinds)
    if any(kind in COMBUSTIBLE for kind in kinds) or harmless > FEW_AT_MOST:
        return "combustible"
    if hidden & (COMBUSTIBLE.keys() | HARMLESS.keys()):
        return None
    return "few" if harmless else "clear"


def render_scene(grade: str, stream: int, index: int, hard: float, take: int = 0) -> Scene:
    """Render one scene.

    Args:
        grade: One of ``GRADES``.
        stream: Seed of the board or of the pre-training set.
        index: Number of the scene in its stream; same arguments, same pixels.
        hard: Difficulty, 0 to 1: distance, darkness, occlusion, look-alikes, noise.
        take: 0 for the photo itself; another number is a second shot of the same scene, a near-duplicate.

    Raises:
        ValueError: Unknown grade, or ``hard`` out of range.
    """
    if grade not in GRADES or not 0 <= hard <= 1:
        raise ValueError(f"grade must be one of {GRADES} and hard within 0 to 1, got {grade!r} and {hard}")
    attempt = 0
    while True:
        rng = np.random.default_rng([GENERATOR_VERSION, stream, index, GRADES.index(grade), attempt])
        scene = _compose(grade, rng, hard, take)
        if scene is not None:
            return scene
        attempt += 1


def _compose(grade: str, rng: Generator, hard: float, take: int) -> Scene | None:
    place = "corridor" if grade != "elsewhere" else ("street", "room")[int(rng.integers(2))]
    hall = _hall(rng, hard, place)
    camera = _camera(rng, hall, take)
    canvas = Canvas(camera, (90, 90, 90))
    {"corridor": places.paint_corridor, "street": places.paint_street, "room": places.paint_room}[place](
        canvas, rng, hall
    )
    kinds = _contents(grade, rng, hard)
    blocked = grade == "combustible" or (grade == "ignition" and rng.random() < 0.3)
    spots = sorted(_place(kinds, rng, hall, hard, blocked), key=lambda spot: -spot[1][2])
    drawn = []
    for object_id, (kind, origin, yaw) in enumerate(spots, start=1):
        canvas.begin(object_id)
        frame = Frame(canvas, origin, yaw, rng.uniform(0.92, 1.08), hall.light(origin[2]))
        PAINTERS[kind](frame, rng, hard)
        canvas.end()
        middle = camera.view(frame.world([(0.0, 1.2 if kind == "poster" else 0.25, 0.0)]))
        inside = middle[0, 2] > 0.3 and bool(np.all(np.abs(camera.project(middle) / SIZE - 0.5) < 0.48))
        drawn.append((kind, object_id, inside, math.dist(origin, tuple(camera.position))))
    _foreground(canvas, rng, hall, hard)
    counts = np.bincount(canvas.ids_HW.ravel(), minlength=256)
    things = tuple(
        Thing(kind, i, int(counts[i]), inside * float(counts[i]) / max(canvas.drawn[i], 1), far)
        for kind, i, inside, far in drawn
    )
    if grade_of(place, things) != grade:
        return None
    effects = np.random.default_rng([*rng.integers(0, 1 << 31, 2).tolist(), take])
    return Scene(degrade(canvas.rgb_HWC, effects, hard, hall.ambient), canvas.ids_HW, things, place, grade)


def _hall(rng: Generator, hard: float, place: str) -> places.Hall:
    dark = rng.random() < 0.1 + 0.35 * hard
    ambient = rng.uniform(0.22, 0.4) if dark else rng.uniform(0.5, 0.9)
    if place == "room":
        half, length = rng.uniform(2.0, 3.5), rng.uniform(4, 7)
    elif place == "street":
        half, length, ambient = 4.0, 14.0, max(ambient, rng.uniform(0.35, 1.05))
    else:
        half, length = rng.uniform(0.85, 1.5), rng.uniform(5, 8 + 4 * hard)
    burning = [
        z for z in np.arange(rng.uniform(1, 2.5), length, rng.uniform(2.2, 3.5)) if rng.random() > 0.25 + 0.3 * dark
    ]
    return places.Hall(half, rng.uniform(2.4, 3.0), length, tuple(burning), ambient)


def _camera(rng: Generator, hall: places.Hall, take: int) -> Camera:
    position = (rng.uniform(-0.4, 0.4) * min(hall.half, 1.5), rng.uniform(1.25, 1.75), 0.0)
    yaw, pitch, roll = rng.normal(0, 0.1), rng.uniform(-0.28, -0.04), rng.normal(0, 0.03)
    focal = rng.uniform(0.72, 1.0)
    shake = np.random.default_rng([take, int(focal * 1e9)]).normal(0, 0.004, 3) if take else np.zeros(3)
    return Camera(position, yaw + shake[0], pitch + shake[1], roll + shake[2], focal, SIZE)


def _some(rng: Generator, kinds: dict[str, Painter], low: int, high: int) -> list[str]:
    names = list(kinds)
    return [names[int(i)] for i in rng.integers(len(names), size=int(rng.integers(low, high + 1)))]


def _contents(grade: str, rng: Generator, hard: float) -> list[str]:
    """Names of the things of a scene that is meant to get this grade."""
    fixtures = _some(rng, FIXTURES, 0, 2 + round(2 * hard))
    if grade == "ignition":
        # One hazard as a rule: a second one would make the photo easier than it is in life.
        first = "ebike" if rng.random() < 0.4 else "battery" if rng.random() < 0.5 else "wire"
        things = [first, *_some(rng, IGNITION, 0, 1 if rng.random() < 0.4 else 0)]
        things += _some(rng, COMBUSTIBLE, 0, 2) + _some(rng, HARMLESS, 0, 3)
    elif grade == "combustible":
        if rng.random() < 0.25:
            things = _some(rng, HARMLESS, FEW_AT_MOST + 2, FEW_AT_MOST + 4)
        else:
            things = _some(rng, COMBUSTIBLE, 1, 3 if rng.random() > 0.5 * hard else 1) + _some(rng, HARMLESS, 0, 3)
    elif grade == "few":
        look_alike = rng.random() < 0.2 + 0.3 * hard
        things = ["bicycle", *_some(rng, HARMLESS, 0, 2)] if look_alike else _some(rng, HARMLESS, 1, FEW_AT_MOST)
    elif grade == "clear":
        things = []
    else:
        everything = IGNITION | COMBUSTIBLE | HARMLESS
        things = _some(rng, everything, 0, 4) + _some(rng, {"person": clutter.person}, 0, 2)
        fixtures = [kind for kind in fixtures if kind not in ON_WALL]
    return things + fixtures


def _place(
    kinds: list[str], rng: Generator, hall: places.Hall, hard: float, blocked: bool
) -> list[tuple[str, tuple[float, float, float], float]]:
    """A spot on the floor or at a wall for each thing: (kind, origin, yaw)."""
    spots = []
    last = min(3.4 + 4.0 * hard, hall.length - 0.8)
    anchors: list[tuple[float, float]] = []
    for kind in kinds:
        side = -1 if rng.random() < 0.5 else 1
        z = rng.uniform(1.7 if hall.half < 1.6 else 2.4, last)
        if kind in ON_WALL:
            origin, yaw = (side * (hall.half - 0.02), 0.0, z), -side * math.pi / 2
        elif kind == "person":
            origin, yaw = (rng.uniform(-0.6, 0.6) * hall.half, 0.0, max(z, 2.2)), rng.normal(0, 0.4)
        else:
            inside = rng.uniform(0.25, 0.5) if not blocked or rng.random() < 0.5 else rng.uniform(0.4, hall.half)
            x = side * (hall.half - inside)
            # Clutter gathers: it stands in front of what came earlier, and so hides a part of it.
            if anchors and rng.random() < 0.25 + 0.4 * hard:
                ax, az = anchors[int(rng.integers(len(anchors)))]
                x, z = ax + rng.normal(0, 0.18), max(az - rng.uniform(0.25, 0.7), 1.5)
            origin, yaw = (
                (x, 0.0, z),
                -side * (math.pi / 2 - rng.uniform(0.15, 1.25)) + (math.pi if rng.random() < 0.25 else 0),
            )
            anchors.append((x, z))
        spots.append((kind, origin, yaw))
    return spots


def _foreground(canvas: Canvas, rng: Generator, hall: places.Hall, hard: float) -> None:
    """At times a door leaf, a pillar or a thumb stands in the way."""
    if rng.random() > 0.08 + 0.17 * hard:
        return
    side = -1 if rng.random() < 0.5 else 1
    # Measured from where the camera stands, so that it hides a side of the picture and never all of it.
    near, z, tone = rng.uniform(0.15, 0.3), rng.uniform(0.5, 0.7), rng.uniform(30, 110)
    x, outer = canvas.camera.position[0] + side * near, canvas.camera.position[0] + side * 3.0
    canvas.polygon([(x, -1, z), (x, 3, z), (outer, 3, z), (outer, -1, z)], (tone, tone * 0.85, tone * 0.75))
