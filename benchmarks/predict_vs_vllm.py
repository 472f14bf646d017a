"""RiskFuse's label scorer against vLLM on a CPU: same model, photos, number type, cores and run; speed and parity.

vLLM's server is started as ``riskfuse predict --engine vllm`` starts it, from an environment of its own, and asked over
HTTP in both ways: ``first-token`` (one request a photo, upper bounds) and ``whole`` (every token of every answer). Its
caches are emptied before each measurement, so that no photo is known from the one before. The scorer runs in one
process a core with one thread each, as ``riskfuse predict --workers CORES`` does. Loading is not counted for any of
them. On a CPU with a tiny model most of vLLM's time is per request, not per token: the ratio says nothing about GPUs.
Prints a table; the last line is one JSON object. Writes nothing else unless --out is given.

Example:
    python benchmarks/predict_vs_vllm.py --vllm-python ~/vllm/bin/python --data data/corridor --adapter saves/board/base
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from predict_vs_loop import ScorerPool, photo_paths, processor_name, timed

from dataset_builders.errors import RiskFuseError

WARM_UP_PHOTOS = 32
SHARD_SIZE = 64


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm-python", type=Path, help="Python of an environment that has vLLM (docs/predict.md)")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tiny/base.yaml"))
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"))
    parser.add_argument("--data", type=Path, help="data set directory; noise photos of 168 x 168 without it")
    parser.add_argument("--adapter", default="none", help="adapter directory, or none for the bare base (default)")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="of this machine to use (default: all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, paths: list[str], scratch: Path) -> dict[str, Any]:
    """Run all ways in turn, ``repeats`` times each."""
    import httpx

    from launch.predict.config import PredictConfig
    from launch.predict.endpoint.scorer import score_at_endpoint
    from launch.predict.plan import endpoint_job, scoring_job, vllm_server_spec
    from launch.predict.rows import PhotoRow, cut_shards
    from launch.predict.vllm.engine import check_model, serve_command, server_environment, vllm_versions
    from launch.predict.vllm.server import run_server

    config = PredictConfig(
        recipe=arguments.recipe,
        task=arguments.task,
        stage="base",
        out=scratch,
        data=Path("unused"),
        adapter=arguments.adapter,
        engine="vllm",
        vllm_python=arguments.vllm_python,
        in_flight=arguments.in_flight,
        device="cpu",
    )
    job = scoring_job(config)
    versions = vllm_versions(arguments.vllm_python)
    check_model(job.spec)
    server = vllm_server_spec(config, job.spec)
    shards = cut_shards([PhotoRow(sample_id=path, image=path, sha256="") for path in paths], SHARD_SIZE)
    score = ScorerPool(job, arguments.cores, arguments.batch_size)
    # Developer's addresses, of which only those that empty the caches are used.
    environment = {**server_environment(job.spec), "VLLM_SERVER_DEV_MODE": "1"}
    started = time.perf_counter()
    with run_server(
        serve_command(job.spec, server), environment=environment, log=server.log, wait_s=server.wait_s
    ) as running:
        start_s = time.perf_counter() - started
        asked = replace(endpoint_job(config), url=running.url, api_key=running.api_key)

        def ask(reading: Any, some: list[Any]) -> np.ndarray:
            found = []
            for result in score_at_endpoint(replace(asked, reading=reading), some):
                assert result.scores is not None, result.error
                found.append(result.scores.logp_RK)
            return np.concatenate(found)

        def forget() -> None:
            for cache in ("prefix", "mm", "encoder"):
                url = f"{running.url.removesuffix('/v1')}/reset_{cache}_cache"
                headers = {"Authorization": f"Bearer {running.api_key}"}
                httpx.post(url, headers=headers, trust_env=False).raise_for_status()

        ways: dict[str, Callable[[], np.ndarray]] = {
            "scorer": lambda: score(paths),
            "vllm_first_token": lambda: ask("first-token", shards),
            "vllm_whole": lambda: ask("whole", shards),
        }
        score(paths)
        ask("whole", cut_shards(list(shards[0].rows[:WARM_UP_PHOTOS]), SHARD_SIZE))
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        logps: dict[str, np.ndarray] = {}
        for _ in range(arguments.repeats):
            for way, work in ways.items():
                forget()
                took, logps[way] = timed(work)
                seconds[way].append(took / len(paths))
    median = {way: statistics.median(values) for way, values in seconds.items()}
    return {
        "benchmark": "predict_vs_vllm",
        "photos": len(paths),
        "adapter": arguments.adapter != "none",
        "cores": arguments.cores,
        "processor": processor_name(),
        "repeats": arguments.repeats,
        "batch_size": arguments.batch_size,
        "in_flight": arguments.in_flight,
        "dtype": server.dtype,
        "versions": versions,
        "vllm_start_s": round(start_s, 1),
        "photos_per_s": {way: round(1 / value, 2) for way, value in median.items()},
        "photos_per_s_range": {
            way: [round(1 / max(values), 2), round(1 / min(values), 2)] for way, values in seconds.items()
        },
        "ratios": {way: round(value / median["scorer"], 2) for way, value in median.items() if way != "scorer"},
        "parity_with_scorer": {way: parity(logps["scorer"], logps[way]) for way in ways if way != "scorer"},
    }


def parity(first_NK: np.ndarray, second_NK: np.ndarray) -> dict[str, Any]:
    """What ``riskfuse parity`` measures, over the photos that have an answer in both."""
    from fusion.calibration import renormalise

    both = np.isfinite(first_NK).all(axis=1) & np.isfinite(second_NK).all(axis=1)
    first, second = first_NK[both], second_NK[both]
    differences = np.abs(np.exp(renormalise(first)) - np.exp(renormalise(second)))
    return {
        "photos": int(both.sum()),
        "agreement": float((first.argmax(axis=1) == second.argmax(axis=1)).mean()) if both.any() else None,
        "max_difference": float(differences.max()) if both.any() else None,
        "mean_difference": float(differences.mean()) if both.any() else None,
        "max_difference_of_logps": float(np.abs(first - second).max()) if both.any() else None,
    }


def main() -> int:
    """Measure and print; 2 without vLLM."""
    arguments = parse_arguments()
    if arguments.vllm_python is None:
        print(
            "predict_vs_vllm.py: nothing was measured: name the Python of an environment that has vLLM by "
            "--vllm-python; docs/predict.md says how to make one",
            file=sys.stderr,
        )
        return 2
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            result = measure(arguments, photo_paths(arguments, Path(scratch)), Path(scratch))
    except RiskFuseError as error:
        print(f"predict_vs_vllm.py: nothing was measured: {error}", file=sys.stderr)
        return 2
    print(f"{'way':<36}{'photos/s':>10}{'the scorer is':>16}{'max |Δp|':>12}{'same top':>10}")
    names = {
        "scorer": "label scorer, batches",
        "vllm_first_token": "vLLM over HTTP, first token",
        "vllm_whole": "vLLM over HTTP, whole answers",
    }
    for way, rate in result["photos_per_s"].items():
        line = f"{names[way]:<36}{rate:>10.2f}"
        if (found := result["parity_with_scorer"].get(way)) is not None and found["photos"]:
            line += f"{result['ratios'][way]:>8.1f} x faster{found['max_difference']:>12.1e}{found['agreement']:>10.3f}"
        print(line)
    last = json.dumps(result)
    if arguments.out is not None:
        arguments.out.write_text(last + "\n", encoding="utf-8")
    print(last)
    return 0


if __name__ == "__main__":
    sys.exit(main())
