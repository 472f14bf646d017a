"""What all benchmarks share: the clock, the device's name and the last line."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["finish", "no_gpu", "processor_name", "timed"]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall-clock seconds and result of one call."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def processor_name() -> str:
    """What the operating system calls the processor."""
    listing = Path("/proc/cpuinfo")  # Linux alone has it
    for line in listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def no_gpu() -> str:
    """Why nothing can be measured on a GPU; empty where there is one."""
    import torch

    return "" if torch.cuda.is_available() else "no GPU on this machine"


def finish(result: dict[str, Any], out: Path | None) -> None:
    """Print the result as one JSON object, the last line, and write it where asked to."""
    line = json.dumps(result)
    if out is not None:
        out.write_text(line + "\n", encoding="utf-8")
    print(line)
