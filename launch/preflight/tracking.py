"""Can the recipe's trackers work here? Trainings would find out only when model and data are loaded."""

from __future__ import annotations

import importlib.util
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from launch.preflight.finding import Finding, error, warning
from launch.recipe import TrainingRecipe

__all__ = ["check_tracking", "trackers_of"]

_PACKAGES = ("tensorboard", "wandb", "swanlab", "mlflow", "trackio")  # each is called as its tracker
_WITHOUT_KEY = {"WANDB_MODE": {"offline", "disabled", "dryrun"}, "SWANLAB_MODE": {"offline", "local", "disabled"}}
_OTHERWISE = "or set report_to: tensorboard, which needs no account and no network."


def trackers_of(recipe: Mapping[str, Any]) -> list[str]:
    """Names under ``report_to``, without ``none``; a recipe without the key reports to nobody."""
    value = recipe.get("report_to") or []
    names = [value] if isinstance(value, str) else [str(name) for name in value]
    return [name for name in names if name != "none"]


def check_tracking(recipe: TrainingRecipe) -> list[Finding]:
    """Is each tracker known, is its package installed, does it find the key of an account?"""
    where = f"{recipe.path}: report_to"
    findings = []
    for name in trackers_of(recipe.raw):
        if name == "all":
            problem = "'all' reports to whatever happens to be installed on a machine"
            findings.append(warning(where, problem, "Name the trackers that you want, such as tensorboard."))
        elif name in _PACKAGES:
            findings += _usable(where, name)
        else:
            findings += _known(where, name)
    if recipe.raw.get("use_swanlab"):
        local = recipe.raw.get("swanlab_mode") == "local"
        has_key = local or recipe.raw.get("swanlab_api_key")
        findings += _usable(f"{recipe.path}: use_swanlab", "swanlab", has_key=bool(has_key))
    return findings


def _known(where: str, name: str) -> list[Finding]:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    if name in INTEGRATION_TO_CALLBACK:
        return []  # the trainer itself looks whether it can be used
    remedy = f"Name one of {', '.join(sorted(INTEGRATION_TO_CALLBACK))}, or none."
    return [error(where, f"there is no tracker {name!r}", remedy)]


def _usable(where: str, name: str, *, has_key: bool = False) -> list[Finding]:
    if importlib.util.find_spec(name) is None:
        return [error(where, f"the package of {name} is not installed", f"Run `pip install {name}`, {_OTHERWISE}")]
    mode = f"{name.upper()}_MODE"
    if has_key or name not in _KEYS or os.environ.get(mode, "").lower() in _WITHOUT_KEY[mode] or _KEYS[name]():
        return []
    remedy = f"Run `{name} login`, set {name.upper()}_API_KEY, set {mode}=offline to keep the curves here, {_OTHERWISE}"
    return [error(where, f"{name} finds no key of an account, and training would stop", remedy)]


def _has_wandb_key() -> bool:
    """The places that wandb looks into: environment, a token file, the netrc entry of its server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    files = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    path = next((path for file in files if (path := Path(file).expanduser()).is_file()), None)
    try:
        return path is not None and host is not None and netrc.netrc(path).authenticators(host) is not None
    except (netrc.NetrcParseError, OSError):
        return False  # wandb cannot read it either


def _has_swanlab_key() -> bool:
    """The places that swanlab looks into: environment, what `swanlab login` left for this directory or this user."""
    home = Path(os.environ.get("SWANLAB_SAVE_DIR", "~/.swanlab")).expanduser()
    return bool(os.environ.get("SWANLAB_API_KEY")) or any(
        (directory / ".netrc").is_file() for directory in (Path(".swanlab"), home)
    )


_KEYS = {"wandb": _has_wandb_key, "swanlab": _has_swanlab_key}
