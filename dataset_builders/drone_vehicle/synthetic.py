"""A small DroneVehicle tree with every known trap, rendered; ``truth.json`` says what a builder must find in it.

``python -m dataset_builders.drone_vehicle.synthetic OUT --pairs 200``
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

from dataset_builders.drone_vehicle.counts import VEHICLES
from dataset_builders.drone_vehicle.frame import BORDER, BORDERED_SIZE, FRAME_SIZE
from dataset_builders.drone_vehicle.synthetic_drawing import draw_scene
from dataset_builders.drone_vehicle.synthetic_scene import SceneVehicle, compose_scene
from dataset_builders.drone_vehicle.synthetic_traps import TRAPS, PairFiles, XmlObject
from dataset_builders.drone_vehicle.tree import SPLITS
from dataset_builders.errors import DataError, RiskFuseError
from dataset_builders.files import atomic_path, write_json, write_text

__all__ = ["LEAK", "LEAST_PAIRS", "TRUTH_NAME", "main", "make_tree"]

TRUTH_NAME = "truth.json"
LEAK = "duplicate of a test pair"
LEAST_PAIRS = 90  # fewer have no room for every trap beside sound pairs of each density

_SHARES = {"train": 0.6, "val": 0.15}
_UNITS = ((0, 5), (7, 13), (16, 27), (31, 42))  # passenger car units of the scenes, in turn
_QUALITY = 92
# The wrong names that are known, among right ones; the data set itself hardly knows "freight car".
_SPELLINGS = {
    "freight car": ("feright_car", "feright car", "feright", "freight_car", "Freight Car", "freight car"),
    "truck": ("truck", "truvk", "truck"),
    "bus": ("bus", " bus ", "BUS"),
}
_RGB_SHIFT = (2.0, -1.0)  # the cameras are some pixels apart
_MISSED = 5  # at night, the RGB annotation lacks every so many-th vehicle


@dataclass(frozen=True)
class _Plan:
    """One pair: where it goes, which scene it shows, which trap it holds (empty for none)."""

    split: str
    stem: str
    scene: int
    trap: str


def make_tree(out: Path, *, pairs: int, seed: int = 0) -> dict[str, Any]:
    """Render a tree; the same arguments give the same bytes.

    Args:
        out: Directory to write, new or empty, or one that this function wrote before (it is cleared).
        pairs: Number of stems over all splits.
        seed: Decides the scenes.

    Returns:
        What ``out/truth.json`` holds: ``pairs`` (by ``split/stem``: trap, counts by truth, dropped objects, quarantine
        reason) and ``strays``.

    Raises:
        DataError: ``pairs`` is too small, or ``out`` holds something else.
    """
    if pairs < LEAST_PAIRS:
        raise DataError(f"{pairs} pairs have no room for every trap; ask for {LEAST_PAIRS} or more")
    marker = out / TRUTH_NAME
    if out.exists() and any(out.iterdir()) and not marker.is_file():
        raise DataError(f"{out}: is not empty and no synthetic tree; choose another directory")
    for split in SPLITS:
        shutil.rmtree(out / split, ignore_errors=True)
    write_json(marker, {})  # says from the first moment whose directory it is
    truths = {f"{plan.split}/{plan.stem}": _make_pair(out, plan, seed) for plan in _plan(pairs)}
    strays = ["train/trainimg/readme.txt", "val/vallabelr/classes.csv"]
    for stray in (*strays, "train/trainimg/Thumbs.db", "test/testimgr/.DS_Store"):
        write_text(out / stray, "no photo\n")
    truth = {"pairs": truths, "strays": strays}
    write_json(marker, truth)
    return truth


def _plan(pairs: int) -> list[_Plan]:
    """Traps stand in the training split, every other pair; the last one is a copy of the first test pair."""
    train, val = (round(share * pairs) for share in _SHARES.values())
    sizes = {"train": train, "val": val, "test": pairs - train - val}
    traps = {2 * number + 1: name for number, name in enumerate([*TRAPS, LEAK])}
    plans = []
    scene = 0
    for split, size in sizes.items():
        for index in range(size):
            trap = traps.get(index, "") if split == "train" else ""
            plans.append(_Plan(split, f"{index + 1:05d}", train + val if trap == LEAK else scene, trap))
            scene += 1
    return plans


def _make_pair(out: Path, plan: _Plan, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, plan.scene])
    # The order of densities changes from turn to turn, so that traps, which stand in odd places, meet all of them.
    low, high = _UNITS[(plan.scene + plan.scene // len(_UNITS)) % len(_UNITS)]
    scene = compose_scene(rng, int(rng.integers(low, high + 1)))
    rgb, infrared = draw_scene(scene, rng)
    in_light = [v for number, v in enumerate(scene.vehicles) if scene.daylight > 0.3 or (number + 1) % _MISSED]
    pair = PairFiles(
        photos={"rgb": rgb, "infrared": infrared},
        objects={"rgb": _objects(in_light, _RGB_SHIFT), "infrared": _objects(scene.vehicles, (0, 0))},
        counts={"rgb": Counter(v.name for v in in_light), "infrared": Counter(v.name for v in scene.vehicles)},
    )
    if plan.trap in TRAPS:
        TRAPS[plan.trap](pair)
    _write_pair(out, plan, pair)
    return {
        "trap": plan.trap,
        "reason": "leak:" if plan.trap == LEAK else pair.reason,
        "counts": {modality: {name: of[name] for name in VEHICLES} for modality, of in pair.counts.items()},
        "dropped": dict(pair.dropped),
    }


def _objects(vehicles: Sequence[SceneVehicle], shift: tuple[float, float]) -> list[XmlObject]:
    """Objects of an annotation; spellings change from one to the next."""
    objects = []
    for number, vehicle in enumerate(vehicles):
        spellings = _SPELLINGS.get(vehicle.name, (vehicle.name,))
        corners = [(x + shift[0], y + shift[1]) for x, y in vehicle.part(-1, 1)]
        objects.append(XmlObject(spellings[number % len(spellings)], corners))
    return objects


def _write_pair(out: Path, plan: _Plan, pair: PairFiles) -> None:
    files = {}
    for modality, ending in (("rgb", ""), ("infrared", "r")):
        files[f"img{ending}"] = _photo_bytes(pair, modality), pair.suffix
        files[f"label{ending}"] = _xml_bytes(pair, modality), ".xml"
    for directory, (content, suffix) in files.items():
        if directory not in pair.missing:
            raw = pair.raw.get(directory, bytes)(content)
            path = out / plan.split / f"{plan.split}{directory}" / f"{plan.stem}{suffix}"
            with atomic_path(path) as temporary:
                temporary.write_bytes(raw)


def _photo_bytes(pair: PairFiles, modality: str) -> bytes:
    photo, size = pair.photos[modality], pair.size[modality]
    if size == BORDERED_SIZE:
        frame, photo = photo, (pair.border or Image.new("RGB", BORDERED_SIZE, "white")).copy()
        photo.paste(frame, (BORDER, BORDER))
    elif size != FRAME_SIZE:
        photo = photo.resize(size)
    buffer = io.BytesIO()
    photo.save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _xml_bytes(pair: PairFiles, modality: str) -> bytes:
    """As the data set writes it: whole pixels, a ``<filename>`` that names no file."""
    shift = 0 if pair.xml_size == FRAME_SIZE or (pair.xml_size is None and pair.size["rgb"] == FRAME_SIZE) else BORDER
    lines = ["<annotation>", "\t<folder>DroneVehicle</folder>", "\t<filename>photo</filename>"]
    if pair.xml_size:
        width, height = pair.xml_size
        lines.append(f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    for thing in pair.objects[modality]:
        lines += ["\t<object>", f"\t\t<name>{escape(thing.name)}</name>", "\t\t<difficult>0</difficult>"]
        corners = [(round(x + shift), round(y + shift)) for x, y in thing.corners]
        if thing.shape == "polygon":
            points = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(corners, start=1))
            lines.append(f"\t\t<polygon>{points}</polygon>")
        elif thing.shape == "bndbox":
            (left, right), (top, bottom) = ((min(values), max(values)) for values in zip(*corners, strict=True))
            lines.append(
                f"\t\t<bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>"
            )
        lines.append("\t</object>")
    return "\n".join([*lines, "</annotation>", ""]).encode()


def main(argv: list[str] | None = None) -> int:
    """Run ``python -m dataset_builders.drone_vehicle.synthetic OUT``; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_builders.drone_vehicle.synthetic",
        description="Render a small DroneVehicle tree with every known trap.",
        epilog="example: python -m dataset_builders.drone_vehicle.synthetic data/raw/DroneVehicle --pairs 200",
    )
    parser.add_argument("out", type=Path, help="directory to write")
    parser.add_argument("--pairs", type=int, default=200, help=f"over all splits, {LEAST_PAIRS} or more")
    parser.add_argument("--seed", type=int, default=0, help="decides the scenes")
    args = parser.parse_args(argv)
    try:
        truth = make_tree(args.out, pairs=args.pairs, seed=args.seed)
    except RiskFuseError as error:
        print(f"synthetic: {error}", file=sys.stderr)
        return 2
    trapped = sum(bool(pair["trap"]) for pair in truth["pairs"].values())
    print(f"{args.out}: {len(truth['pairs'])} pairs, {trapped} of them with a trap; see {args.out / TRUTH_NAME}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
