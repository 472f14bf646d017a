"""``riskfuse doctor``: what of this machine works, and what will not."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "say what of this machine and environment works, what will not and why, and how to mend it; starts nothing"
EXAMPLE = "riskfuse doctor --recipe recipes/tiny/base.yaml --task recipes/tasks/corridor.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--recipe", type=Path, help="training recipe that shall run here: is it sound, does it fit?")
    parser.add_argument("--task", type=Path, help="task card of the recipe, as in riskfuse check and plan")
    parser.add_argument("--deep", action="store_true", help="also import the large libraries and start Ray: a minute")
    parser.add_argument("--online", action="store_true", help="also ask the model hub for the recipe's model")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")


def run(args: argparse.Namespace) -> int:
    """Print all results; 1 when something will not work, 0 otherwise."""
    import json

    from dataset_builders.errors import ConfigError
    from launch.doctor import diagnose
    from launch.doctor.report import has_errors, render_results, results_as_json

    if args.task is not None and args.recipe is None:
        raise ConfigError("--task says whose prompts a recipe learns; give --recipe too")
    results = diagnose(recipe=args.recipe, task=args.task, deep=args.deep, online=args.online)
    if args.json:
        print(json.dumps(results_as_json(results), ensure_ascii=False))
    else:
        print(render_results(results), end="")
        if not args.deep:
            print("not tried: importing the large libraries and starting Ray, see --deep")
    return 1 if has_errors(results) else 0
