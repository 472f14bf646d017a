"""Runs a command until it ends, or until standard input is closed: then it and all of its process group are ended.

The other end of standard input is a pipe that the caller holds and never writes to. The operating system closes it
whenever the caller ends, killed by SIGKILL too, so that a server never outlives it.

    python launch/predict/vllm/leash.py COMMAND …

It must be the first process of its own session, since it ends the whole group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

__all__ = ["PATIENCE_S", "run_leashed"]

PATIENCE_S = 20.0  # vLLM ends its engine in order


def run_leashed(command: Sequence[str]) -> int:
    """Run the command; its exit status, 128 + the signal's number when it was killed."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # what is sent to the group; the command gets it, this one goes on
    process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_at_close, args=(process,), daemon=True).start()
    status = process.wait()
    os.killpg(0, signal.SIGTERM)  # children that the command left behind
    return status if status >= 0 else 128 - status


def _end_at_close(process: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.killpg(0, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)
    os.killpg(0, signal.SIGKILL)  # whatever is left of the group, this process last of all


if __name__ == "__main__":
    sys.exit(run_leashed(sys.argv[1:]))
