"""``riskfuse plan``: memory of a training on each GPU, and the hardware profile that fits."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "estimate the memory of a training and say which hardware profile fits, why the others do not, and the command"
EXAMPLE = "riskfuse plan recipes/base.yaml --gpus 1 --memory-gib 24 --task recipes/tasks/corridor.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="training recipe of LLaMA-Factory")
    parser.add_argument("--gpus", type=_count, required=True, help="GPUs of a node")
    parser.add_argument("--memory-gib", type=_size, required=True, help="memory of each GPU in GiB")
    parser.add_argument("--nodes", type=_count, default=1, help="nodes (default 1)")
    parser.add_argument("--task", type=Path, help="task card: the prompt's length, while there is no data set yet")
    parser.add_argument(
        "--profiles", type=Path, default=Path("recipes/profiles"), help="directory (default recipes/profiles)"
    )
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="replace keys of the recipe and of the profiles"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(args: argparse.Namespace) -> int:
    """Print the plan; 0 when something fits, 1 when nothing does."""
    import json

    import yaml

    from dataset_builders.errors import ConfigError
    from launch.plan import Hardware, make_plan
    from launch.plan.report import plan_as_json, render_plan

    hardware = Hardware(args.gpus, args.memory_gib, args.nodes)
    if wrong := [word for word in args.set if "=" not in word]:
        raise ConfigError(f"--set: expected KEY=VALUE, got {', '.join(wrong)}")
    changes = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in args.set)}
    plan = make_plan(args.recipe, hardware, task=args.task, profiles=args.profiles, changes=changes)
    print(json.dumps(plan_as_json(plan)) if args.json else render_plan(plan), end="\n" if args.json else "")
    return 0 if plan.best else 1


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return int(text)


def _size(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number over 0, got {text!r}")
    return size
