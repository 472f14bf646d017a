"""A pinhole camera and a canvas: polygons in metres in, pixels and an object-identity map out.

World axes in metres: x to the right, y up, z away from the camera. The painter's algorithm decides what hides
what, so callers draw from far to near.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Camera", "Canvas", "Color", "Frame", "Point"]

Point = tuple[float, float, float]
Color = tuple[float, float, float]
NEAR_M = 0.25  # nothing closer to the camera than this is drawn
FIXED_POINT_BITS = 4  # cv2 takes sub-pixel positions as integers with this many fractional bits


class Camera:
    """A pinhole camera at height ``y`` above the origin.

    Args:
        position: Of the camera, metres.
        yaw: To the right, radians.
        pitch: Upwards, radians.
        roll: Clockwise, radians.
        focal: Focal length in units of the picture's side.
        size: Side of the square picture in pixels.
    """

    def __init__(self, position: Point, yaw: float, pitch: float, roll: float, focal: float, size: int) -> None:
        cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
        turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        bank = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
        self.rotation = bank @ tilt @ turn
        self.position = np.asarray(position, float)
        self.focal = focal * size
        self.size = size

    def view(self, points_N3: NDArray[np.float64]) -> NDArray[np.float64]:
        """World coordinates to camera coordinates, both float64 of shape (N, 3) in metres."""
        return (points_N3 - self.position) @ self.rotation.T

    def project(self, view_N3: NDArray[np.float64]) -> NDArray[np.float64]:
        """Camera coordinates (N, 3), all in front of the camera, to pixels (N, 2)."""
        flat = view_N3[:, :2] / view_N3[:, 2:] * self.focal
        return flat * (1, -1) + self.size / 2


def _clip_near(points_N3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut a polygon at the near plane (Sutherland and Hodgman 1974, one plane)."""
    inside = points_N3[:, 2] >= NEAR_M
    if inside.all():
        return points_N3
    kept: list[NDArray[np.float64]] = []
    for i, here in enumerate(points_N3):
        before = points_N3[i - 1]
        if inside[i] != inside[i - 1]:
            kept.append(before + (here - before) * ((NEAR_M - before[2]) / (here[2] - before[2])))
        if inside[i]:
            kept.append(here)
    return np.array(kept).reshape(-1, 3)


class Canvas:
    """The picture being painted.

    Attributes:
        rgb_HWC: uint8, the picture.
        ids_HW: uint8, which object each pixel shows; 0 is the background.
        drawn: Per object id, how many pixels it covered just after it was drawn, before anything hid it.
    """

    def __init__(self, camera: Camera, background: Color) -> None:
        self.camera = camera
        self.rgb_HWC = np.empty((camera.size, camera.size, 3), np.uint8)
        self.rgb_HWC[:] = np.clip(background, 0, 255)
        self.ids_HW = np.zeros((camera.size, camera.size), np.uint8)
        self.drawn: dict[int, int] = {}
        self.object_id = 0

    def begin(self, object_id: int) -> None:
        """What is drawn from now on belongs to this object, 0 to 255."""
        self.object_id = object_id

    def end(self) -> None:
        """Note how much of the object shows; back to the background."""
        self.drawn[self.object_id] = int(np.count_nonzero(self.ids_HW == self.object_id))
        self.object_id = 0

    def polygon(self, points: Sequence[Point] | NDArray[np.float64], color: Color) -> None:
        """Fill a flat polygon of world points with one colour (RGB, 0 to 255)."""
        clipped = _clip_near(self.camera.view(np.asarray(points, float)))
        if len(clipped) < 3:
            return
        pixels = self._fixed(self.camera.project(clipped))
        rgb = tuple(float(min(max(c, 0), 255)) for c in color)
        cv2.fillPoly(self.rgb_HWC, [pixels], rgb, cv2.LINE_AA, FIXED_POINT_BITS)
        cv2.fillPoly(self.ids_HW, [pixels], self.object_id, cv2.LINE_8, FIXED_POINT_BITS)

    def line(self, points: Sequence[Point] | NDArray[np.float64], color: Color, width_m: float) -> None:
        """Draw an open line through world points; its width shrinks with the distance, at least one pixel."""
        view = self.camera.view(np.asarray(points, float))
        view = view[view[:, 2] >= NEAR_M]
        if len(view) < 2:
            return
        pixels = self._fixed(self.camera.project(view))
        thickness = max(1, round(width_m * self.camera.focal / float(view[:, 2].mean())))
        rgb = tuple(float(min(max(c, 0), 255)) for c in color)
        cv2.polylines(self.rgb_HWC, [pixels], False, rgb, thickness, cv2.LINE_AA, FIXED_POINT_BITS)
        cv2.polylines(self.ids_HW, [pixels], False, self.object_id, thickness, cv2.LINE_8, FIXED_POINT_BITS)

    @staticmethod
    def _fixed(pixels_N2: NDArray[np.float64]) -> NDArray[np.int32]:
        return np.clip(np.rint(pixels_N2 * (1 << FIXED_POINT_BITS)), -(1 << 19), 1 << 19).astype(np.int32)


