"""Ray actors that score shards, and what happens when one dies.

An actor may die because its node went away, because memory ran out, or because one photo makes a library crash. What it
had in hand is given to another one. A shard that two actors died on is cut into single photos, which are spread over
the actors: a photo that two more actors die on, alone, becomes a failed row, and the rest of its shard is scored as if
that photo could not be read.
"""

from __future__ import annotations

import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dataset_builders.errors import ConfigError, RiskFuseError, StepError
from launch.predict.fingerprint import differences, library_versions
from launch.predict.rows import Shard
from launch.predict.worker import ScoringJob, ShardResult, ShardWorker

__all__ = ["ActorPool"]

SUSPICIOUS_DEATHS = 2  # one may be anybody's fault; a second actor that dies on the same piece makes it the piece's
DEATHS_PER_WORKER = 3  # in a row, without any piece finished between them
PATIENCE_S = 60.0
REASON_LENGTH = 160
POISON = "its worker died twice with nothing but this photo in hand"
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "LLAMAFACTORY_VERBOSITY": "ERROR"}


@dataclass
class _Piece:
    """What an actor scores at a time: a shard, or one photo of a suspicious shard."""

    shard: Shard
    of: _Suspect | None = None  # the shard that this photo is from
    deaths: int = 0


@dataclass
class _Suspect:
    """A shard that actors died on, while its photos are tried alone."""

    shard: Shard
    untried: int
    poison: set[str] = field(default_factory=set)  # sample ids

    def without_poison(self) -> Shard:
        rows = (replace(row, problem=POISON) if row.sample_id in self.poison else row for row in self.shard.rows)
        return replace(self.shard, rows=tuple(rows))


