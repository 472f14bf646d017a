"""Scenes for pre-training the tiny base: photos at two sizes, and which kinds of things each patch shows.

Streams and difficulty differ from those of the boards, so the base sees none of their photos.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_builders.files import write_json
from dataset_builders.processes import map_in_processes
from dataset_builders.scenes.compose import GENERATOR_VERSION, GRADES, KINDS, PLACES, Scene, render_scene

__all__ = ["PATCHES", "SIZES", "load_scenes", "render_scenes"]

STREAM = 70_001  # no board uses it
SIZES = (168, 252)
PATCHES = 24  # cells a side of the truth map, 14 x 14 pixels of the 336-pixel rendering each
GRADE_SHARES = (0.38, 0.24, 0.2, 0.06, 0.12)
CHUNK = 200
LEAST_PIXELS = 5  # of a cell's 196: fewer do not count as showing the thing


def _truth(scene: Scene) -> NDArray[np.uint32]:
    """Bit k of a cell says that kind k shows there; uint32 of shape (24, 24)."""
    kind_bits = np.zeros(256, np.uint32)
    for thing in scene.things:
        kind_bits[thing.object_id] = 1 << KINDS.index(thing.kind)
    cells = scene.ids_HW.reshape(PATCHES, 14, PATCHES, 14).transpose(0, 2, 1, 3).reshape(PATCHES, PATCHES, 196)
    truth = np.zeros((PATCHES, PATCHES), np.uint32)
    for thing in scene.things:
        shown = (cells == thing.object_id).sum(2) >= LEAST_PIXELS
        truth |= np.where(shown, kind_bits[thing.object_id], np.uint32(0))
    return truth


def _chunk(job: tuple[str, int, int]) -> list[dict[str, object]]:
    """Render scenes start to stop into the directory's memory-mapped arrays; returns their descriptions."""
    import cv2

    directory, start, stop = job
    cv2.setNumThreads(1)
    arrays = {size: np.load(Path(directory) / f"rgb{size}.npy", mmap_mode="r+") for size in SIZES}
    truths = np.load(Path(directory) / "truth.npy", mmap_mode="r+")
    rows: list[dict[str, object]] = []
    for index in range(start, stop):
        rng = np.random.default_rng([STREAM, index])
        grade = GRADES[int(rng.choice(len(GRADES), p=GRADE_SHARES))]
        scene = render_scene(grade, STREAM, index, hard=float(rng.uniform(0.0, 0.8)))
        # As the boards' photos: through JPEG once.
        code = cv2.imencode(".jpg", scene.rgb_HWC[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 95))])[1]
        photo = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1]
        for size in SIZES:
            arrays[size][index] = cv2.resize(photo, (size, size), interpolation=cv2.INTER_AREA)
        truths[index] = _truth(scene)
        rows.append({"place": scene.place, "visible": [t.kind for t in scene.things if t.visible]})
    return rows


def render_scenes(directory: Path, count: int, workers: int = 2) -> None:
    """Render ``count`` scenes into ``directory``; does nothing when they are there.

    Writes rgb168.npy and rgb252.npy (uint8, (count, side, side, 3)), truth.npy (uint32, (count, 24, 24)) and,
    last, scenes.json with each scene's place and visible kinds.
    """
    marker = directory / "scenes.json"
    if marker.exists() and json.loads(marker.read_text())["settings"] == [GENERATOR_VERSION, count]:
        return
    directory.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        np.lib.format.open_memmap(directory / f"rgb{size}.npy", "w+", np.uint8, (count, size, size, 3)).flush()
    np.lib.format.open_memmap(directory / "truth.npy", "w+", np.uint32, (count, PATCHES, PATCHES)).flush()
    starts = range(0, count, CHUNK)
    jobs = [(str(directory), start, min(start + CHUNK, count)) for start in starts]
    chunks = map_in_processes(_chunk, jobs, workers=workers, chunk=1, remedy="run the command again with fewer workers")
    rows = [row for chunk in chunks for row in chunk]
    write_json(marker, {"settings": [GENERATOR_VERSION, count], "places": PLACES, "kinds": KINDS, "rows": rows})


def load_scenes(directory: Path) -> tuple[dict[int, NDArray[np.uint8]], NDArray[np.uint32], list[dict[str, object]]]:
    """The arrays of ``render_scenes``, memory-mapped, and the scenes' descriptions."""
    arrays = {size: np.load(directory / f"rgb{size}.npy", mmap_mode="r") for size in SIZES}
    rows = json.loads((directory / "scenes.json").read_text())["rows"]
    return arrays, np.load(directory / "truth.npy", mmap_mode="r"), rows
