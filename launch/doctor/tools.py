"""What DeepSpeed needs to compile its extensions on first use, and commands that a user types."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from launch.build_locks import stale_build_locks
from launch.doctor.result import Result, error, note, ok, warning

__all__ = ["check_build_locks", "check_commands", "check_compiler"]


def check_compiler(gpus: int) -> Result:
    """Compiler, ninja and Python's headers.

    On a CPU DeepSpeed compiles its communication when it starts; on GPUs none of the shipped files in ``ds_configs``
    makes it compile.
    """
    compiler = os.environ.get("CXX", "c++").split()[0]  # as torch.utils.cpp_extension finds it
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    parts = {
        f"compiler {compiler}": shutil.which(compiler) is not None,
        "ninja": shutil.which("ninja", path=path) is not None,
        "Python.h": header.is_file(),
    }
    missing = [name for name, here in parts.items() if not here]
    if not missing:
        return ok("extensions", ", ".join(parts))
    found = f"missing: {', '.join(missing)}"
    if gpus:
        meaning = "DeepSpeed compiles only with its own CPU Adam, which the files in ds_configs/ switch off"
        return note("extensions", found, meaning)
    problem = "DeepSpeed on a CPU compiles an extension when it starts"
    remedy = "Install g++ and the headers of this Python (Debian: g++, python3-dev); `make env` installs ninja."
    return error("extensions", found, problem, f"{remedy} Or train without DeepSpeed, in one process.")


def check_build_locks() -> Result:
    """Locks in PyTorch's extension cache that a killed process left."""
    stale = stale_build_locks()
    if not stale:
        return ok("build locks", "none left by killed processes")
    problem = "a killed process left them; DeepSpeed waits for ever at 'Using … as PyTorch extensions root'"
    remedy = f"Run `rm {' '.join(map(str, stale))}`; riskfuse run, train and out-of-fold remove them by themselves."
    return warning("build locks", ", ".join(map(str, stale)), problem, remedy)


def check_commands() -> Result:
    """Are the commands of this environment found by their names?"""
    missing = [name for name in ("llamafactory-cli", "riskfuse") if shutil.which(name) is None]
    if not missing:
        return ok("commands", "llamafactory-cli and riskfuse are found")
    problem = "the shell does not find them; riskfuse itself does not need that"
    environment = Path(sys.executable).parent
    remedy = f"Run `. {environment}/activate`." if (environment / "activate").exists() else "Run `make env`."
    return warning("commands", f"not on PATH: {', '.join(missing)}", problem, remedy)
