"""What a person sees while a step runs: one line that is rewritten on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType

from launch.pipeline.processes import log_tail
from launch.pipeline.step import Step

__all__ = ["StepConsole", "format_seconds"]

_TERMINAL_EVERY_S = 1.0
_FILE_EVERY_S = 30.0
_WIDTH = 110


def format_seconds(seconds: float) -> str:
    """A duration for people: ``8.2 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class StepConsole:
    """Shows the progress of one step; a context manager.

    Args:
        step: The step; its ``progress`` is shown, or else the last line of its log.
        log: The step's log.
    """

    def __init__(self, step: Step, log: Path) -> None:
        self._step = step
        self._log = log
        self._terminal = sys.stdout.isatty()
        self._started = time.monotonic()
        self._shown = self._started

    def __enter__(self) -> StepConsole:
        return self

    def tick(self) -> None:
        """Show a new line when it is time for one."""
        now = time.monotonic()
        if now - self._shown < (_TERMINAL_EVERY_S if self._terminal else _FILE_EVERY_S):
            return
        self._shown = now
        line = f"  {format_seconds(now - self._started)}  {self._latest()}"[:_WIDTH]
        print(f"\r\033[K{line}" if self._terminal else line, end="" if self._terminal else "\n", flush=True)

    def _latest(self) -> str:
        if line := self._step.progress():
            return line
        return next(iter(log_tail(self._log, lines=1, size=4096)), "")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            print("\r\033[K", end="")
        if kind is None:
            print(f"  {format_seconds(time.monotonic() - self._started)}", flush=True)
        elif issubclass(kind, KeyboardInterrupt):
            print(f"  interrupted after {format_seconds(time.monotonic() - self._started)}", flush=True)
