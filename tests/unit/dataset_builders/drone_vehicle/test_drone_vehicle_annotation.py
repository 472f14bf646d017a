"""XML files: names, shapes, sizes, and what is refused."""

from __future__ import annotations

import pytest

from dataset_builders.drone_vehicle.annotation import AnnotatedObject, parse_annotation, vehicle_of
from dataset_builders.drone_vehicle.counts import VEHICLES
from dataset_builders.drone_vehicle.geometry import rectangle
from dataset_builders.drone_vehicle.vehicles import Vehicle, merge_vehicles, place_vehicles
from dataset_builders.errors import PhotoError

CORNERS = tuple(rectangle(110, 120, 140, 134))
POLYGON = f"<polygon>{''.join(f'<x{i}>{x}</x{i}><y{i}>{y}</y{i}>' for i, (x, y) in enumerate(CORNERS, 1))}</polygon>"
BOX = "<bndbox><xmin>110</xmin><ymin>120</ymin><xmax>140</xmax><ymax>134</ymax></bndbox>"


def xml(*objects: str, size: str = "<size><width>840</width><height>712</height></size>") -> bytes:
    return f"<annotation><filename>x</filename>{size}{''.join(objects)}</annotation>".encode()


def thing(name: str, shape: str) -> str:
    return f"<object><name>{name}</name>{shape}</object>"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, name) for name in VEHICLES),
        ("feright_car", "freight car"),
        ("feright car", "freight car"),
        ("feright", "freight car"),
        ("freight_car", "freight car"),
        ("freight", "freight car"),
        ("Freight  Car", "freight car"),
        ("truvk", "truck"),
        (" CAR\n", "car"),
        ("*", ""),
        ("", ""),
        ("tank", None),
    ],
)
def test_names(name: str, expected: str | None) -> None:
    assert vehicle_of(name) == expected


def test_polygon_box_and_neither() -> None:
    half = "<polygon><x1>1</x1><y1>1</y1></polygon>"
    shapes = [POLYGON, BOX, POLYGON + BOX, half + BOX, half, "", "<bndbox><xmin>1</xmin></bndbox>"]
    annotation = parse_annotation(xml(*(thing("car", shape) for shape in shapes)))
    assert annotation.size == (840, 712)
    expected = [CORNERS] * 4 + [None] * 3
    assert [each.corners for each in annotation.objects] == expected
    assert annotation.objects[0] == AnnotatedObject(1, "car", CORNERS)


def test_file_without_objects_or_size_is_valid() -> None:
    annotation = parse_annotation(xml(size=""))
    assert (annotation.size, annotation.objects) == (None, ())


BOMB = '<!DOCTYPE a [<!ENTITY b "ten">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "empty file"),
        (b" \n", "empty file"),
        (b"<annotation>", "not well-formed"),
        (b"{}", "not well-formed"),
        (b"<?xml version='1.0' encoding='no-such'?><annotation/>", "not well-formed"),
        (BOMB.encode(), "DOCTYPE"),
        (BOMB.encode("utf-16"), "DOCTYPE"),
        (xml(thing("car", POLYGON.replace("<x1>110", "<x1>abc"))), "object 1: x1 is 'abc', not a number"),
        (xml(thing("car", POLYGON.replace("<x1>110", "<x1>nan"))), "not a number"),
        (xml(size="<size><width>wide</width><height>712</height></size>"), "size: width is 'wide'"),
    ],
)
def test_wrong_files_are_refused(raw: bytes, expected: str) -> None:
    with pytest.raises(PhotoError, match=expected):
        parse_annotation(raw)


def test_vehicles_are_shifted_clipped_and_counted() -> None:
    box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    objects = [
        thing("feright_car", POLYGON),
        thing("car", box.format(90, 300, 130, 320)),  # over the left edge
        thing("car", box.format(20, 20, 60, 60)),  # in the border
        thing("car", box.format(70, 200, 100, 220)),  # touches the frame
        thing("car", box.format(300, 300, 300, 320)),
        thing("*", POLYGON),
        thing("bus", ""),
    ]
    placed = place_vehicles(parse_annotation(xml(*objects)), (840, 712))
    assert [vehicle.name for vehicle in placed.vehicles] == ["freight car", "car"]
    assert set(placed.vehicles[0].polygon) == set(rectangle(10, 20, 40, 34))
    assert set(placed.vehicles[1].polygon) == set(rectangle(0, 200, 30, 220))
    assert placed.dropped == {"outside": 2, "degenerate": 1, "nameless": 1, "shapeless": 1}
    assert (placed.clipped, placed.respelled) == (1, {"feright_car": 1})


@pytest.mark.parametrize(("size", "photo", "left"), [("", (840, 712), 10), ("", (640, 512), 110)])
def test_without_a_size_the_photo_decides(size: str, photo: tuple[int, int], left: float) -> None:
    placed = place_vehicles(parse_annotation(xml(thing("car", POLYGON), size=size)), photo)
    assert min(x for x, _ in placed.vehicles[0].polygon) == left


def test_a_size_of_neither_frame_is_refused() -> None:
    size = "<size><width>712</width><height>840</height></size>"
    with pytest.raises(PhotoError, match="wrong <size>: 712 x 840; expected 840 x 712 or 640 x 512"):
        place_vehicles(parse_annotation(xml(size=size)), (840, 712))


def test_merging_adds_only_what_the_leading_annotation_lacks() -> None:
    leading = [Vehicle("car", tuple(rectangle(0, 0, 30, 14)))]
    other = [Vehicle("van", tuple(rectangle(2, -1, 32, 13))), Vehicle("bus", tuple(rectangle(0, 14, 60, 30)))]
    assert [vehicle.name for vehicle in merge_vehicles(leading, other)] == ["car", "bus"]
    assert merge_vehicles([], other) == other
