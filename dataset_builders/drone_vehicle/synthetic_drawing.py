"""Draws a scene twice, as a colour camera and as a thermal camera see it: same shapes, other brightness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from dataset_builders.drone_vehicle.frame import FRAME_SIZE
from dataset_builders.drone_vehicle.geometry import Point, clip, order_corners
from dataset_builders.drone_vehicle.synthetic_scene import LANE, Road, Scene, SceneVehicle

__all__ = ["draw_scene"]

Colour = tuple[int, int, int]

_FINE = 2  # drawn so many times larger, then averaged: smooth edges
_PAINTS: tuple[Colour, ...] = (
    (225, 226, 228),
    (176, 180, 184),
    (38, 40, 44),
    (150, 30, 34),
    (36, 66, 130),
    (92, 96, 100),
)
_BUSES: tuple[Colour, ...] = ((206, 120, 30), (40, 120, 84), (46, 96, 168))
_BOXES: tuple[Colour, ...] = ((160, 70, 44), (52, 92, 140), (190, 192, 186), (120, 128, 70))
_GLASS: Colour = (26, 32, 40)
_ASPHALT: Colour = (84, 86, 90)
_ASPHALT_HEAT = 112


class _Canvas:
    """Two pictures of one ground plan: colours and temperatures."""

    def __init__(self, ground: Colour, heat: int) -> None:
        size = (FRAME_SIZE[0] * _FINE, FRAME_SIZE[1] * _FINE)
        self.rgb = Image.new("RGB", size, ground)
        self.heat = Image.new("L", size, heat)
        self._pens = (ImageDraw.Draw(self.rgb), ImageDraw.Draw(self.heat))

    def polygon(self, corners: Sequence[Point], colour: Colour | None, heat: float | None) -> None:
        """Fill a polygon; None leaves a picture as it is."""
        fine = [(x * _FINE, y * _FINE) for x, y in corners]
        if colour is not None:
            self._pens[0].polygon(fine, fill=colour)
        if heat is not None:
            self._pens[1].polygon(fine, fill=int(heat))

    def disc(self, centre: Point, radius: float, colour: Colour, heat: float) -> None:
        """Fill a circle."""
        box = [(centre[0] - radius) * _FINE, (centre[1] - radius) * _FINE]
        box += [(centre[0] + radius) * _FINE, (centre[1] + radius) * _FINE]
        self._pens[0].ellipse(box, fill=colour)
        self._pens[1].ellipse(box, fill=int(heat))


def draw_scene(scene: Scene, rng: Generator) -> tuple[Image.Image, Image.Image]:
    """Draw a scene.

    Returns:
        The RGB frame and the infrared frame (grey, stored as RGB as the data set does), both ``FRAME_SIZE``.
    """
    canvas = _Canvas(ground=(96, 112, 70), heat=70)
    _draw_land(canvas, scene, rng)
    for road in scene.roads:
        _draw_road(canvas, road)
    for first, second in pairwise(scene.roads):
        _draw_junction(canvas, first, second)
    for vehicle in scene.vehicles:
        _draw_vehicle(canvas, vehicle, rng, sun=scene.daylight)
    rgb_HWC = np.asarray(canvas.rgb.reduce(_FINE), np.float32)
    heat_HW = np.asarray(canvas.heat.reduce(_FINE), np.float32)
    return _as_camera(rgb_HWC, scene, rng), _as_thermal_camera(heat_HW, rng)


def _draw_land(canvas: _Canvas, scene: Scene, rng: Generator) -> None:
    """Buildings and trees beside the roads."""
    for _ in range(26):
        centre = (rng.uniform(-20, FRAME_SIZE[0] + 20), rng.uniform(-20, FRAME_SIZE[1] + 20))
        house = SceneVehicle("", centre, scene.roads[0].angle, rng.uniform(50, 120), rng.uniform(40, 80))
        radius = rng.uniform(8, 17)
        size = math.hypot(house.length, house.width) / 2
        if rng.random() < 0.4 and all(_distance(road, centre) > road.lanes * LANE + size for road in scene.roads):
            tone = int(rng.integers(110, 190))
            canvas.polygon([(x + 6, y + 8) for x, y in house.part(-1, 1)], (50, 56, 46), None)
            canvas.polygon(house.part(-1, 1), (tone, tone - 8, tone - 18), rng.uniform(80, 120))
            canvas.polygon(house.part(-0.6, 0.1, -0.5, 0.4), (tone - 30, tone - 32, tone - 34), rng.uniform(95, 150))
        elif all(_distance(road, centre) > road.lanes * LANE + radius + 6 for road in scene.roads):
            canvas.disc((centre[0] + 4, centre[1] + 5), radius, (44, 54, 34), 62)
            canvas.disc(centre, radius, (52, int(rng.integers(78, 100)), 44), rng.uniform(44, 58))


def _distance(road: Road, point: Point) -> float:
    """From the road's centre line."""
    x, y = point[0] - road.middle[0], point[1] - road.middle[1]
    return abs(y * math.cos(road.angle) - x * math.sin(road.angle))


