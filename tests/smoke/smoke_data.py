"""A few rendered scenes, the build config for them and a pipeline over them, for the tests that run whole pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def write_yaml(path: Path, value: dict) -> Path:
    path.write_text(yaml.safe_dump(value, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def write_scenes(directory: Path) -> Path:
    scenes = yaml.safe_load((ROOT / "recipes/tiny/scenes.yaml").read_text(encoding="utf-8"))
    train, board = (dict.fromkeys(scenes["grades"].values(), count) for count in (12, 6))
    return write_yaml(
        directory / "scenes.yaml",
        scenes
        | {"task": str(ROOT / scenes["task"]), "out": str(directory / "scenes")}
        | {
            "boards": [{"name": "train", "stream": 901, "counts": train}, {"name": "b", "stream": 902, "counts": board}]
        },
    )


def write_data(directory: Path, folds: int = 3) -> Path:
    sources = [
        {"kind": "label_list", "name": name, "role": role, "path": f"scenes/{name}.txt", "images": f"scenes/{name}"}
        for name, role in (("train", "train"), ("b", "test"))
    ]
    config = {"task": str(ROOT / "recipes/tasks/corridor.yaml"), "out": "data", "folds": folds, "sources": sources}
    return write_yaml(directory / "data.yaml", config)


def write_pipeline(
    directory: Path,
    model: Path,
    *,
    overrides: dict[str, Any],
    high_risk: dict[str, Any],
    folds: int = 3,
    scenes_options: tuple[str, ...] = (),
    **parts: Any,
) -> Path:
    """Write ``pipeline.yaml`` with one specialist and what it reads; ``high_risk`` is merged into the specialist."""
    overrides = {
        "model_name_or_path": str(model),
        "per_device_train_batch_size": 2,
        "save_steps": 2,
        "logging_steps": 1,
        **overrides,
    }
    specialist = {"recipe": str(ROOT / "recipes/tiny/high_risk.yaml"), **high_risk}
    specialist["overrides"] = overrides | specialist.get("overrides", {})
    pipeline = {
        "task": str(ROOT / "recipes/tasks/corridor.yaml"),
        "prepare": {
            "command": ["riskfuse", "scenes", str(write_scenes(directory)), *scenes_options],
            "inputs": ["scenes.yaml"],
            "outputs": ["scenes/train.txt", "scenes/b.txt"],
        },
        "data": str(write_data(directory, folds)),
        "base": {"recipe": str(ROOT / "recipes/tiny/base.yaml"), "overrides": overrides},
        "specialists": {"high_risk": specialist},
        "decision": {"options": ["--resamples", "50"]},
        **parts,
    }
    return write_yaml(directory / "pipeline.yaml", pipeline)
