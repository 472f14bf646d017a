"""A policy's transforms as one albumentations pipeline for a class, and what it did to a copy as JSON."""

from __future__ import annotations

import json
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from dataset_builders.augment.config import AugmentConfig, OneOf, Transform, by_label
from dataset_builders.augment.library import load_albumentations
from dataset_builders.errors import ConfigError
from dataset_builders.task_card import TaskCard

__all__ = ["applied_transforms", "compose_for_label"]

_OWN = {
    "SemanticColorJitter": "dataset_builders.augment.colour_jitter",
    "ContextAwarePadding": "dataset_builders.augment.padding",
}
_MAX_NUMBERS = 16  # longer arrays (kernels, noise) say nothing to a reader of the manifest
_NOT_TOLD = frozenset(
    {"shape", "interpolation", "mask_interpolation", "fill", "fill_mask", "matrix_bbox", "border_mode"}
)


def compose_for_label(config: AugmentConfig, card: TaskCard, label_id: str) -> Any:
    """The pipeline that makes copies of a class.

    ``SemanticColorJitter`` gets the card's protected hues and ``ContextAwarePadding`` the signs that do not change this
    label, unless the policy gives its own.

    Returns:
        ``albumentations.Compose`` for RGB uint8 photos of shape (H, W, 3), any H and W.

    Raises:
        ConfigError: A transform does not exist or does not take its parameters. Names the transform and its place.
    """
    A = load_albumentations()

    strength = by_label(config.strength, label_id, 1.0)
    steps = []
    for number, step in enumerate(config.transforms):
        where = f"transforms.{number}"
        if isinstance(step, OneOf):
            members = [_build(member, strength, card, label_id, f"{where}.one_of") for member in step.one_of]
            steps.append(A.OneOf(members, p=step.p))
        else:
            steps.append(_build(step, strength, card, label_id, where))
    return A.Compose(steps, save_applied_params=True)


def _build(step: Transform, strength: float, card: TaskCard, label_id: str, where: str) -> Any:
    parameters = step.parameters_at(strength)
    if step.transform == "SemanticColorJitter":
        parameters.setdefault("protected_hues", card.protected_hues)
    elif step.transform == "ContextAwarePadding":
        parameters.setdefault("signs", card.signs_for(label_id))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # albumentations ignores a parameter that it does not know, with a warning
            return _transform_class(step.transform, where)(p=step.p, **_as_tuples(parameters))
    except ConfigError:
        raise
    except (TypeError, ValueError, UserWarning) as error:
        lines = [line.strip() for line in str(error).splitlines() if "For further information" not in line]
        told = "; ".join(lines)
        raise ConfigError(f"{where}: {step.transform} (label {label_id}, strength {strength:g}): {told}") from None


def _transform_class(name: str, where: str) -> Any:
    A = load_albumentations()

    if name in _OWN:
        return getattr(import_module(_OWN[name]), name)
    found = getattr(A, name, None)
    if not (isinstance(found, type) and issubclass(found, A.BasicTransform)):
        raise ConfigError(
            f"{where}: no transform {name!r} in albumentations {A.__version__}, nor is it {' or '.join(_OWN)}"
        )
    return found


def _as_tuples(value: Any) -> Any:
    """YAML has lists where albumentations asks for tuples."""
    if isinstance(value, dict):
        return {key: _as_tuples(item) for key, item in value.items()}
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def applied_transforms(applied: list[tuple[str, dict[str, Any]]]) -> str:
    """What ``Compose`` reports as ``applied_transforms``, as JSON for the manifest; long arrays are left out."""
    told = [
        {"transform": name, **{key: _plain(value) for key, value in parameters.items() if _is_told(key, value)}}
        for name, parameters in applied
    ]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _is_told(key: str, value: Any) -> bool:
    return key not in _NOT_TOLD and np.size(value) <= _MAX_NUMBERS and not _has_long(value)


def _has_long(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_long(item) for item in value.values())
    return isinstance(value, np.ndarray) and value.size > _MAX_NUMBERS


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return value if isinstance(value, str | int | bool | None) else str(Path(str(value)).name)
