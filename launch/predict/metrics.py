"""How far a prediction run is, as a file that Prometheus reads (node exporter's textfile collector)."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from dataset_builders.stores import Location
from launch.predict.parts import ShardScores

__all__ = ["MetricsFile"]

_INTERVAL_S = 1.0


class MetricsFile:
    """Context manager that keeps a file of metrics up to date, at most once a second; does nothing without a path.

    Gauges with the labels ``stage`` and ``out``: ``riskfuse_predict_photos``, ``…_photos_done``, ``…_photos_failed``,
    ``…_shards_failed``, ``…_worker_deaths``, ``…_running`` (1 until the run ends, whatever its end) and
    ``…_updated_seconds`` (Unix time; a file that grows old tells of a driver that was killed).
    """

    def __init__(self, path: Path | None, *, stage: str, out: Location, photos: int, already: int) -> None:
        self._path = path
        self._written_s = 0.0
        if path is None:
            return
        from prometheus_client import CollectorRegistry, Gauge

        self._registry = CollectorRegistry()

        def gauge(name: str, meaning: str, value: float = 0.0) -> Gauge:
            found = Gauge(f"riskfuse_predict_{name}", meaning, ["stage", "out"], registry=self._registry)
            found = found.labels(stage, str(out))
            found.set(value)
            return found

        self._done = gauge("photos_done", "Photos in part files", already)
        self._failed = gauge("photos_failed", "Photos that were found unreadable or not to be scored in this run")
        self._failed_shards = gauge("shards_failed", "Shards that the same command has to try again")
        self._deaths = gauge("worker_deaths", "Ray workers that died in this run")
        self._running = gauge("running", "1 while the run goes on", 1)
        self._updated = gauge("updated_seconds", "Unix time of the last change")
        gauge("photos", "Photos of the run", photos)

    def __enter__(self) -> MetricsFile:
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None:
            self._running.set(0)
            self._write()

    def count_shard(self, photos: int, scores: ShardScores | None) -> None:
        """Count a finished shard; None where it failed."""
        if self._path is None:
            return
        if scores is None:
            self._failed_shards.inc()
        else:
            self._done.inc(photos)
            self._failed.inc(sum(bool(error) for error in scores.errors))
        if time.monotonic() - self._written_s >= _INTERVAL_S:
            self._write()

    def count_death(self) -> None:
        """Count a dead worker."""
        if self._path is not None:
            self._deaths.inc()
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        from prometheus_client import write_to_textfile

        self._updated.set(time.time())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(self._path), self._registry)  # atomic
        self._written_s = time.monotonic()