def _draw_road(canvas: _Canvas, road: Road) -> None:
    half = road.lanes * LANE
    strip = _strip(road)
    canvas.polygon(strip.part(-1, 1, -1 - 7 / half, 1 + 7 / half), (150, 148, 142), 96)
    canvas.polygon(strip.part(-1, 1), _ASPHALT, _ASPHALT_HEAT)
    canvas.polygon(strip.part(-1, 1, -1.2 / half, 1.2 / half), (196, 170, 70), 106)
    for lane in range(-road.lanes + 1, road.lanes):
        left, right = (lane * LANE - 0.7) / half, (lane * LANE + 0.7) / half
        for dash in np.arange(-1, 1, 0.028) if lane else ():
            canvas.polygon(strip.part(dash, dash + 0.011, left, right), (206, 206, 204), 106)


def _draw_junction(canvas: _Canvas, first: Road, second: Road) -> None:
    """Plain asphalt where two roads cross."""
    common = clip(order_corners(_strip(first).part(-1, 1)), order_corners(_strip(second).part(-1, 1)))
    canvas.polygon(common, _ASPHALT, _ASPHALT_HEAT)


def _strip(road: Road) -> SceneVehicle:
    """The road as one long shape."""
    return SceneVehicle("", road.middle, road.angle, 1800, 2 * road.lanes * LANE)


def _draw_vehicle(canvas: _Canvas, vehicle: SceneVehicle, rng: Generator, sun: float) -> None:
    """Body, glass and load; engine and body are warm, but one that stood for long is colder than the road."""
    parked = rng.random() < 0.2
    engine = rng.uniform(74, 90) if parked else rng.uniform(205, 250)
    body = rng.uniform(68, 84) if parked else rng.uniform(158, 190)
    if sun > 0.4:
        shadow = [(x + 2.5, y + 3.5) for x, y in vehicle.part(-1, 1)]
        canvas.polygon(shadow, (48, 50, 54), None)
    paint = _PAINTS[int(rng.integers(len(_PAINTS)))]
    if vehicle.name in ("car", "van"):
        canvas.polygon(vehicle.part(-1, 1), paint, body)
        canvas.polygon(vehicle.part(0.5, 1), None, engine)
        canvas.polygon(vehicle.part(0.22, 0.5, -0.8, 0.8), _GLASS, body - 30)
        if vehicle.name == "car":
            canvas.polygon(vehicle.part(-0.75, -0.52, -0.8, 0.8), _GLASS, body - 24)
        return
    if vehicle.name == "bus":
        canvas.polygon(vehicle.part(-1, 1), _BUSES[int(rng.integers(len(_BUSES)))], body)
        canvas.polygon(vehicle.part(-1, -0.75), None, engine)
        canvas.polygon(vehicle.part(0.9, 1, -0.8, 0.8), _GLASS, body - 30)
        canvas.polygon(vehicle.part(-0.35, 0.15, -0.5, 0.5), (214, 214, 212), body + 14)
        return
    cab = 0.55 if vehicle.name == "truck" else 0.68
    box = _BOXES[int(rng.integers(len(_BOXES)))]
    canvas.polygon(vehicle.part(-1, cab - 0.06), box, body - 22)
    if vehicle.name == "freight car":  # container ribs
        for rib in np.arange(-0.9, cab - 0.15, 0.16):
            canvas.polygon(vehicle.part(rib, rib + 0.04), (box[0] - 24, box[1] - 24, box[2] - 24), body - 28)
    canvas.polygon(vehicle.part(cab, 1), paint, engine)
    canvas.polygon(vehicle.part(0.9, 0.97, -0.8, 0.8), _GLASS, engine - 50)


def _as_camera(rgb_HWC: NDArray[np.float32], scene: Scene, rng: Generator) -> Image.Image:
    """Grain of the ground, daylight, head and tail lamps at night, sensor noise."""
    height, width = rgb_HWC.shape[:2]
    photo = rgb_HWC * (1 + _blotches(rng, height, width, 0.05)[..., None])
    photo *= np.float32(0.15 + 0.85 * scene.daylight) * np.array([1, 1, 0.97 + 0.1 * (1 - scene.daylight)], np.float32)
    if scene.daylight < 0.3:
        photo += _lamps(scene, width, height)
    photo += rng.standard_normal(photo.shape, np.float32) * np.float32(2.5 + 4 * (1 - scene.daylight))
    return Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8))


def _lamps(scene: Scene, width: int, height: int) -> NDArray[np.float32]:
    """Light of the vehicles' lamps, float32 of shape (H, W, 3)."""
    light = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(light)
    for vehicle in scene.vehicles:
        pen.polygon(vehicle.part(1.05, 1 + 40 / vehicle.length, -0.9, 0.9), fill=(150, 144, 120))
        pen.polygon(vehicle.part(-1.12, -1, -0.8, 0.8), fill=(150, 16, 12))
    return np.asarray(light.filter(ImageFilter.GaussianBlur(4)), np.float32)


def _as_thermal_camera(heat_HW: NDArray[np.float32], rng: Generator) -> Image.Image:
    """Soft, with uneven ground and little noise; one value for all three channels."""
    height, width = heat_HW.shape
    warm = heat_HW * (1 + _blotches(rng, height, width, 0.04)) * rng.uniform(0.9, 1.06)
    soft = Image.fromarray(np.clip(warm, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.9))
    grey_HW = np.asarray(soft, np.float32) + 2 * rng.standard_normal((height, width), np.float32)
    return Image.fromarray(np.clip(grey_HW, 0, 255).astype(np.uint8)).convert("RGB")


def _blotches(rng: Generator, height: int, width: int, strength: float) -> NDArray[np.float32]:
    """Slow random variation around 0, float32 of shape (H, W)."""
    coarse = Image.fromarray(rng.normal(0, strength, (height // 24, width // 24)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
