"""``riskfuse check``: preflight of a training recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "find what is wrong with a training recipe before it costs time: all findings in one list"
EXAMPLE = "riskfuse check recipes/base.yaml --task recipes/tasks/corridor.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="training recipe of LLaMA-Factory")
    parser.add_argument("--task", type=Path, help="task card that data set and pixel budget must agree with")
    parser.add_argument("--predictions", type=Path, help="predictions directory that must agree with the recipe")


def run(args: argparse.Namespace) -> int:
    """Print all findings; 1 when there is an error among them, 0 otherwise."""
    from launch.preflight import check_recipe

    findings = check_recipe(args.recipe, task=args.task, predictions=args.predictions)
    for finding in findings:
        print(finding)
    errors = sum(finding.level == "error" for finding in findings)
    print(f"{args.recipe}: {errors} errors, {len(findings) - errors} warnings")
    return 1 if errors else 0
