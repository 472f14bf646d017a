"""Locks of PyTorch's compiled extensions that a killed process left behind: everyone who comes later waits for ever.

DeepSpeed compiles small extensions on first use, and PyTorch guards them by a file ``lock`` that exists while one
process is at work. A process that is killed meanwhile leaves it, and no other asks whether its owner is alive.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

__all__ = ["remove_stale_build_locks", "stale_build_locks"]

# Longer than a compilation takes. On a home directory that machines share, another one's process may hold the lock.
AGE_S = 300.0


def remove_stale_build_locks(age_s: float = AGE_S) -> list[Path]:
    """Remove locks that are older than this and that no process of this machine holds open.

    Args:
        age_s: Least age in seconds.

    Returns:
        The files that were removed.
    """
    stale = stale_build_locks(age_s)
    for lock in stale:
        lock.unlink(missing_ok=True)
    return stale


def stale_build_locks(age_s: float = AGE_S) -> list[Path]:
    """Locks that are older than this and that no process of this machine holds open; they stay where they are."""
    found = [lock for lock in _extensions_dir().glob("**/lock") if _age_s(lock) >= age_s]
    held = _open_files() if found else set()
    return [lock for lock in found if lock.resolve() not in held]


def _extensions_dir() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(cache) / "torch_extensions")


def _age_s(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):  # released meanwhile
        return time.time() - path.stat().st_mtime
    return 0.0


def _open_files() -> set[Path]:
    held: set[Path] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone meanwhile, or another user's
            held |= {Path(file.path).resolve() for file in process.open_files()}
    return held