class ActorPool:
    """Actors, what each has in hand, and what waits."""

    def __init__(self, job: ScoringJob, workers: int, on_death: Callable[[], None] = lambda: None) -> None:
        import ray

        environment = {"env_vars": {**_ENVIRONMENT, "OMP_NUM_THREADS": str(job.spec.threads)}}
        gpus = 1 if job.spec.device == "cuda" else 0
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0, "runtime_env": environment}
        self._actor_class: Any = ray.remote(_RayWorker).options(**options)
        self._job = job
        self._on_death = on_death
        self._deaths_allowed = DEATHS_PER_WORKER * workers
        self._deaths = 0  # since a piece was finished
        # Reference of the task in flight -> (actor, its piece or None while it loads the model).
        self._flights: dict[Any, tuple[Any, _Piece | None]] = {}
        self._waiting: deque[_Piece] = deque()
        for _ in range(workers):
            self._start_actor()

    def run(self, shards: Sequence[Shard]) -> Iterator[ShardResult]:
        """Score all shards; results come in the order in which they finish.

        Raises:
            RiskFuseError: The model cannot be loaded, a node has other versions than this one, or the photos' store
                does not answer.
            StepError: Actors died again and again, and nothing was finished meanwhile.
        """
        originals = {shard.index: shard for shard in shards}
        self._waiting.extend(_Piece(shard) for shard in shards)
        remaining = len(shards)
        while remaining:
            actor, piece, outcome = self._landed()
            result: ShardResult | None
            if isinstance(outcome, Exception):
                self._replace_actor(actor, outcome)
                actor, result = None, self._after_death(piece, outcome) if piece else None
            else:
                result = self._after_answer(piece, outcome) if piece else None
            if actor is not None and self._waiting:  # before the result is written: no worker waits for a disk
                following = self._waiting.popleft()
                self._flights[actor.score.remote(following.shard)] = (actor, following)
            if result is not None:
                remaining -= 1
                # The list's own rows: a part file says which photos were asked for, whatever became of them.
                yield replace(result, shard=originals[result.shard.index])

    def stop(self) -> None:
        """End all actors."""
        import ray

        for actor, _ in self._flights.values():
            ray.kill(actor)
        self._flights.clear()

    def _landed(self) -> tuple[Any, _Piece | None, Any]:
        """The next task that ends: its actor, its piece, and its result or the exception that tells of a death."""
        import ray

        while not (done := ray.wait(list(self._flights), num_returns=1, timeout=PATIENCE_S)[0]):
            if loading := sum(piece is None for _, piece in self._flights.values()):
                print(f"predict: {loading} workers load the model or wait for a place in the cluster", file=sys.stderr)
        actor, piece = self._flights.pop(done[0])
        try:
            return actor, piece, ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, RiskFuseError):
                raise error.cause from None
            if piece is not None:  # a shard's error is its result; what is raised left the actor unusable
                return actor, piece, error
            raise
        except _deaths() as error:
            return actor, piece, error

    def _after_answer(self, piece: _Piece, result: ShardResult) -> ShardResult | None:
        """The shard's result, unless the piece was a photo alone."""
        self._deaths = 0
        if piece.of is None:
            return result
        self._tried(piece.of)
        return None

    def _after_death(self, piece: _Piece, error: Exception) -> ShardResult | None:
        """What is known now of the piece's shard: its failure, or None as long as something is left to try."""
        piece.deaths += 1
        if piece.deaths < SUSPICIOUS_DEATHS:
            self._waiting.append(piece)
        elif piece.of is not None:
            piece.of.poison.update(row.sample_id for row in piece.shard.rows)
            self._tried(piece.of)
        elif piece.deaths == SUSPICIOUS_DEATHS:
            suspect = _Suspect(piece.shard, untried=len(piece.shard.rows))
            alone = (replace(piece.shard, rows=(row,)) for row in piece.shard.rows)
            self._waiting.extend(_Piece(shard, of=suspect) for shard in alone)
        else:
            return ShardResult(piece.shard, None, f"its worker died {piece.deaths} times: {_reason(error)}")
        return None

    def _tried(self, suspect: _Suspect) -> None:
        """One photo less to try alone; after the last one, the shard is scored without those that kill."""
        suspect.untried -= 1
        if suspect.untried:
            return
        # Once more and no further: without a photo to blame, it is the shard as a whole that kills.
        self._waiting.append(_Piece(suspect.without_poison(), deaths=SUSPICIOUS_DEATHS))

    def _start_actor(self) -> None:
        actor = self._actor_class.remote()
        self._flights[actor.load.remote(self._job, library_versions())] = (actor, None)

    def _replace_actor(self, actor: Any, error: Exception) -> None:
        import ray

        ray.kill(actor)  # it may be unreachable and not dead
        self._on_death()
        self._deaths += 1
        if self._deaths > self._deaths_allowed:
            raise StepError(
                f"{self._deaths} Ray workers died one after the other ({_reason(error)}); often memory is short: use "
                "fewer --workers or a smaller --batch-size. The same command goes on where it stopped"
            )
        print(f"predict: a Ray worker died, starting another one: {_reason(error)}", file=sys.stderr)
        self._start_actor()


def _deaths() -> tuple[type[Exception], ...]:
    """What Ray raises when an actor or its node is gone; its memory monitor's and the nodes' are no RayActorError."""
    from ray import exceptions as ray

    gone = (ray.RayActorError, ray.ObjectLostError, ray.OutOfMemoryError, ray.WorkerCrashedError)
    return (*gone, ray.NodeDiedError, ray.LocalRayletDiedError)


def _reason(error: Exception) -> str:
    """Ray's last line holds how the process ended; the ones before name identifiers that nobody knows."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:REASON_LENGTH]


class _RayWorker:
    """The actor: loading is a call of its own, so that its error reaches the driver as it is."""

    def load(self, job: ScoringJob, versions: dict[str, str]) -> None:
        if (here := library_versions()) != versions:
            raise ConfigError(
                f"node {socket.gethostname()} has other versions: {differences(versions, here)}; parts of one run must "
                "be alike, so install the same lock file on all nodes"
            )
        self._worker = ShardWorker(job)

    def score(self, shard: Shard) -> ShardResult:
        return self._worker.attempt(shard)
