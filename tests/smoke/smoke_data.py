"""A few rendered scenes and the build config for them, for the tests that run whole pipelines."""

from __future__ import annotations

from pathlib import Path

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
