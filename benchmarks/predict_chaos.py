"""Does a prediction run survive kill -9? A Ray cluster of three nodes on this machine, and deaths at random points.

The head holds no worker; each of the other nodes holds one. In every trial, when a random number of part files is
there, and after a random moment, one thing is killed by SIGKILL: an actor, all processes of a node (another one then
joins), or the driver (the same command then goes on). The predictions must be those of an undisturbed run in one
process, byte for byte, and a driver that goes on must keep every part that was there: only shards that were in flight
are scored twice.
Prints a line a trial; the last line is one JSON object. Exit 1 when a trial differs.

Example:
    python benchmarks/predict_chaos.py --trials 30
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from harness import finish

VICTIMS = ("actor", "node", "driver")
NODES = 2
MOMENT_S = 0.3  # a worker scores a shard in about that time
LOADING_S = 15.0  # where no part file is waited for, the moment may fall into Ray's start or the model's loading
TIMEOUT_S = 300.0
SCORING = "ray::_RayWorker"  # how Ray calls the processes of RiskFuse's actors


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tiny/base.yaml"))
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"))
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--photos", type=int, default=240)
    parser.add_argument("--shard-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0, help="of the victims and moments")
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def write_photos(directory: Path, count: int) -> None:
    """Noise photos, and a list of them with one name that is not there."""
    from PIL import Image

    rng = np.random.default_rng(0)
    (directory / "photos").mkdir()
    names = [f"{number:04d}.png" for number in range(count)]
    for name in names:
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((168, 168)).save(directory / "photos" / name)
    (directory / "list.txt").write_text("\n".join([*names, "missing.png"]) + "\n", encoding="utf-8")


def command(arguments: argparse.Namespace, directory: Path, out: Path, *engine: str) -> list[str]:
    """`riskfuse predict` of the photos by the bare base model."""
    words = [sys.executable, "-m", "launch.cli", "predict", "--recipe", arguments.recipe, "--task", arguments.task]
    words += ["--stage", "base", "--images", directory / "photos", "--list", directory / "list.txt", "--out", out]
    words += ["--adapter", "none", "--device", "cpu", "--shard-size", arguments.shard_size, "--batch-size", 4, *engine]
    return list(map(str, words))


def contents(out: Path) -> dict[str, bytes]:
    """Everything in a directory."""
    return {path.name: path.read_bytes() for path in out.iterdir()}


def parts(out: Path) -> int:
    """How many part files are there."""
    return len(list(out.glob("part-*.parquet")))


def scoring_processes(session: psutil.Process) -> Iterator[psutil.Process]:
    """RiskFuse's actors below a process."""
    for process in session.children(recursive=True):
        try:
            if process.cmdline()[0].startswith(SCORING):
                yield process
        except (psutil.Error, IndexError):
            continue


class Cluster:
    """A head without workers and ``NODES`` nodes with one each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self._cluster = RayCluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self._nodes: list[Any] = []
        for _ in range(NODES):
            self._join()
        self.address = self._cluster.address

    def _join(self) -> None:
        self._nodes.append(self._cluster.add_node(num_cpus=1))

    def kill_node(self, which: int) -> None:
        """Kill all processes of a node; another one takes its place."""
        self._cluster.remove_node(self._nodes.pop(which), allow_graceful=False)
        self._join()

    def stop(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


def trial(arguments: argparse.Namespace, directory: Path, cluster: Cluster, number: int) -> dict[str, Any]:
    """Run once, kill once, and say what came of it."""
    rng = np.random.default_rng([arguments.seed, number])
    victim = VICTIMS[number % len(VICTIMS)]
    shards = -(-(arguments.photos + 1) // arguments.shard_size)
    point = int(rng.integers(0, shards - 1))
    moment_s = float(rng.uniform(0, MOMENT_S if point else LOADING_S))
    out = directory / f"trial{number}"
    words = command(arguments, directory, out, "--address", cluster.address, "--workers", str(NODES))
    log = directory / "log.txt"
    driver = start(words, log)
    deadline = time.monotonic() + TIMEOUT_S
    while parts(out) < point and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(moment_s)
    if victim == "actor":
        while not (scoring := list(scoring_processes(psutil.Process()))) and driver.poll() is None:
            time.sleep(0.01)
        if scoring:
            scoring[int(rng.integers(len(scoring)))].kill()
    elif victim == "node":
        cluster.kill_node(int(rng.integers(NODES)))
    else:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    there = kept = parts(out)
    if victim == "driver":
        driver = start(words, log)
    status = driver.wait(timeout=TIMEOUT_S)
    said = log.read_text(encoding="utf-8")
    if victim == "driver" and (found := re.search(r"(\d+) parts were there already", said)):
        kept = int(found[1])
    return {"victim": victim, "parts_there": there, "parts_kept": kept, "status": status, "out": out, "log": said}


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a driver whose output goes to a file."""
    with log.open("wb") as file:
        return subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)


def main() -> int:
    """Run all trials and print."""
    arguments = parse_arguments()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        write_photos(directory, arguments.photos)
        quiet = directory / "quiet"
        done = subprocess.run(command(arguments, directory, quiet, "--engine", "local"), capture_output=True, text=True)
        if not (quiet / "predictions.json").exists():
            raise SystemExit(done.stderr)
        expected = contents(quiet)
        cluster = Cluster()
        results = []
        try:
            for number in range(arguments.trials):
                result = trial(arguments, directory, cluster, number)
                result["same"] = contents(result["out"]) == expected
                result["good"] = result["same"] and result["parts_kept"] == result["parts_there"]
                results.append(result)
                line = f"trial {number + 1}: {result['victim']} killed with {result['parts_there']} of "
                print(
                    line + f"{len(expected) - 1} parts: {'the same' if result['good'] else 'NOT THE SAME'}", flush=True
                )
                if not result["good"]:
                    print(result["log"], file=sys.stderr)
        finally:
            cluster.stop()
    good = [result for result in results if result["good"]]
    summary = {
        "benchmark": "predict_chaos",
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "photos": arguments.photos,
        "shards": len(expected) - 1,
        "nodes": NODES,
        "killed": dict(Counter(result["victim"] for result in results)),
        "byte_identical": len(good),
        "trials": len(results),
    }
    finish(summary, arguments.out)
    return 0 if len(good) == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
