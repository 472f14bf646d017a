"""What Ray costs and what it brings: `riskfuse predict` with 1 and 2 Ray workers against the in-process engine.

Every arm is the command itself in a process of its own, one thread a worker, on the same photos:

    local      --engine local
    ray_1      --workers 1
    ray_2      --workers 2
    pair       two `--engine local` at the same time on half of the list each: what two cores give without Ray

They run in turn, each time in another order, `--repeats` times. A rate is that of the steady run: the photos whose part
files came after each worker's first one, by the time from there to the last part file. All that is before counts as
start-up: imports, Ray, loading the model. The overhead is what ray_1 takes longer than local. ``cores_used`` says who
used the processor in the steady run: the driver, the workers, Ray's own processes, and others, which should not have.

With --many: one long run of all cores, whose driver's memory, time a photo and rows are watched; the photos are links
to a few hundred files. Prints a table; the last line is one JSON object. Writes nothing else unless --out is given.

Examples:
    python benchmarks/ray_scaling.py --photos 2048
    python benchmarks/ray_scaling.py --many --photos 100000 --size 56
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from predict_vs_loop import processor_name

LOCAL = ["--engine", "local"]
ARMS = {"local": LOCAL, "ray_1": ["--workers", "1"], "ray_2": ["--workers", "2"], "pair": LOCAL}
RATIOS = {
    "ray_2_to_ray_1": ("ray_2", "ray_1"),
    "pair_to_local": ("pair", "local"),
    "ray_1_to_local": ("ray_1", "local"),
}
SCORING = "ray::_RayWorker"  # how Ray calls the processes of RiskFuse's actors
DIFFERENT = 320  # files behind the links
TENTHS = 10
MIB = 1 << 20


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tiny/base.yaml"))
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"))
    parser.add_argument("--photos", type=int, default=2048)
    parser.add_argument("--size", type=int, default=336, help="side of a photo in pixels; a model sees at most 168")
    parser.add_argument("--shard-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", default="local,ray_1,ray_2,pair", help="which to run (default: all)")
    parser.add_argument("--many", action="store_true", help="one long run in place of the comparison")
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def write_photos(directory: Path, count: int, size: int) -> list[str]:
    """Rendered scenes of size x size pixels, and hard links to them, until there are ``count``; their names."""
    from PIL import Image

    from dataset_builders.scenes.compose import GRADES, render_scene

    files = []
    (directory / "photos").mkdir()
    for number in range(min(count, DIFFERENT)):
        rgb_HWC = render_scene(GRADES[number % len(GRADES)], 17, number, 0.15, 0).rgb_HWC
        files.append(directory / f"{number}.jpg")
        Image.fromarray(rgb_HWC).resize((size, size)).save(files[-1], quality=85)
    names = [f"{number:07d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        (directory / "photos" / name).hardlink_to(files[number % len(files)])
    return names


@dataclass(frozen=True)
class Sample:
    """What a command and its children had used at a moment.

    Attributes:
        at_s: The moment, Unix time.
        rss_mib: The driver's resident memory.
        cpu_s: Processor time by role: ``driver``, ``workers``, ``ray``.
        busy_s: Processor time of everything on the machine.
    """

    at_s: float
    rss_mib: float
    cpu_s: dict[str, float]
    busy_s: float

    @classmethod
    def of(cls, driver: psutil.Process) -> Sample:
        """Of a driver, now."""
        cpu_s = {"driver": _cpu_s(driver), "workers": 0.0, "ray": 0.0}
        for child in driver.children(recursive=True):
            try:
                scoring = " ".join(child.cmdline()).startswith(SCORING)
                cpu_s["workers" if scoring else "ray"] += _cpu_s(child)
            except psutil.Error:  # it has ended
                continue
        whole = psutil.cpu_times()
        return cls(time.time(), driver.memory_info().rss / MIB, cpu_s, sum(whole) - whole.idle - whole.iowait)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@dataclass(frozen=True)
class Run:
    """A finished `riskfuse predict`.

    Attributes:
        out: Its predictions directory.
        workers: Workers that it had.
        started_s: When it was started, Unix time.
        written_s: When its part files were written, in that order.
        samples: What was used, once a second.
    """

    out: Path
    workers: int
    started_s: float
    written_s: list[float]
    samples: list[Sample]

    @property
    def cores_used(self) -> dict[str, float]:
        """Processor time a second of the steady run by role."""
        start_s, end_s = self.written_s[self.workers - 1], self.written_s[-1]
        steady = [sample for sample in self.samples if start_s <= sample.at_s <= end_s]
        if len(steady) < 2:
            return {}
        first, last = steady[0], steady[-1]
        seconds = last.at_s - first.at_s
        used = {role: (last.cpu_s[role] - first.cpu_s[role]) / seconds for role in first.cpu_s}
        return used | {"others": (last.busy_s - first.busy_s) / seconds - sum(used.values())}

    @property
    def steady_s(self) -> float:
        """Seconds from each worker's first part file to the last part file."""
        return self.written_s[-1] - self.written_s[self.workers - 1]

    def rate(self, shard_size: int, photos: int) -> float:
        """Photos a second of the steady run."""
        return (photos - self.workers * shard_size) / self.steady_s

    def startup_s(self, shard_size: int, photos: int) -> float:
        """Seconds before the first photo, the first shard counted at the steady rate."""
        first_shards_s = self.workers * shard_size / self.rate(shard_size, photos)
        return self.written_s[self.workers - 1] - self.started_s - first_shards_s


