"""What goes wrong in DroneVehicle trees: a trap changes a pair's files and says what a builder must make of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from dataset_builders.drone_vehicle.frame import BORDER, BORDERED_SIZE, FRAME_SIZE
from dataset_builders.drone_vehicle.geometry import Point

__all__ = ["TRAPS", "PairFiles", "XmlObject"]


@dataclass
class XmlObject:
    """An object of an annotation.

    Attributes:
        name: As it is written.
        corners: In pixels of the frame.
        shape: How it is written.
    """

    name: str
    corners: list[Point]
    shape: str = "polygon"  # polygon, bndbox or none


@dataclass
class PairFiles:
    """A pair before it is written, and what a builder must find.

    Attributes:
        photos: By modality, without border; None: no such file.
        objects: By modality.
        counts: Vehicles in the frame by modality and class.
        size: Photos are written in this size, with or without the border.
        xml_size: What the annotations say; None: nothing.
        border: What surrounds the photos; white when None.
        raw: Bytes that stand in a file instead, by its directory's ending: img, imgr, label, labelr.
        missing: Endings of the directories that lack the file.
        suffix: Of the photos.
        reason: What the quarantine reason holds; empty when the pair is usable.
        dropped: Objects of the infrared annotation that must be dropped, by reason.
    """

    photos: dict[str, Image.Image]
    objects: dict[str, list[XmlObject]]
    counts: dict[str, Counter[str]]
    size: dict[str, tuple[int, int]] = field(default_factory=lambda: dict.fromkeys(("rgb", "infrared"), BORDERED_SIZE))
    xml_size: tuple[int, int] | None = BORDERED_SIZE
    border: Image.Image | None = None
    raw: dict[str, Callable[[bytes], bytes]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    suffix: str = ".jpg"
    reason: str = ""
    dropped: Counter[str] = field(default_factory=Counter)


def _lose(directory: str, reason: str) -> Callable[[PairFiles], None]:
    def trap(pair: PairFiles) -> None:
        pair.missing.add(directory)
        pair.reason = reason

    return trap


def _damage(directory: str, change: Callable[[bytes], bytes], reason: str) -> Callable[[PairFiles], None]:
    def trap(pair: PairFiles) -> None:
        pair.raw[directory] = change
        pair.reason = reason

    return trap


def _add_nameless(pair: PairFiles) -> None:
    for name in ("*", "", "  "):
        pair.objects["infrared"].append(XmlObject(name, [(10, 10), (40, 10), (40, 24), (10, 24)]))
    pair.dropped["nameless"] = 3


def _add_shapeless(pair: PairFiles) -> None:
    pair.objects["infrared"] += [XmlObject("car", [], "none"), XmlObject("bus", [], "none")]
    pair.dropped["shapeless"] = 2


def _use_boxes(pair: PairFiles) -> None:
    for thing in pair.objects["infrared"]:
        thing.shape = "bndbox"


def _add_outside(pair: PairFiles) -> None:
    """One in the border, one that touches the frame's edge from outside, one beyond the photo."""
    for left, top in ((-60, 40), (-30, 100), (900, 900)):
        corners = [(left + x, top + y) for x, y in ((0.0, 0.0), (30.0, 0.0), (30.0, 14.0), (0.0, 14.0))]
        pair.objects["infrared"].append(XmlObject("van", corners))
    pair.dropped["outside"] = 3


def _add_degenerate(pair: PairFiles) -> None:
    pair.objects["infrared"].append(XmlObject("car", [(50, 50)] * 4))
    pair.objects["infrared"].append(XmlObject("car", [(50, 50), (60, 50), (80, 50), (70, 50)]))
    pair.dropped["degenerate"] = 2


def _cross_corners(pair: PairFiles) -> None:
    """Corners in an order in which the edges cross, as a hurried click gives them."""
    for thing in pair.objects["infrared"]:
        first, second, third, fourth = thing.corners
        thing.corners = [first, third, second, fourth]


def _empty(pair: PairFiles) -> None:
    for modality in pair.objects:
        pair.objects[modality].clear()
        pair.counts[modality].clear()


def _bare(pair: PairFiles) -> None:
    """Cropped by someone else, photos and annotations."""
    pair.size = dict.fromkeys(pair.size, FRAME_SIZE)
    pair.xml_size = FRAME_SIZE


def _bare_photos(pair: PairFiles) -> None:
    """Photos cropped by someone else, annotations as they were."""
    pair.size = dict.fromkeys(pair.size, FRAME_SIZE)


def _no_size(pair: PairFiles) -> None:
    pair.xml_size = None


def _wrong_size(pair: PairFiles) -> None:
    pair.xml_size = (712, 840)
    pair.reason = "wrong <size>: 712 x 840"


def _sizes_differ(pair: PairFiles) -> None:
    pair.size["infrared"] = FRAME_SIZE
    pair.reason = "sizes differ: rgb 840 x 712, infrared 640 x 512"


def _other_size(pair: PairFiles) -> None:
    pair.size = dict.fromkeys(pair.size, (FRAME_SIZE[0] // 2, FRAME_SIZE[1] // 2))
    pair.reason = "wrong size: 320 x 256"


def _no_border(pair: PairFiles) -> None:
    """The size with border, but the camera saw all of it."""
    pair.border = Image.linear_gradient("L").resize(BORDERED_SIZE).convert("RGB")
    pair.reason = f"no white border of {BORDER} pixels"


def _upper_suffix(pair: PairFiles) -> None:
    pair.suffix = ".JPG"


_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "ten"><!ENTITY c "&b;&b;&b;&b;">]>'
    b"<annotation><object><name>&c;</name></object></annotation>"
)

# Name -> what it does to a pair. The duplicate of a test pair is made by the generator, since it needs two pairs.
TRAPS: dict[str, Callable[[PairFiles], None]] = {
    "nameless": _add_nameless,
    "shapeless": _add_shapeless,
    "boxes": _use_boxes,
    "outside": _add_outside,
    "degenerate": _add_degenerate,
    "crossed corners": _cross_corners,
    "empty": _empty,
    "bare": _bare,
    "bare photos": _bare_photos,
    "no size": _no_size,
    "upper-case suffix": _upper_suffix,
    "no rgb photo": _lose("img", "missing: no rgb photo"),
    "no infrared photo": _lose("imgr", "missing: no infrared photo"),
    "no annotation": _lose("labelr", "missing: no infrared annotation"),
    "truncated photo": _damage("img", lambda raw: raw[: len(raw) // 2], "broken photo"),
    "no photo": _damage("imgr", lambda raw: b"<html>not found</html>", "not a photo"),
    "empty photo": _damage("img", lambda raw: b"", "empty file (0 bytes)"),
    "broken annotation": _damage("labelr", lambda raw: raw[:-40], "not well-formed XML"),
    "empty annotation file": _damage("labelr", lambda raw: b"", "empty file; a file without objects"),
    "entities": _damage("labelr", lambda raw: _BOMB, "DOCTYPE"),
    "no number": _damage("labelr", lambda raw: raw.replace(b"<x1>", b"<x1>about "), "not a number"),
    "wrong size": _wrong_size,
    "sizes differ": _sizes_differ,
    "other size": _other_size,
    "no border": _no_border,
}
