"""Distributes shards: a loop in this process, or Ray actors. Both give the same scores for the same shard."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dataset_builders.errors import RiskFuseError, StepError
from launch.predict.parts import ShardScores
from launch.predict.rows import Shard
from launch.predict.worker import ScoringJob, ShardWorker

__all__ = ["ShardResult", "score_locally", "score_on_ray"]

MAX_ATTEMPTS = 3  # of one shard, when the actor that held it died
REPLACEMENTS_PER_WORKER = 3
OBJECT_STORE_BYTES = 128 << 20  # shards and scores are kilobytes; Ray would take a third of the memory
_WORKER_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "LLAMAFACTORY_VERBOSITY": "ERROR"}


@dataclass(frozen=True)
class ShardResult:
    """A finished shard: either scores, or the error that made it fail."""

    shard: Shard
    scores: ShardScores | None
    error: str = ""


def score_locally(job: ScoringJob, shards: Sequence[Shard]) -> Iterator[ShardResult]:
    """Score the shards in this process, in their order."""
    worker = ShardWorker(job)
    for shard in shards:
        yield _attempt(worker, shard)


def score_on_ray(
    job: ScoringJob, shards: Sequence[Shard], *, workers: int, address: str | None = None
) -> Iterator[ShardResult]:
    """Score the shards on Ray actors, in the order in which they finish. One shard a worker is in flight.

    Args:
        job: What every actor needs.
        shards: What is to be done.
        workers: Number of actors, >= 1; each takes one CPU, and one GPU when the job runs on GPUs.
        address: A running cluster, whose nodes need RiskFuse and the same file paths; a private one otherwise.

    Raises:
        RiskFuseError: The model cannot be loaded.
        StepError: Actors died more often than they are replaced.
    """
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
    pool = _ActorPool(job, workers=min(workers, len(shards)))
    try:
        yield from pool.run(shards)
    finally:
        pool.stop()
        if started:
            ray.shutdown()


class _ActorPool:
    """Actors, the shards in flight, and what to do when an actor dies."""

    def __init__(self, job: ScoringJob, workers: int) -> None:
        import ray

        environment = {"env_vars": {**_WORKER_ENVIRONMENT, "OMP_NUM_THREADS": str(job.spec.threads)}}
        gpus = 1 if job.spec.device == "cuda" else 0
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0, "runtime_env": environment}
        self._actor_class: Any = ray.remote(_RayWorker).options(**options)
        self._job = job
        self._replacements = REPLACEMENTS_PER_WORKER * workers
        # Reference of the task in flight -> (actor, its shard or None while it loads the model, attempt).
        self._flights: dict[Any, tuple[Any, Shard | None, int]] = {}
        for _ in range(workers):
            self._start_actor()

    def run(self, shards: Sequence[Shard]) -> Iterator[ShardResult]:
        import ray

        waiting = deque((shard, 1) for shard in shards)
        remaining = len(shards)
        while remaining:
            done, _ = ray.wait(list(self._flights), num_returns=1)
            actor, shard, attempt = self._flights.pop(done[0])
            result: ShardResult | None = None
            try:
                result = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:  # only loading raises: a shard's error is its result
                if isinstance(error.cause, RiskFuseError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayActorError as error:
                if shard is not None and attempt >= MAX_ATTEMPTS:
                    result = ShardResult(shard, None, f"its worker died {attempt} times: {error}")
                elif shard is not None:
                    waiting.append((shard, attempt + 1))
                self._replace_actor(error)
                actor = None
            if result is not None:
                remaining -= 1
                yield result
            if actor is not None and waiting:
                following, attempt = waiting.popleft()
                self._flights[actor.score.remote(following)] = (actor, following, attempt)

    def stop(self) -> None:
        import ray

        for actor, _, _ in self._flights.values():
            ray.kill(actor)
        self._flights.clear()

    def _start_actor(self) -> None:
        actor = self._actor_class.remote()
        self._flights[actor.load.remote(self._job)] = (actor, None, 1)

    def _replace_actor(self, error: Exception) -> None:
        if not self._replacements:
            raise StepError(
                f"Ray workers died too often ({error}); often memory is short: use fewer --workers or a smaller "
                "--batch-size. The same command goes on where it stopped"
            )
        print(f"predict: a Ray worker died, starting another one: {error}", file=sys.stderr)
        self._replacements -= 1
        self._start_actor()


class _RayWorker:
    """The actor: loading is a call of its own, so that its error reaches the driver as it is."""

    def load(self, job: ScoringJob) -> None:
        self._worker = ShardWorker(job)

    def score(self, shard: Shard) -> ShardResult:
        return _attempt(self._worker, shard)


def _attempt(worker: ShardWorker, shard: Shard) -> ShardResult:
    try:
        return ShardResult(shard, worker.score(shard))
    except Exception:  # noqa: BLE001 - the shard's boundary: the failure is recorded and exits 1 at the end
        return ShardResult(shard, None, traceback.format_exc())