class Predict:
    """One `riskfuse predict` as a process, from its start."""

    def __init__(self, arguments: argparse.Namespace, directory: Path, names: list[str], words: list[str]) -> None:
        self._workers = int(words[1]) if words[0] == "--workers" else 1
        self._out = Path(tempfile.mkdtemp(dir=directory)) / "predictions"
        photo_list = self._out.with_name("list.txt")
        photo_list.write_text("\n".join(names) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "launch.cli", "predict", "--recipe", arguments.recipe]
        command += ["--task", arguments.task, "--stage", "base", "--adapter", "none", "--device", "cpu"]
        command += ["--images", directory / "photos", "--list", photo_list, "--out", self._out]
        command += ["--shard-size", arguments.shard_size, "--threads", 1, *words]
        self._started_s = time.time()
        self._errors = self._out.with_name("errors.txt")
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=errors)
        self._samples: list[Sample] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._process.poll() is None:
            try:
                self._samples.append(Sample.of(psutil.Process(self._process.pid)))
            except psutil.Error:
                return
            time.sleep(1)

    def wait(self) -> Run:
        """Its end.

        Raises:
            SystemExit: It did not end well.
        """
        if self._process.wait() != 0:
            raise SystemExit(self._errors.read_text(encoding="utf-8"))
        written_s = sorted(path.stat().st_mtime_ns / 1e9 for path in self._out.glob("part-*.parquet"))
        return Run(self._out, self._workers, self._started_s, written_s, self._samples)


