"""Child processes of a pipeline: started with a tag, logged, and ended with all that they started.

torchrun and Ray put their workers into sessions of their own: a signal to the process group does not reach them,
and a killed pipeline leaves them running. Every child therefore carries the pipeline's run directory in its
environment, which its children inherit, and is found by that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType

import psutil

from dataset_builders.errors import StepError
from launch.pipeline.step import Command

__all__ = ["TAG", "alone", "alone_in", "end_tagged", "ended_by_signals", "log_tail", "run_logged"]

TAG = "RISKFUSE_RUN"
_POLL_S = 0.2


def run_logged(command: Command, log: Path, tag: str, tick: Callable[[], None]) -> int:
    """Run a process with its output appended to a log file.

    Args:
        command: What to run.
        log: Receives standard output and standard error.
        tag: Identifies this pipeline's processes.
        tick: Called a few times a second while the process runs.

    Returns:
        The exit status.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | command.environment | {TAG: tag}
    with log.open("ab") as file:
        file.write(f"$ {command.shown}\n".encode())
        file.flush()
        process = subprocess.Popen(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the pipeline alone, which then ends everything in order
        )
        try:
            while True:
                try:
                    return process.wait(timeout=_POLL_S)
                except subprocess.TimeoutExpired:
                    tick()
        finally:
            end_tagged(tag)


def end_tagged(tag: str, patience_s: float = 10.0) -> int:
    """End all processes that carry the tag, but this one and its ancestors.

    Args:
        tag: As given to ``run_logged``.
        patience_s: How long they may take to end by themselves.

    Returns:
        Number of processes that were found.
    """
    found = _tagged(tag)
    count = len(found)
    deadline = time.monotonic() + patience_s
    for process in found:
        _signal(process.terminate)
    while found and time.monotonic() < deadline:
        psutil.wait_procs(found, timeout=_POLL_S)
        found = _tagged(tag)
    for process in found:
        _signal(process.kill)
    psutil.wait_procs(found, timeout=patience_s)
    return count


@contextlib.contextmanager
def alone(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file within the block; the kernel releases it when the process ends in whatever way.

    Raises:
        StepError: Another process holds it; the message is ``refusal``.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StepError(refusal) from None
        except OSError:
            pass  # a file system without locks, as some that machines share: rather no guard than no work
        yield


def alone_in(runs: Path) -> AbstractContextManager[None]:
    """``alone`` for a pipeline's run directory, which must exist; errors as there."""
    return alone(
        runs / "lock", f"another riskfuse run works in {runs}; wait for it, end it, or give this pipeline another name"
    )


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let a polite kill and a terminal that is gone end the block as Ctrl-C does, so that it ends its children too."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]  # nohup ignores SIGHUP
    for number in heard:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile, as wanted
        send()


def _tagged(tag: str) -> list[psutil.Process]:
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid in own or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(TAG) == tag:
                found.append(process)
        except psutil.Error:
            continue  # gone meanwhile, or another user's
    return found


def log_tail(log: Path, lines: int = 25, size: int = 16384) -> list[str]:
    """The last non-empty lines of a log; a progress bar counts as its last state."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    rows = [row.rstrip().rsplit("\r", 1)[-1] for row in text.split("\n")]
    return [row for row in rows if row.strip()][-lines:]
