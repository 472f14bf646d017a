"""Which dangerous scenes do base and fused find? By what makes them dangerous, and by how much of it can be seen.

The rendered board knows what is in each scene. Training photos are decided by parameters and models that did not see
them (cross-fitted, out of fold), photos of boards A and B by the fusion that is fitted on all training photos. A scene
is found when its label by the most probable class is the first one of the task card.

Prints tables; the last line is one JSON object. Writes nothing else unless --out is given.

Example:
    python benchmarks/missed_hazards.py --predictions predictions/board
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import finish

from dataset_builders.scenes.compose import IGNITION
from dataset_builders.task_card import load_task_card
from fusion.fit import FitSettings, fit
from fusion.opinions import read_opinions
from fusion.systems import apply_parameters

SIZES = (600, 1200, 3000)  # visible pixels of 336 x 336, of the largest thing that ignites
SYSTEMS = ("base", "fused")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/corridor_augmented"))
    parser.add_argument("--scenes", type=Path, default=Path("data/scenes"), help="where NAME_truth.jsonl lie")
    parser.add_argument("--task", type=Path, default=Path("recipes/tasks/corridor.yaml"))
    parser.add_argument(
        "--predictions", type=Path, default=Path("predictions/board"), help="a folder for each stage, and out_of_fold"
    )
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    return parser.parse_args()


def decided(arguments: argparse.Namespace) -> dict[str, dict[str, int]]:
    """Class index by system and photo name, of all photos that base could read."""
    card = load_task_card(arguments.task)
    stages = {name: arguments.predictions / name for name in card.stages}
    base = stages.pop(card.stages[0])
    opinions = read_opinions(arguments.data, card, base, stages, arguments.predictions / "out_of_fold")
    fitted = fit(opinions.fit_rows(), opinions.target, FitSettings())
    test, targets_SK = opinions.test, opinions.target.targets_SK
    applied = apply_parameters(fitted.parameters, test.base_logps_NK, test.looks_SN2, targets_SK)
    found = {}
    for system in SYSTEMS:
        labels = (fitted.cross_fitted[f"{system}_argmax"], applied.labels[f"{system}_argmax"])
        names = (opinions.labelled.column("name"), test.column("name"))
        found[system] = dict(zip(np.concatenate(names).tolist(), np.concatenate(labels).tolist(), strict=True))
    return found


def read_scenes(directory: Path, names: set[str]) -> list[dict[str, Any]]:
    """What is in these scenes."""
    lines = (line for path in sorted(directory.glob("*_truth.jsonl")) for line in path.open(encoding="utf-8"))
    return [scene for scene in map(json.loads, lines) if scene["name"] in names]


def cause(scene: dict[str, Any]) -> str:
    """The kind of the visible things that ignite, if there is one."""
    kinds = {thing["kind"] for thing in _igniting(scene)}
    return kinds.pop() if len(kinds) == 1 else "several kinds"


def size(scene: dict[str, Any]) -> str:
    """How large the largest visible thing that ignites is."""
    pixels = max(thing["pixels"] for thing in _igniting(scene))
    below = next((bound for bound in SIZES if pixels < bound), None)
    return f"under {below} pixels" if below else f"{SIZES[-1]} pixels and more"


def _igniting(scene: dict[str, Any]) -> list[dict[str, Any]]:
    return [thing for thing in scene["things"] if thing["visible"] and thing["kind"] in IGNITION]


def count(scenes: list[dict[str, Any]], found: dict[str, dict[str, int]], by: Callable[[dict[str, Any]], str]) -> dict:
    """Scenes in all, and those that each system gives the first label, by what ``by`` says about them."""
    groups: dict[str, list[str]] = {}
    for scene in scenes:
        groups.setdefault(by(scene), []).append(scene["name"])
    return {
        group: {"scenes": len(names), **{system: sum(found[system][name] == 0 for name in names) for system in SYSTEMS}}
        for group, names in sorted(groups.items())
    }


def main() -> None:
    """Count and print."""
    arguments = parse_arguments()
    found = decided(arguments)
    scenes = read_scenes(arguments.scenes, set(found[SYSTEMS[0]]))
    first = load_task_card(arguments.task).label_ids[0]
    dangerous = [scene for scene in scenes if scene["truth"] == first]
    others = [scene for scene in scenes if scene["truth"] != first]
    tables = {"cause": count(dangerous, found, cause), "size": count(dangerous, found, size)}
    tables["false alarms"] = count(others, found, lambda _scene: "scenes that are not dangerous")
    for title, table in tables.items():
        print(f"{title:<40}{'scenes':>10}" + "".join(f"{system:>10}" for system in SYSTEMS))
        for name, group in table.items():
            print(f"  {name:<38}" + "".join(f"{value:>10}" for value in group.values()))
    finish({"benchmark": "missed_hazards", "dangerous": len(dangerous), **tables}, arguments.out)


if __name__ == "__main__":
    main()