def compare(arguments: argparse.Namespace, directory: Path, names: list[str]) -> dict[str, Any]:
    """All arms in turn."""
    arms = arguments.arms.split(",")
    runs: dict[str, list[list[Run]]] = {arm: [] for arm in arms}
    rates: dict[str, list[float]] = {arm: [] for arm in arms}
    half = len(names) // 2
    for repeat in range(arguments.repeats):
        for arm in arms[repeat % len(arms) :] + arms[: repeat % len(arms)]:
            lists = [names[:half], names[half:]] if arm == "pair" else [names]
            started = [Predict(arguments, directory, part, ARMS[arm]) for part in lists]
            runs[arm].append([one.wait() for one in started])
            rates[arm].append(sum(run.rate(arguments.shard_size, len(lists[0])) for run in runs[arm][-1]))
            used = {role: round(cores, 2) for role, cores in runs[arm][-1][0].cores_used.items()}
            print(f"{arm:<8}{rates[arm][-1]:>8.1f} photos/s, cores used: {used}", file=sys.stderr, flush=True)
    known = {name: pair for name, pair in RATIOS.items() if {*pair} <= {*arms}}
    ratios = {
        name: [a / b for a, b in zip(rates[one], rates[other], strict=True)] for name, (one, other) in known.items()
    }
    return {
        "benchmark": "ray_scaling",
        **described(arguments),
        "repeats": arguments.repeats,
        "photos_per_s": {arm: round(statistics.median(values), 1) for arm, values in rates.items()},
        "ratios": {name: round(statistics.median(values), 3) for name, values in ratios.items()},
        "ratios_by_repeat": {name: [round(value, 3) for value in values] for name, values in ratios.items()},
        "overhead": round(1 / statistics.median(ratios["ray_1_to_local"]) - 1, 4)
        if "ray_1_to_local" in ratios
        else None,
        "startup_s": {
            arm: round(statistics.median(run[0].startup_s(arguments.shard_size, len(names)) for run in runs[arm]), 1)
            for arm in arms
            if arm != "pair"
        },
        "cores_used": {arm: mean_of([run[0].cores_used for run in runs[arm]]) for arm in arms if arm != "pair"},
    }


def mean_of(uses: list[dict[str, float]]) -> dict[str, float]:
    """Mean by role; short runs have none."""
    return {role: round(statistics.mean(use[role] for use in uses if use), 3) for role in next(filter(None, uses), {})}


def watch_many(arguments: argparse.Namespace, directory: Path, names: list[str]) -> dict[str, Any]:
    """One long run of all cores."""
    import pyarrow.parquet as pq

    cores = os.cpu_count() or 1
    run = Predict(arguments, directory, names, ["--workers", str(cores)]).wait()
    rows = sum(pq.read_metadata(path).num_rows for path in run.out.glob("part-*.parquet"))
    # Seconds between part files; the first ones of the workers have loading in them.
    gaps_s = [b - a for a, b in zip(run.written_s[cores - 1 :], run.written_s[cores:], strict=False)]
    tenth = max(1, len(gaps_s) // TENTHS)
    steady_mib = [sample.rss_mib for sample in run.samples if run.written_s[0] <= sample.at_s <= run.written_s[-1]] or [
        0.0
    ]
    return {
        "benchmark": "ray_scaling",
        "many": True,
        **described(arguments),
        "workers": cores,
        "complete": rows == len(names) and (run.out / "predictions.json").is_file(),
        "rows": rows,
        "photos_per_s": round(run.rate(arguments.shard_size, len(names)), 1),
        "startup_s": round(run.startup_s(arguments.shard_size, len(names)), 1),
        "seconds": round(run.written_s[-1] - run.started_s, 1),
        "ms_per_photo": {
            "first_tenth": round(1000 * statistics.mean(gaps_s[:tenth]) / arguments.shard_size, 2),
            "last_tenth": round(1000 * statistics.mean(gaps_s[-tenth:]) / arguments.shard_size, 2),
        },
        "driver_rss_mib": {
            "first": round(steady_mib[0]), "last": round(steady_mib[-1]), "highest": round(max(steady_mib))
        },
        "cores_used": mean_of([run.cores_used]),
    }  # fmt: skip


def described(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was measured on what."""
    return {
        "photos": arguments.photos,
        "size": arguments.size,
        "shard_size": arguments.shard_size,
        "processor": processor_name(),
        "cores": os.cpu_count(),
    }


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    if arguments.photos < 4 * arguments.shard_size:
        raise SystemExit("--photos must be at least 4 shards (--shard-size), or nothing is left beside the first ones")
    with tempfile.TemporaryDirectory() as scratch:
        names = write_photos(Path(scratch), arguments.photos, arguments.size)
        result = (watch_many if arguments.many else compare)(arguments, Path(scratch), names)
    for name, value in result.items():
        print(f"{name:<20}{value}")
    line = json.dumps(result)
    if arguments.out is not None:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
