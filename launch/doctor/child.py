"""Runs what may break, hang or take seconds to load in a process of its own, and tells how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

__all__ = ["ask_child"]


def ask_child(words: list[str], *, timeout_s: float, environment: dict[str, str] | None = None) -> tuple[Any, str]:
    """Run this Python with these arguments.

    Args:
        words: Arguments of the interpreter. The last line on standard output is one JSON value.
        timeout_s: After which the process is ended.
        environment: Variables beside the caller's own.

    Returns:
        The value and an empty text; or None and how it failed: the last line that it wrote, its signal, or the time.
    """
    try:
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=os.environ | (environment or {}),
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {timeout_s:g} seconds"
    lines = done.stdout.strip().splitlines()
    if lines:
        try:
            return json.loads(lines[-1]), ""
        except json.JSONDecodeError:
            pass  # it ended before it could answer
    if done.returncode < 0:
        return None, f"ended by signal {-done.returncode}"
    said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
    return None, said[-1]
