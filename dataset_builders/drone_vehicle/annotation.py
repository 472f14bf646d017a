"""One XML file of DroneVehicle: the size that it was made for and its objects, as they are written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from dataset_builders.drone_vehicle.counts import VEHICLES
from dataset_builders.drone_vehicle.geometry import Point, rectangle
from dataset_builders.errors import PhotoError

__all__ = ["AnnotatedObject", "Annotation", "parse_annotation", "vehicle_of"]

# Spellings of the files beside the classes' own names, in lower case with single spaces.
_SPELLINGS = {
    "feright car": "freight car",
    "feright": "freight car",
    "freight": "freight car",
    "truvk": "truck",
}
_NAMELESS = ("", "*")
_POLYGON = [(f"x{corner}", f"y{corner}") for corner in range(1, 5)]


@dataclass(frozen=True, slots=True)
class AnnotatedObject:
    """An object as it is written.

    Attributes:
        number: Position in the file, from 1.
        name: Text of ``<name>``, stripped.
        corners: Of its polygon or, when it has none, of its box; None when it has neither.
    """

    number: int
    name: str
    corners: tuple[Point, ...] | None


@dataclass(frozen=True, slots=True)
class Annotation:
    """Content of an XML file.

    Attributes:
        size: Width and height of the photo that it is for; None when the file does not say.
        objects: In the file's order; a file may have none.
    """

    size: tuple[int, int] | None
    objects: tuple[AnnotatedObject, ...]


def vehicle_of(name: str) -> str | None:
    """The class that a name means, in any known spelling; empty for a nameless object, None for an unknown name."""
    plain = re.sub(r"[\s_-]+", " ", name).strip().lower()
    if plain in _NAMELESS:
        return ""
    return plain if plain in VEHICLES else _SPELLINGS.get(plain)


def parse_annotation(raw: bytes) -> Annotation:
    """Parse a file. Documents with a DOCTYPE are refused, since entities can blow up a small file to gigabytes.

    Raises:
        PhotoError: It is empty, no well-formed XML, has a DOCTYPE, or holds a coordinate or size that is no number.
    """
    root = _parse(raw)
    size = root.find("size")
    width, height = (_number(size, name, "size") for name in ("width", "height")) if size is not None else (None, None)
    objects = []
    for number, element in enumerate(root.iter("object"), start=1):
        name = (element.findtext("name") or "").strip()
        objects.append(AnnotatedObject(number, name, _corners(element, f"object {number}")))
    return Annotation((int(width), int(height)) if width is not None and height is not None else None, tuple(objects))


def _parse(raw: bytes) -> Element:
    if not raw.strip():
        raise PhotoError("empty file; a file without objects still has <annotation>")
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise PhotoError("has a DOCTYPE, which annotations do not need and which can be an attack; remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(raw, True)
    except PhotoError:
        raise
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: a wrong encoding
        raise PhotoError(f"not well-formed XML: {error}") from None
    return builder.close()


def _corners(element: Element, where: str) -> tuple[Point, ...] | None:
    polygon, box = element.find("polygon"), element.find("bndbox")
    if polygon is not None:
        corners = [(_number(polygon, x, where), _number(polygon, y, where)) for x, y in _POLYGON]
        if all(x is not None and y is not None for x, y in corners):
            return tuple((float(x or 0), float(y or 0)) for x, y in corners)
    if box is not None:
        edges = [_number(box, name, where) for name in ("xmin", "ymin", "xmax", "ymax")]
        if None not in edges:
            return tuple(rectangle(*(float(edge or 0) for edge in edges)))
    return None


def _number(element: Element, name: str, where: str) -> float | None:
    """A number below an element; None when it is not there or empty."""
    text = (element.findtext(name) or "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PhotoError(f"{where}: {name} is {text!r}, not a number")
    return number
