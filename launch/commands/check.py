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
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the list")


def run(args: argparse.Namespace) -> int:
    """Print all findings; 1 when there is an error among them, 0 otherwise."""
    import contextlib
    import json
    import sys
    from dataclasses import asdict

    from launch.preflight import check_recipe

    with contextlib.redirect_stdout(sys.stderr if args.json else sys.stdout):  # for what the libraries print
        findings = check_recipe(args.recipe, task=args.task, predictions=args.predictions)
    errors = sum(finding.level == "error" for finding in findings)
    if args.json:
        found = {"recipe": args.recipe.as_posix(), "ok": not errors, "findings": [asdict(item) for item in findings]}
        print(json.dumps(found, ensure_ascii=False))
    else:
        for finding in findings:
            print(finding)
        print(f"{args.recipe}: {errors} errors, {len(findings) - errors} warnings")
    return 1 if errors else 0
