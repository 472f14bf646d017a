"""Cores, memory, shared memory, disks and open files: what processes of a training and a prediction share."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

from launch.doctor.result import GIB, Result, error, note, ok, warning

__all__ = [
    "check_cores",
    "check_disks",
    "check_memory",
    "check_open_files",
    "check_shared_memory",
    "hub_cache",
    "usable_memory",
]

NEEDED_GIB = 4.0  # the headers of recipes/tiny
WANTED_GIB = 8.0  # recipes/tiny/pipeline.yaml: two training processes, then two Ray actors
SHARED_GIB = 1.0
FREE_GIB = 1.0
WEIGHTS_GIB = 25.0  # Qwen2.5-VL 7B and 3B in bf16
OPEN_FILES = 1024
RAY_FULL = 0.95  # Ray puts nothing on a disk that is fuller (local_fs_capacity_threshold)
_CGROUP = Path("/sys/fs/cgroup")


def check_cores(cores: int | None = None, quota: float | None = None) -> Result:
    """Cores of this process.

    Args:
        cores: Cores that the system shows; None: measure them and the quota.
        quota: Cores that a container may use, by its time quota; None: no quota.
    """
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        quota = _cpu_quota()
    if quota is not None and quota < cores:
        problem = (
            f"a container's quota of {quota:g} of {cores} cores: a thread a core is started, and they wait in turns"
        )
        remedy = f"Set OMP_NUM_THREADS={max(1, int(quota))}, and not more --workers than that."
        return warning("cores", f"{cores}, quota {quota:g}", problem, remedy)
    return ok("cores", str(cores))


def _cpu_quota() -> float | None:
    """Cores that a container's time quota allows (cgroup v2, then v1); None: no quota."""
    with contextlib.suppress(OSError, ValueError):  # no such file: another version or system; "max": no quota
        allowed, period = (_CGROUP / "cpu.max").read_text().split()
        return int(allowed) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota = int((_CGROUP / "cpu/cpu.cfs_quota_us").read_text())
        return quota / int((_CGROUP / "cpu/cpu.cfs_period_us").read_text()) if quota > 0 else None
    return None


def usable_memory() -> tuple[int, int]:
    """Bytes that this process's machine or container has, and how many are free now."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such file: another system; "max": no limit
            allowed = int((_CGROUP / limit).read_text())
            if allowed < total:
                total, free = allowed, min(free, allowed - int((_CGROUP / used).read_text()))
    return total, max(0, free)


def check_memory(total: int, free: int) -> Result:
    """Is there enough memory, in bytes, for the CPU twins?"""
    found = f"{total / GIB:.1f} GiB, {free / GIB:.1f} free"
    if total < NEEDED_GIB * GIB:
        problem = f"a tiny training takes {NEEDED_GIB:g} GiB; the system would kill it"
        return error("memory", found, problem, "Take a machine, or a container's limit, with more.")
    if free < NEEDED_GIB * GIB:
        problem = f"a tiny training takes {NEEDED_GIB:g} GiB, and other processes hold the rest"
        return warning("memory", found, problem, "End what is not needed.")
    if total < WANTED_GIB * GIB:
        problem = f"pipelines with two processes take up to {WANTED_GIB:g} GiB"
        remedy = "Set training.processes and inference.workers to 1 in the pipeline."
        return warning("memory", found, problem, remedy)
    return ok("memory", found)


def check_shared_memory(total: int | None, gpus: int) -> Result:
    """Does ``/dev/shm`` hold what processes pass to each other?

    Args:
        total: Its size in bytes; None where there is none.
        gpus: GPUs of this machine.
    """
    if total is None:
        return note("shared memory", "no /dev/shm", "Ray keeps its objects in files")
    size = f"{total / GIB:.1f} GiB" if total >= GIB else f"{total >> 20} MiB"
    found = f"{size} in /dev/shm"
    if total >= SHARED_GIB * GIB:
        return ok("shared memory", found)
    problem = (
        "workers that load photos, NCCL between GPUs and Ray pass data there; they die with a bus error when it is full"
    )
    remedy = "Start the container with `--shm-size=8g` or `--ipc=host`; or set dataloader_num_workers: 0."
    return (error if gpus else warning)("shared memory", found, problem, remedy)


def hub_cache() -> Path:
    """Where models of the hub are kept, by the rules of huggingface_hub."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def check_disks(gpus: int, places: Mapping[str, Path] | None = None) -> list[Result]:
    """Room and right to write where results, models and temporary files go.

    Args:
        gpus: GPUs of this machine; only they make the hub's models useful.
        places: Directory by what it is for; None: those of the current directory and this user.
    """
    if places is None:
        places = {name: Path(name) for name in ("data", "saves", "predictions", "runs")}
        places |= {"hub cache": hub_cache(), "temporary": Path(tempfile.gettempdir())}
    rows: dict[tuple[int, bool], list[str]] = {}
    where: dict[tuple[int, bool], Path] = {}
    for name, place in places.items():
        there = next(parent for parent in (place.absolute(), *place.absolute().parents) if parent.exists())
        key = (there.stat().st_dev, os.access(there, os.W_OK))
        rows.setdefault(key, []).append(name)
        where.setdefault(key, there)
    return [_disk(where[key], names, key[1], gpus) for key, names in rows.items()]


def _disk(there: Path, names: list[str], writable: bool, gpus: int) -> Result:
    usage = shutil.disk_usage(there)
    title, found = "disk", f"{usage.free / GIB:.1f} GiB free for {', '.join(names)} ({there})"
    if not writable:
        remedy = "Start in a directory of your own; HF_HOME and TMPDIR move the hub cache and temporary files."
        return error(title, found, "it may not be written to", remedy)
    if usage.free < FREE_GIB * GIB:
        problem = f"less than {FREE_GIB:g} GiB: checkpoints or photos would be cut off"
        return error(title, found, problem, "Make room, or start in a directory on another disk.")
    if "temporary" in names and usage.used > RAY_FULL * usage.total:
        problem = f"Ray puts nothing on a disk that is over {RAY_FULL:.0%} full"
        return warning(title, found, problem, "Make room, or set RAY_TMPDIR to a directory on another disk.")
    if gpus and "hub cache" in names and usage.free < WEIGHTS_GIB * GIB:
        problem = f"the weights of Qwen2.5-VL 7B and 3B take {WEIGHTS_GIB:g} GiB, unless they are there already"
        return warning(title, found, problem, "Set HF_HOME to a directory on a larger disk.")
    return ok(title, found)


def check_open_files(soft: int | None = None, hard: int | None = None) -> Result:
    """Open files that a process may have (``ulimit -n``)."""
    if soft is None or hard is None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    if unlimited or soft >= OPEN_FILES:
        return ok("open files", "no limit" if unlimited else f"{soft} a process")
    problem = f"Ray's processes and the workers that load photos need {OPEN_FILES}, and several GPUs more"
    top = 65536 if hard == resource.RLIM_INFINITY else hard
    remedy = f"Run `ulimit -n {top}` first." if top > soft else "Have the hard limit raised."
    return warning("open files", f"{soft} a process", problem, remedy)
