"""Distributes shards: a loop in this process, or Ray actors. Both give the same scores for the same shard."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dataset_builders.errors import ConfigError
from launch.predict.actor_pool import ActorPool
from launch.predict.rows import Shard
from launch.predict.worker import ScoringJob, ShardResult, ShardWorker

__all__ = ["score_locally", "score_on_ray"]

CONNECT_S = 5.0
OBJECT_STORE_BYTES = 128 << 20  # shards and scores are kilobytes; Ray would take a third of the memory


def score_locally(job: ScoringJob, shards: Sequence[Shard]) -> Iterator[ShardResult]:
    """Score the shards in this process, in their order."""
    worker = ShardWorker(job)
    for shard in shards:
        yield worker.attempt(shard)


def score_on_ray(
    job: ScoringJob,
    shards: Sequence[Shard],
    *,
    workers: int,
    address: str | None = None,
    on_death: Callable[[], None] = lambda: None,
) -> Iterator[ShardResult]:
    """Score the shards on Ray actors, in the order in which they finish. One shard a worker is in flight.

    Args:
        job: What every actor needs.
        shards: What is to be done.
        workers: Number of actors, >= 1; each takes one CPU, and one GPU when the job runs on GPUs.
        address: A running cluster, whose nodes need RiskFuse and the same file paths; a private one otherwise.
        on_death: Called when an actor has died.

    Raises:
        ConfigError: Nobody answers at the address.
        RiskFuseError: The model cannot be loaded, or a node has other versions.
        StepError: Actors died again and again, and no shard was finished meanwhile.
    """
    if address is not None:
        _check_reachable(address)
    else:  # read by Ray's import: a private cluster then listens to this machine alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    private: dict[str, Any] = {
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    started = not ray.is_initialized()
    if started:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **({} if address else private),
        )
    pool = ActorPool(job, workers=min(workers, len(shards)), on_death=on_death)
    try:
        yield from pool.run(shards)
    finally:
        pool.stop()
        if started:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself tries for two minutes and then ends the process."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--address: expected HOST:PORT of a Ray cluster's head, got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except OSError as error:
        raise ConfigError(
            f"--address: no Ray cluster answers at {address} ({error}); start one with `ray start --head`, which "
            "prints its address, and open its port between the machines"
        ) from error
