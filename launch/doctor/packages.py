"""Python, and the installed packages against ``requirements.lock``. Reads metadata and imports nothing."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from launch.doctor.result import Result, error, note, ok, warning

__all__ = ["OPTIONAL", "build_of", "check_builds", "check_packages", "check_python", "installed_versions", "read_lock"]

LOCK = Path(__file__).parents[2] / "requirements.lock"
OPTIONAL = ("flash-attn", "vllm")
_REMEDY = "Run `make env`, which installs what requirements.lock pins."
_SHOWN = 6


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Result:
    """Is it a Python that the pinned packages support?"""
    found = f"{platform.python_version()}, {sys.executable}"
    if version < (3, 11):
        return error("python", found, "LLaMA-Factory needs 3.11 or newer", "Run `make env PYTHON=python3.11`.")
    if version >= (3, 14):
        problem = "from 3.14 on Ray and Gradio ask for different versions of pydantic"
        return error("python", found, problem, "Run `make env PYTHON=python3.11`.")
    return ok("python", found)


def check_packages(lock: Path = LOCK, installed: Mapping[str, str] | None = None) -> list[Result]:
    """Compare what is installed with the lock.

    Args:
        lock: The lock file.
        installed: Version by name; None: those of this environment.

    Returns:
        One row for all packages that are missing, one for all that differ; or one that says that all agree.
    """
    installed = installed_versions() if installed is None else installed
    if not lock.is_file():
        return [note("packages", f"{len(installed)} installed", f"{lock} is not here, so nothing was compared")]
    pinned, needed = read_lock(lock), _needed()
    rows = []
    missing = sorted(name for name in needed if name not in installed)
    if missing:
        rows.append(error("packages", f"missing: {_some(missing)}", "RiskFuse imports them", _REMEDY))
    other = [
        f"{name} {installed[name]} (pinned: {version})"
        for name, version in sorted(pinned.items())
        if name in installed and installed[name].split("+")[0] != version
    ]
    if other:
        problem = "only the pinned versions were run together"
        rows.append(warning("packages", f"other versions: {_some(other)}", problem, _REMEDY))
    if not rows:
        here = sum(name in installed for name in pinned)
        rows.append(ok("packages", f"{here} of the {len(pinned)} pinned ones, all at the pinned version"))
    return rows


def check_builds() -> Result:
    """Were torch, torchvision and torchaudio built for the same CUDA? Read from their files, without importing them."""
    builds = {name: build_of(name) for name in ("torch", "torchvision", "torchaudio")}
    torch = builds["torch"]
    if torch is None:
        return error("torch build", "no torch", "nothing can be trained or predicted", _REMEDY)
    found = ", ".join(f"{name} {build or 'missing'}" for name, build in builds.items())
    tags = {build.partition("+")[2] for build in builds.values() if build is not None}
    if len(tags) > 1:
        problem = "they are of different builds; importing them fails (operator torchvision::nms does not exist)"
        return error("torch build", found, problem, _REMEDY)
    return ok("torch build", found)


def build_of(package: str) -> str | None:
    """``2.11.0+cu130`` from the package's ``version.py``; None when it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("version.py")
    found = re.search(r"__version__ = ['\"]([^'\"]+)", file.read_text(encoding="utf-8")) if file.is_file() else None
    return found.group(1) if found else ""


def read_lock(path: Path) -> dict[str, str]:
    """Version by name of a file of ``name==version`` rows."""
    rows = re.findall(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {_canonical(name): version for name, version in rows}


def installed_versions() -> dict[str, str]:
    """Version by name of all that is installed here."""
    return {_canonical(found.name): found.version for found in metadata.distributions() if found.name}


def _needed() -> list[str]:
    """Names of RiskFuse's own dependencies, extras left out."""
    try:
        required = metadata.requires("riskfuse") or []
    except metadata.PackageNotFoundError:  # run from the repository without being installed
        return []
    names = [re.match(r"[A-Za-z0-9._-]+", line) for line in required if "extra ==" not in line]
    return [_canonical(name.group()) for name in names if name]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
