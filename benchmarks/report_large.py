"""A run of ten thousand test photos: is its report still small and quick to open, its review queue still quick to walk?

Photos are simulated as in `fuse_million.py` and share a dozen files of a camera's size; `riskfuse fuse` decides about
them and is asked for prediction sets that so few validation photos cannot narrow, so that every photo is to be
reviewed. Then, each in a process of its own: `riskfuse report` is timed and its page opened in Chromium; `riskfuse
review` is started, its page opened, and photos are walked through by keyboard. A page counts as open when it is loaded
and drawn, a photo as shown when it may be decided about: it is then decoded and on the screen.

Prints a table; the last line is one JSON object. Writes nothing else unless --out is given. Needs a Chromium of the
system, or one named in CHROMIUM.

Example:
    python benchmarks/report_large.py --photos 1000 --steps 5
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuse_million import simulate
from harness import finish, timed
from PIL import Image

from dataset_builders.files import write_json
from dataset_builders.manifest import MANIFEST_NAME, read_manifest
from dataset_builders.summary import summarize
from dataset_builders.task_card import TaskCard, load_task_card

FILES = 12  # photos on disk
SIZE = (1600, 1200)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SHOWN = "#rf-accept:enabled"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"), help="card with five labels")
    parser.add_argument("--photos", type=int, default=10_000, help="test photos (default: 10000)")
    parser.add_argument("--validation", type=int, default=1000, help="labelled validation photos (default: 1000)")
    parser.add_argument("--steps", type=int, default=30, help="photos that are walked through (default: 30)")
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def write_run(directory: Path, card: TaskCard, arguments: argparse.Namespace) -> None:
    """Write data set and predictions, and fuse them into ``run``."""
    simulate(
        directory, card, argparse.Namespace(rows=arguments.photos, validation=arguments.validation, shard_size=4096)
    )
    data = directory / "data"
    table = pq.read_table(data / MANIFEST_NAME)
    images = pa.array([f"images/{row % FILES}.jpg" for row in range(len(table))])
    place = table.schema.get_field_index("image")
    pq.write_table(table.set_column(place, table.schema.field("image"), images), data / MANIFEST_NAME)
    (data / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(FILES):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        coarse.resize(SIZE, Image.Resampling.BICUBIC).save(data / "images" / f"{number}.jpg", quality=90)
    head = {"fingerprint": "simulated", "task": card.task, "labels": list(card.label_ids)}
    write_json(data / "build.json", head | summarize(read_manifest(data), card))
    stage = card.stages[1]
    given = ["--base", directory / "base", "--specialist", f"{stage}={directory / 'specialist'}", "--alpha", "0.0003"]
    riskfuse("fuse", data, "--task", arguments.task, *given, "--out", directory / "run")


def command(*words: object) -> list[str]:
    """A command line of riskfuse with this Python."""
    return [sys.executable, "-m", "launch.cli", *map(str, words)]


def riskfuse(*words: object) -> float:
    """Run a command to its end; wall-clock seconds."""
    started = time.perf_counter()
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started


@contextmanager
def serve(*words: object) -> Iterator[tuple[str, float]]:
    """Address of `riskfuse review`, and the seconds until it answers."""
    started = time.perf_counter()
    with subprocess.Popen(command(*words, "--port", 0, "--no-browser"), stdout=subprocess.PIPE, text=True) as process:
        try:
            line = next(line for line in process.stdout or () if line.startswith("open "))
            yield line.split()[1], time.perf_counter() - started
        finally:
            process.terminate()


@contextmanager
def chromium() -> Iterator[Any]:
    """A page of a fresh Chromium without any cache."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise SystemExit("no Chromium found; install it (Debian: apt-get install chromium), or name it in CHROMIUM")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


def open_report(path: Path) -> float:
    """Seconds until the report is loaded and drawn."""
    with chromium() as page:
        drawn = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        return timed(lambda: (page.goto(path.resolve().as_uri(), wait_until="load"), page.evaluate(drawn)))[0]


def walk_queue(address: str, steps: int) -> dict[str, Any]:
    """Seconds until the first photo is shown, and until the next one is after each key."""

    def press(page: Any, key: str, place: int) -> None:
        page.keyboard.press(key)
        page.wait_for_function(
            "at => document.getElementById('rf-at').textContent.startsWith(`${at} of`) "
            "&& !document.getElementById('rf-accept').disabled",
            arg=place,
        )

    with chromium() as page:
        first, _ = timed(lambda: (page.goto(address), page.wait_for_selector(SHOWN)))
        queued = int(page.inner_text("#rf-at").split(" of ")[1])
        steps = min(steps, (queued - 1) // 2)
        walked = [timed(lambda at=step + 2: press(page, "n", at))[0] for step in range(steps)]
        decided = [timed(lambda at=steps + step + 2: press(page, "a", at))[0] for step in range(steps)]
    found = {"queued": queued, "open_s": round(first, 3)}
    for name, seconds in (("next_photo_s", walked), ("decide_and_next_s", decided)):
        found |= {name: round(statistics.median(seconds), 3), f"{name}_worst": round(max(seconds), 3)}
    return found


def main() -> None:
    """Simulate, measure and print."""
    arguments = parse_arguments()
    card = load_task_card(arguments.task)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        write_run(directory, card, arguments)
        of_run = [directory / "run", "--task", arguments.task, "--data", directory / "data"]
        build_s = riskfuse("report", *of_run)
        page = directory / "run" / "report.html"
        report = {
            "build_s": round(build_s, 2),
            "megabytes": round(page.stat().st_size / 1e6, 3),
            "open_s": round(open_report(page), 3),
        }
        with serve("review", *of_run, "--reviewer", "anna") as (address, seconds):
            review = {"start_s": round(seconds, 2)} | walk_queue(address, arguments.steps)
    result = {
        "benchmark": "report_large",
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "photos": arguments.photos,
        "report": report,
        "review": review,
    }
    for part in ("report", "review"):
        for name, value in result[part].items():
            print(f"{part:<8}{name:<24}{value:>10}")
    finish(result, arguments.out)


if __name__ == "__main__":
    main()
