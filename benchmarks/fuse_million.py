"""Fusing and writing the submission for a million photos: seconds and peak memory of `riskfuse fuse`.

Photos are simulated as numbers: a data set's manifest and both stages' predictions, written as `riskfuse build` and
`riskfuse predict` write them. Validation photos have labels, test photos have none, as in a competition. Simulating is
not timed. `riskfuse fuse` then runs in a fresh process, so the clock holds Python's start and all imports; a first run
that is not counted leaves compiled bytecode, as an installation has it after its first use. Peak memory is what the
operating system counted for the process.

Prints a table; the last line is one JSON object. Writes nothing else unless --out is given.

Example:
    python benchmarks/fuse_million.py --rows 100000 --repeats 1
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from harness import finish

from dataset_builders.manifest import MANIFEST_NAME, MANIFEST_SCHEMA, PHOTOS_KEY, photos_sha256
from dataset_builders.task_card import TaskCard, load_task_card

SHARES = np.array([0.031, 0.137, 0.189, 0.593, 0.05])  # of the labels, as in the corridor task's official list
EVIDENCE = 3.0  # distance of the right answer from the others in standard deviations: about 9 of 10 are right


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"), help="card with five labels")
    parser.add_argument("--rows", type=int, default=1_000_000, help="test photos (default: a million)")
    parser.add_argument("--validation", type=int, default=3366, help="labelled validation photos (default: 3366)")
    parser.add_argument("--shard-size", type=int, default=4096, help="photos in a part file (default: 4096)")
    parser.add_argument("--repeats", type=int, default=3, help="the median is reported (default: 3)")
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def write_manifest(directory: Path, card: TaskCard, labels_N: np.ndarray, validation: int) -> pa.Array:
    """Write the manifest, the first ``validation`` photos labelled; returns the sample ids."""
    rows = len(labels_N)
    numbers = pa.array(np.arange(rows)).cast(pa.string())
    names = pc.binary_join_element_wise("楼道_", numbers, ".jpg", "")
    is_val = np.arange(rows) < validation
    source = pa.array(np.where(is_val, "train", "test"))
    columns = {
        "sample_id": pc.binary_join_element_wise(source, names, "/"),
        "source": source,
        "name": names,
        "position": pa.array(np.arange(rows, dtype=np.int32)),
        "label": pa.array(card.label_ids).take(pa.array(labels_N, mask=~is_val)),
        "split": pa.array(np.where(is_val, "val", "test")),
        "group": pa.array(np.arange(rows, dtype=np.int32)),
        "status": pa.array(np.full(rows, "ok")),
        "sha256": pictures(names),
    }
    for field in MANIFEST_SCHEMA:
        if field.name not in columns:
            empty = "" if pa.types.is_string(field.type) else 0
            columns[field.name] = pa.nulls(rows, field.type) if field.nullable else pa.array([empty] * rows, field.type)
    table = pa.table({field.name: columns[field.name].cast(field.type) for field in MANIFEST_SCHEMA})
    directory.mkdir()
    pq.write_table(table, directory / MANIFEST_NAME, compression="zstd")
    return columns["sample_id"]


def pictures(names: pa.Array) -> pa.Array:
    """SHA-256 of simulated photos."""
    return pa.array([hashlib.sha256(name.encode()).hexdigest() for name in names.to_pylist()])


def write_predictions(
    directory: Path, sample_ids: pa.Array, logits_NK: np.ndarray, answers: Sequence[str], shard_size: int
) -> None:
    """Write parts and marker as `riskfuse predict` does."""
    directory.mkdir()
    logps = logits_NK - np.log(np.exp(logits_NK).sum(axis=1, keepdims=True)) - 0.01
    starts = range(0, len(sample_ids), shard_size)
    for number, start in enumerate(starts):
        part = slice(start, start + shard_size)
        size = len(logps[part])
        columns = {"sample_id": sample_ids[part], "image": sample_ids[part]}
        columns |= {f"logp_{answer}": pa.array(logps[part, k]) for k, answer in enumerate(answers)}
        columns["off_label_mass"] = pa.array(np.full(size, 0.01))
        columns |= {"status": pa.array(np.full(size, "ok")), "error": pa.array(np.full(size, ""))}
        table = pa.table(columns).replace_schema_metadata({"riskfuse.fingerprint": '"simulated"'})
        pq.write_table(table, directory / f"part-{number:05d}.parquet", compression="zstd", row_group_size=1 << 20)
    marker = {"fingerprint": "simulated", "shards": len(starts), "rows": len(sample_ids)}
    marker[PHOTOS_KEY] = photos_sha256(pictures(pc.replace_substring_regex(sample_ids, "^[^/]*/", "")))
    (directory / "predictions.json").write_text(json.dumps(marker), encoding="utf-8")


def simulate(directory: Path, card: TaskCard, arguments: argparse.Namespace) -> None:
    """Write data set and predictions into ``data``, ``base`` and ``specialist``."""
    rng = np.random.default_rng(0)
    rows = arguments.rows + arguments.validation
    labels = rng.choice(len(SHARES), rows, p=SHARES)
    sample_ids = write_manifest(directory / "data", card, labels, arguments.validation)
    logits = rng.normal(size=(rows, len(SHARES)))
    logits[np.arange(rows), labels] += EVIDENCE
    write_predictions(directory / "base", sample_ids, EVIDENCE * logits, card.label_ids, arguments.shard_size)
    name = card.stages[1]
    positive = np.isin(np.array(card.label_ids)[labels], card.specialist(name).targets)
    odds = EVIDENCE * (rng.normal(size=rows) + EVIDENCE * (positive - 0.5))
    looks = np.column_stack([odds, np.zeros(rows)])
    answers = [answer.id for answer in card.answers(name)]
    write_predictions(directory / "specialist", sample_ids, looks, answers, arguments.shard_size)


def run_fuse(directory: Path, task: Path, specialist: str) -> tuple[float, float, float]:
    """Wall-clock seconds, processor seconds and peak memory in MiB of one `riskfuse fuse` in a process of its own."""
    words = [sys.executable, "-m", "launch.cli", "fuse", str(directory / "data"), "--task", str(task)]
    words += ["--base", str(directory / "base"), "--specialist", f"{specialist}={directory / 'specialist'}"]
    words += ["--out", str(directory / "out")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(directory / "bytecode")
    with (directory / "log.txt").open("w", encoding="utf-8") as log:
        started = time.perf_counter()
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit((directory / "log.txt").read_text(encoding="utf-8"))
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)  # macOS counts bytes
    return seconds, usage.ru_utime + usage.ru_stime, kib / 1024


def main() -> None:
    """Simulate, measure and print."""
    arguments = parse_arguments()
    card = load_task_card(arguments.task)
    if len(card.labels) != len(SHARES):
        raise SystemExit(f"{arguments.task}: has {len(card.labels)} labels, this simulation is of {len(SHARES)}")
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        simulate(directory, card, arguments)
        _, *runs = [run_fuse(directory, arguments.task, card.stages[1]) for _ in range(1 + arguments.repeats)]
        with (directory / "out" / "b-submit.txt").open(encoding="utf-8") as file:
            submitted = sum(1 for _ in file)
        with (directory / "out" / "review.csv").open(encoding="utf-8") as file:
            queued = sum(1 for _ in file) - 1
    if submitted != arguments.rows:
        raise SystemExit(f"the submission has {submitted} rows, expected {arguments.rows}")
    seconds = [run[0] for run in runs]
    result = {
        "benchmark": "fuse_million",
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "rows": arguments.rows,
        "validation": arguments.validation,
        "shard_size": arguments.shard_size,
        "queued_for_review": queued,
        "seconds": round(statistics.median(seconds), 2),
        "seconds_of_each_run": [round(value, 2) for value in seconds],
        "processor_seconds": round(statistics.median(run[1] for run in runs), 2),
        "peak_memory_mib": round(max(run[2] for run in runs), 1),
    }
    print(f"{'photos':>10}  {'seconds (median)':>16}  {'peak MiB':>8}")
    print(f"{arguments.rows:>10}  {result['seconds']:>16}  {result['peak_memory_mib']:>8}")
    finish(result, arguments.out)


if __name__ == "__main__":
    main()
