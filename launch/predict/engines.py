"""Distributes shards: a loop in this process, or Ray actors. Both give the same scores for the same shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dataset_builders.errors import ConfigError
from launch.predict.actor_pool import ActorPool
from launch.predict.rows import Shard
from launch.predict.worker import ScoringJob, ShardResult, ShardWorker
from launch.ray_cluster import ray_cluster

__all__ = ["score_locally", "score_on_ray"]


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
        address: A running cluster, whose nodes need RiskFuse and the same file paths, or URIs; a private one otherwise.
        on_death: Called when an actor has died.

    Raises:
        ConfigError: Nobody answers at the address, or there is none and Ray finds no GPU here that the job needs.
        RiskFuseError: The model cannot be loaded, a node has other versions, or the photos' store does not answer.
        StepError: Actors died again and again, and no shard was finished meanwhile.
    """
    with ray_cluster(address, cpus=workers):
        if job.spec.device == "cuda" and address is None:
            _check_gpus()
        pool = ActorPool(job, workers=min(workers, len(shards)), on_death=on_death)
        try:
            yield from pool.run(shards)
        finally:
            pool.stop()


def _check_gpus() -> None:
    """A cluster of others may grow, this machine will not: actors would wait for a GPU for ever."""
    import ray

    if not ray.cluster_resources().get("GPU"):
        raise ConfigError(
            "--device cuda: Ray finds no GPU on this machine (is CUDA_VISIBLE_DEVICES empty?); use --device cpu, "
            "--address of a cluster that has some, or --engine local"
        )
