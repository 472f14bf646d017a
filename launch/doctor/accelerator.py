"""GPUs as the driver and torch see them. torch is imported in a process of its own, and only where there is a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.doctor.child import ask_child
from launch.doctor.packages import OPTIONAL
from launch.doctor.result import GIB, Result, error, note, ok, warning
from launch.training import has_gpu

__all__ = ["Gpus", "check_imports", "check_optional", "find_gpus", "judge_gpus"]

TIMEOUT_S = 300.0
_CPU = "Or set CUDA_VISIBLE_DEVICES= (empty) to work on the CPU."
_BF16_FROM = (8, 0)
IMPORTED = ("torch", "torchvision", "transformers", "peft", "deepspeed", "llamafactory", "ray", "albumentations")
_PROBE = """
import json, torch, torchvision
found = {"torch": torch.__version__, "cuda": torch.version.cuda, "architectures": [], "gpus": []}
if torch.cuda.is_available():
    found["architectures"] = torch.cuda.get_arch_list()
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        gpu = {"name": properties.name, "capability": [properties.major, properties.minor], "error": ""}
        try:
            gpu["free"], gpu["total"] = torch.cuda.mem_get_info(number)
            ones = torch.ones(8, 8, device=f"cuda:{number}")
            (ones @ ones).sum().item()
        except RuntimeError as error:
            gpu["error"] = str(error).splitlines()[0]
            gpu.setdefault("free", 0)
            gpu.setdefault("total", properties.total_memory)
        found["gpus"].append(gpu)
print(json.dumps(found))
"""
_IMPORT = """
import importlib, json, sys
broken = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        broken[name] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps(broken))
"""


@dataclass(frozen=True)
class Gpus:
    """GPUs that torch can use.

    Attributes:
        count: How many; 0 where there is none, or where none works.
        memory_gib: Memory of the smallest.
    """

    count: int = 0
    memory_gib: float = 0.0


def find_gpus() -> tuple[Gpus, list[Result]]:
    """Ask the driver's tool, and torch where that one sees a GPU."""
    if not has_gpu():
        return Gpus(), [_no_gpu()]
    driver = _nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")[1].splitlines()
    found, failure = ask_child(["-c", _PROBE], timeout_s=TIMEOUT_S)
    return judge_gpus(found, failure, driver[0].strip() if driver else "unknown")


def judge_gpus(found: Mapping[str, Any] | None, failure: str, driver: str) -> tuple[Gpus, list[Result]]:
    """Rows about what the probe of torch found on a machine whose driver shows a GPU.

    Args:
        found: The probe's answer; None when it failed.
        failure: Why it failed.
        driver: Version of the driver.
    """
    if found is None:
        remedy = f"Run `make env`, which installs what requirements.lock pins. {_CPU}"
        return Gpus(), [error("gpu", f"driver {driver}", f"torch cannot be imported: {failure}", remedy)]
    cuda = found["cuda"]
    if not found["gpus"]:
        here = f"driver {driver}, torch {found['torch']}"
        if cuda is None:
            return Gpus(), [error("gpu", here, "this torch was built without CUDA", f"Run `make env`. {_CPU}")]
        problem = f"torch sees no GPU: most likely the driver is older than CUDA {cuda} asks for"
        return Gpus(), [error("gpu", here, problem, f"Update the driver. {_CPU}")]
    rows = [_gpu(number, gpu, found["architectures"], driver, cuda) for number, gpu in enumerate(found["gpus"])]
    smallest = min(gpu["total"] for gpu in found["gpus"]) / GIB
    return Gpus(len(rows), round(smallest, 1)), rows


def _gpu(number: int, gpu: Mapping[str, Any], architectures: list[str], driver: str, cuda: str | None) -> Result:
    major, minor = gpu["capability"]
    name, total, free = f"gpu {number}", gpu["total"] / GIB, gpu["free"] / GIB
    found = f"{gpu['name']}, {total:.1f} GiB, compute capability {major}.{minor}, driver {driver}, CUDA {cuda}"
    if gpu["error"]:
        built = f"torch is built for {', '.join(architectures)}"
        return error(name, found, f"it does not compute: {gpu['error']}; {built}", f"Update driver or torch. {_CPU}")
    if (major, minor) < _BF16_FROM:
        problem = "no bf16 in hardware, which the recipes ask for"
        return warning(name, found, problem, "Train with `bf16=false fp16=true` at the end of the command line.")
    if free < 0.9 * total:
        problem = f"{total - free:.1f} GiB are taken by other processes"
        return warning(name, found, problem, "See `nvidia-smi`; end them, or choose a GPU by CUDA_VISIBLE_DEVICES.")
    return ok(name, found)


def _no_gpu() -> Result:
    meaning = (
        "the CPU twins in recipes/tiny run, and all of the data and fusion commands; the full-size recipes need a GPU"
    )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return note("gpu", f"none: CUDA_VISIBLE_DEVICES is {hidden!r}", meaning)
    if shutil.which("nvidia-smi") is None:
        return note("gpu", "none", meaning)
    status, said = _nvidia_smi("-L")
    if status == 0 or "no devices" in said.lower():
        return note("gpu", "none", meaning)
    first = said.splitlines()[0] if said else f"exit status {status}"
    remedy = f"Mend the driver; after an update of it, restart the machine. {_CPU}"
    return error("gpu", "nvidia-smi fails", f"the driver does not work: {first}", remedy)


def _nvidia_smi(*words: str) -> tuple[int, str]:
    done = subprocess.run(["nvidia-smi", *words], capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout.strip() or done.stderr.strip())


def check_optional(installed: Mapping[str, str]) -> Result:
    """Packages that are used where they are there, and are not needed."""
    versions = [f"{name} {installed.get(name, 'not installed')}" for name in OPTIONAL]
    return note("optional", ", ".join(versions), "neither is needed: attention is PyTorch's, prediction our own")


def check_imports(names: Sequence[str] = IMPORTED) -> list[Result]:
    """Import the large libraries in a process of its own; one row for all, or one for each that breaks."""
    quiet = {"LLAMAFACTORY_VERBOSITY": "ERROR"} | ({} if has_gpu() else {"DS_ACCELERATOR": "cpu"})
    broken, failure = ask_child(["-c", _IMPORT, *names], timeout_s=TIMEOUT_S, environment=quiet)
    if broken is None:  # one of them took the process with it
        broken = {", ".join(names): failure}
    remedy = "Run `make env`, which installs what requirements.lock pins."
    return [error("import", name, reason, remedy) for name, reason in broken.items()] or [
        ok("import", ", ".join(names))
    ]
