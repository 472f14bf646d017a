"""Progress on stderr: a bar on a terminal, a line now and then otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["track"]

Item = TypeVar("Item")
LINE_INTERVAL_S = 10.0


def track(items: Iterable[Item], *, total: int, title: str) -> Iterator[Item]:
    """Pass items through and show on stderr how many came."""
    if sys.stderr.isatty():
        return _bar(items, total=total, title=title)
    return _lines(items, total=total, title=title)


def _bar(items: Iterable[Item], *, total: int, title: str) -> Iterator[Item]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[Item], *, total: int, title: str) -> Iterator[Item]:
    started = time.monotonic()
    first = last = 0.0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == 1:  # what came before was the start of the workers, which says nothing about the rate
            first = last = now
        elif now - last >= LINE_INTERVAL_S and done < total:
            rate = (done - 1) / (now - first)
            print(f"{title}: {done}/{total}, {rate:.0f}/s, {(total - done) / rate:.0f} s left", file=sys.stderr)
            last = now
    print(f"{title}: {total} in {time.monotonic() - started:.1f} s", file=sys.stderr)
