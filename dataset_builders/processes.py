"""Work over many items in several processes, in order and with bounded memory."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from dataset_builders.errors import DataError

__all__ = ["map_in_processes"]

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 4  # chunks a worker that wait or are being worked on; more would only cost memory


def map_in_processes(
    work: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int, chunk: int, remedy: str
) -> Iterator[Result]:
    """Apply a function to every job.

    Args:
        work: A module's function; it and the jobs travel to other processes.
        jobs: Taken a few chunks ahead of the results, so they may be more than fit into memory.
        workers: Number of processes. 1 works in this process. The results are the same for any number.
        chunk: Jobs that a worker fetches at once.
        remedy: What a user can do when a process dies, for the message.

    Returns:
        The results, in the order of the jobs.

    Raises:
        DataError: A process died.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    # spawn: a fork of a process with threads (progress bar, Arrow) can deadlock.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    source = iter(jobs)
    waiting: deque[Future[list[Result]]] = deque()
    try:
        while True:
            while len(waiting) < workers * _AHEAD and (batch := list(islice(source, chunk))):
                with _interrupts_held():
                    waiting.append(pool.submit(_work_all, work, batch))
            if not waiting:
                return
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(f"a worker process died, most likely for want of memory; {remedy}") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start meanwhile never see Ctrl-C, which a terminal sends to all; this one sees it afterwards.

    It alone decides: the workers finish what they are at, and no half of them writes a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work_all(work: Callable[[Job], Result], batch: list[Job]) -> list[Result]:
    return [work(job) for job in batch]
