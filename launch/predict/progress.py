"""Photos done, rate and time left on stderr: a bar on a terminal, a line every few seconds otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType

__all__ = ["PhotoProgress"]

LINE_INTERVAL_S = 5.0


class PhotoProgress:
    """Context manager that counts photos. The clock of the rate starts with the first photos, not with loading."""

    def __init__(self, total: int, already: int, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._total, self._done, self._title = total, already, title
        self._new = 0
        self._first_s: float | None = None
        self._first_new = 0
        self._last_line_s = 0.0
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(title, total=total, completed=already, rate="loading the model")

    def __enter__(self) -> PhotoProgress:
        if self._bar is not None:
            self._bar.start()
        else:
            print(f"{self._title}: {self._done} of {self._total} photos are there, loading the model", file=sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, photos: int) -> None:
        """Count the photos of a finished shard."""
        now = time.monotonic()
        self._done += photos
        self._new += photos
        if self._first_s is None:
            self._first_s, self._first_new = now, self._new
        elapsed_s = now - self._first_s
        rate = (self._new - self._first_new) / elapsed_s if elapsed_s > 0 else 0.0
        text = f"{rate:.1f} photos/s" if rate else ""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=text)
        elif now - self._last_line_s >= LINE_INTERVAL_S or self._done == self._total:
            left = f", {(self._total - self._done) / rate:.0f} s left" if rate and self._done < self._total else ""
            rated = f", {text}" if text else ""
            print(f"{self._title}: {self._done}/{self._total} photos{rated}{left}", file=sys.stderr, flush=True)
            self._last_line_s = now
