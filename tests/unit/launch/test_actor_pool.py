"""What happens to a shard whose workers die or raise: real Ray actors, and a scorer that needs no model."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from dataset_builders.errors import StepError, StoreError
from launch.predict import actor_pool
from launch.predict.actor_pool import POISON, ActorPool
from launch.predict.model import ModelSpec
from launch.predict.parts import ShardScores
from launch.predict.rows import PhotoRow, Shard
from launch.predict.worker import ScoringJob, ShardResult, ShardWorker


def shards_of(*lists: str) -> list[Shard]:
    return [
        Shard(index, tuple(PhotoRow(name, name, "") for name in names.split())) for index, names in enumerate(lists)
    ]


def scores_of(shard: Shard) -> ShardScores:
    """Every photo says how many photos were scored with it."""
    alive = sum(not row.problem for row in shard.rows)
    logp = np.array([[np.nan if row.problem else -float(alive)] for row in shard.rows])
    return ShardScores(logp, np.zeros(len(logp)), tuple(row.problem for row in shard.rows))


class Raising(ShardWorker):
    """Fails where a batch holds a photo of that name."""

    def __init__(self, error: type[Exception] = ZeroDivisionError) -> None:
        self.error = error

    def score(self, shard: Shard) -> ShardScores:
        if any("bad" in row.sample_id and not row.problem for row in shard.rows):
            raise self.error("no such number")
        if "cursed" in shard.rows[0].sample_id and len(shard.rows) > 1:
            raise self.error("not together")
        return scores_of(shard)


def test_photo_that_raises_alone_is_a_failed_row():
    shard = shards_of("a bad1 b bad2 c")[0]
    result = Raising().attempt(shard)
    assert result.scores is not None
    expected = "cannot be scored: ZeroDivisionError: no such number"
    assert result.scores.errors == ("", expected, "", expected, "")
    np.testing.assert_equal(result.scores.logp_RK[:, 0], [-3, np.nan, -3, np.nan, -3])


def test_shard_fails_when_every_photo_does_or_none_does_alone():
    for names in ("bad1 bad2", "bad", "cursed a b"):
        result = Raising().attempt(shards_of(names)[0])
        assert result.scores is None
        assert "ZeroDivisionError" in result.error
    result = Raising().attempt(shards_of("cursed bad a")[0])
    assert result.scores is None
    assert "without the photos that fail alone" in result.error


def test_broken_gpu_is_no_photos_fault():
    import torch

    with pytest.raises(torch.AcceleratorError):
        Raising(torch.AcceleratorError).attempt(shards_of("a bad b")[0])


@pytest.fixture
def job() -> ScoringJob:
    spec = ModelSpec(model="", adapter=None, preprocessing={}, device="cpu", dtype="float32", threads=1)
    return ScoringJob(spec=spec, prompt=None, answers=(), batch_size=4)


@pytest.mark.parametrize("call", [3, 4])
def test_outage_while_photos_are_tried_alone_is_no_photos_fault(monkeypatch, call):
    """The third call tries the second photo alone, the last one is for those that are left."""
    worker, calls = Raising(), []

    def score(shard: Shard) -> ShardScores:
        calls.append(shard)
        if len(calls) == call:
            raise StoreError("s3://photos/a: not reached")
        return Raising.score(worker, shard)

    monkeypatch.setattr(worker, "score", score)
    with pytest.raises(StoreError):
        worker.attempt(shards_of("bad a")[0])


@pytest.mark.parametrize("name", ["OutOfMemoryError", "NodeDiedError", "WorkerCrashedError", "LocalRayletDiedError"])
def test_worker_that_ray_ended_is_replaced_like_a_dead_one(job, monkeypatch, name):
    import ray

    errors = [getattr(ray.exceptions, name)("the node is running low on memory")]

    class Method:
        def __init__(self, answer: Callable[[Shard], ShardResult | None]) -> None:
            self.answer = answer

        def remote(self, *args: object) -> partial:
            return partial(self.answer, args[0])

    class Actor:
        load, score = Method(lambda _job: None), Method(lambda shard: ShardResult(shard, scores_of(shard)))
        options = remote = classmethod(lambda cls, **_: cls)

    def get(task: partial) -> ShardResult | None:
        if isinstance(task.args[0], Shard) and errors:
            raise errors.pop()
        return task()

    monkeypatch.setattr(ray, "remote", lambda _class: Actor)
    monkeypatch.setattr(ray, "wait", lambda tasks, **_: (tasks[:1], tasks[1:]))
    monkeypatch.setattr(ray, "kill", lambda _actor: None)
    monkeypatch.setattr(ray, "get", get)
    deaths: list[int] = []
    pool = ActorPool(job, workers=1, on_death=lambda: deaths.append(1))
    (result,) = pool.run(shards_of("a b"))
    assert (result.scores.errors, len(deaths)) == (("", ""), 1)


@pytest.fixture
def ray_workers(monkeypatch, tmp_path):
    """Actors that exit on photos called kill…, but once on kill-once…, raise on lost…, and take notes."""
    import ray

    notes = tmp_path / "notes"
    notes.mkdir()
    this_module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(this_module)  # Ray's processes do not find test modules

    class Worker:
        def load(self, job: ScoringJob, versions: dict[str, str]) -> None:
            pass

        def score(self, shard: Shard) -> ShardResult:
            names = [row.sample_id for row in shard.rows if not row.problem]
            with (notes / f"{os.getpid()}").open("a", encoding="utf-8") as file:
                file.write(" ".join(names) + "\n")
            for name in names:
                if name.startswith("lost"):
                    raise RuntimeError("context lost")
                if name.startswith("kill-once") and not (notes / name).exists():
                    (notes / name).touch()
                    os._exit(1)
                if name.startswith("kill") and not name.startswith("kill-once"):
                    os._exit(1)
            return ShardResult(shard, scores_of(shard))

    monkeypatch.setattr(actor_pool, "_RayWorker", Worker)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 << 20)
    yield lambda: Counter(line for path in notes.iterdir() for line in path.read_text(encoding="utf-8").splitlines())
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(this_module)


@pytest.mark.slow
def test_photos_that_kill_are_found_and_the_rest_is_scored(job, ray_workers, capsys):
    shards = shards_of("a b c", "d kill-once e", "f kill1 g kill2", "h lost i", "j k")
    deaths: list[int] = []
    pool = ActorPool(job, workers=2, on_death=lambda: deaths.append(1))
    results = {result.shard.index: result for result in pool.run(shards)}
    pool.stop()
    assert [results[index].shard for index in range(5)] == shards  # as they were asked for
    errors = [results[index].scores.errors for index in range(5)]
    assert errors == [("",) * 3, ("",) * 3, ("", POISON, "", POISON), ("", POISON, ""), ("",) * 2]
    np.testing.assert_equal(results[2].scores.logp_RK[:, 0], [-2, np.nan, -2, np.nan])
    tried = ray_workers()
    assert tried["a b c"] == tried["j k"] == 1  # what was finished is not done again
    assert tried["d kill-once e"] == 2
    assert tried["f kill1 g kill2"] == tried["kill1"] == tried["kill2"] == 2
    assert len(deaths) == 1 + 2 + 2 * 2 + 2 + 2  # once; the shards of kill1 and of lost, then their photos alone
    assert "starting another one" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_that_only_die_end_the_run(job, ray_workers):
    pool = ActorPool(job, workers=1)
    with pytest.raises(StepError, match=r"4 Ray workers died one after the other.*same command goes on"):
        list(pool.run(shards_of("kill1 kill2 kill3")))
    pool.stop()
