"""The order in which the doctor looks at things."""

from __future__ import annotations

import shutil
from pathlib import Path

from launch.doctor.accelerator import check_imports, check_optional, find_gpus
from launch.doctor.machine import (
    check_cores,
    check_disks,
    check_memory,
    check_open_files,
    check_shared_memory,
    usable_memory,
)
from launch.doctor.network import check_hub, check_loopback, check_port, check_ray_directory, start_ray
from launch.doctor.packages import check_builds, check_packages, check_python, installed_versions
from launch.doctor.recipe import check_recipe_here
from launch.doctor.result import Result
from launch.doctor.tools import check_build_locks, check_commands, check_compiler
from launch.recipe import load_recipe

__all__ = ["diagnose"]

_HUB_MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"  # recipes/base.yaml
_SHARED = Path("/dev/shm")


def diagnose(
    *, recipe: Path | None = None, task: Path | None = None, deep: bool = False, online: bool = False
) -> list[Result]:
    """Look at everything.

    Args:
        recipe: Training recipe that shall run on this machine.
        task: Task card of the recipe.
        deep: Also import the large libraries and start Ray, which takes a minute.
        online: Also ask the hub for the recipe's model.

    Raises:
        ConfigError: The recipe cannot be read.
    """
    loaded = load_recipe(recipe) if recipe is not None else None
    gpus, gpu_rows = find_gpus()
    total, free = usable_memory()
    shared = shutil.disk_usage(_SHARED).total if _SHARED.is_dir() else None
    rows = [
        check_python(),
        *check_packages(),
        check_builds(),
        *gpu_rows,
        check_optional(installed_versions()),
        check_cores(),
        check_memory(total, free),
        check_shared_memory(shared, gpus.count),
        *check_disks(gpus.count),
        check_open_files(),
        check_commands(),
        check_compiler(gpus.count),
        check_build_locks(),
        check_loopback(),
        check_port(),
        check_ray_directory(),
    ]
    if deep:
        rows += [*check_imports(), start_ray()]
    if online:
        model = loaded.model_name_or_path if loaded is not None else _HUB_MODEL
        rows.append(check_hub(_HUB_MODEL if Path(model).is_dir() else model))
    if loaded is not None:
        rows += check_recipe_here(loaded, task, gpus, total)
    return rows