class Frame:
    """An object's own axes: ``u`` along its length, ``v`` up, ``w`` across; origin on the floor.

    Args:
        canvas: Where to draw.
        origin: World position of the object's foot.
        yaw: Of the u axis against the world's x axis, radians.
        scale: Metres a unit.
        light: Brightness factor of the place where the object stands.
    """

    def __init__(self, canvas: Canvas, origin: Point, yaw: float, scale: float = 1.0, light: float = 1.0) -> None:
        self.canvas = canvas
        c, s = math.cos(yaw) * scale, math.sin(yaw) * scale
        self.axes = np.array([[c, 0, s], [0, scale, 0], [-s, 0, c]])
        self.origin = np.asarray(origin, float)
        self.light = light
        self.scale = scale

    def world(self, points: Sequence[Point] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Object coordinates to world coordinates."""
        return np.asarray(points, float) @ self.axes + self.origin

    def polygon(self, points: Sequence[Point] | NDArray[np.float64], color: Color, shade: float = 1.0) -> None:
        """Fill a polygon given in object coordinates."""
        self.canvas.polygon(self.world(points), self._lit(color, shade))

    def line(self, points: Sequence[Point] | NDArray[np.float64], color: Color, width_m: float) -> None:
        """Draw a line given in object coordinates."""
        self.canvas.line(self.world(points), self._lit(color, 1.0), width_m * self.scale)

    def side(self, uv: Sequence[tuple[float, float]], color: Color, w: float = 0.0, shade: float = 1.0) -> None:
        """Fill a polygon in the plane of the object's length and height."""
        self.polygon([(u, v, w) for u, v in uv], color, shade)

    def disc(self, center: tuple[float, float], radius: float, color: Color, w: float = 0.0) -> None:
        """Fill a disc in the plane of the object's length and height."""
        angle = np.linspace(0, 2 * math.pi, 15)[:-1]
        u, v = center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)
        self.polygon(np.stack([u, v, np.full_like(u, w)], 1), color)

    def ring(self, center: tuple[float, float], radius: float, color: Color, width_m: float) -> None:
        """Draw a circle in the plane of the object's length and height."""
        angle = np.linspace(0, 2 * math.pi, 19)
        u, v = center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle)
        self.line(np.stack([u, v, np.zeros_like(u)], 1), color, width_m)

    def box(self, low: Point, high: Point, color: Color) -> None:
        """Draw the faces of a box that turn towards the camera, each with its own shade."""
        (u0, v0, w0), (u1, v1, w1) = low, high
        eye = (self.canvas.camera.position - self.origin) @ np.linalg.inv(self.axes)
        faces: list[tuple[bool, float, list[Point]]] = [
            (eye[1] > v1, 1.12, [(u0, v1, w0), (u1, v1, w0), (u1, v1, w1), (u0, v1, w1)]),
            (eye[0] < u0, 0.82, [(u0, v0, w0), (u0, v1, w0), (u0, v1, w1), (u0, v0, w1)]),
            (eye[0] > u1, 0.78, [(u1, v0, w0), (u1, v1, w0), (u1, v1, w1), (u1, v0, w1)]),
            (eye[2] < w0, 0.98, [(u0, v0, w0), (u1, v0, w0), (u1, v1, w0), (u0, v1, w0)]),
            (eye[2] > w1, 0.94, [(u0, v0, w1), (u1, v0, w1), (u1, v1, w1), (u0, v1, w1)]),
        ]
        for visible, shade, corners in faces:
            if visible:
                self.polygon(corners, color, shade)

    def shadow(self, half_u: float, half_w: float) -> None:
        """Darken the floor below; belongs to the background, not to the object."""
        keep, self.canvas.object_id = self.canvas.object_id, 0
        angle = np.linspace(0, 2 * math.pi, 13)[:-1]
        points = np.stack([half_u * np.cos(angle), np.full_like(angle, 0.004), half_w * np.sin(angle)], 1)
        self.canvas.polygon(self.world(points), (48 * self.light, 46 * self.light, 44 * self.light))
        self.canvas.object_id = keep

    def _lit(self, color: Color, shade: float) -> Color:
        k = self.light * shade
        return (color[0] * k, color[1] * k, color[2] * k)
