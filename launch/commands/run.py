"""``riskfuse run``: the whole way from photos to a submission."""

from __future__ import annotations

import argparse

HELP = "Walk the whole way from photos to a submission; what is complete is skipped, what was interrupted goes on."
EXAMPLE = "riskfuse run recipes/tiny/pipeline.yaml"

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pipeline", help="YAML of the pipeline")
    parser.add_argument("--from", dest="first", metavar="STEP", help="start here; earlier steps must be complete")
    parser.add_argument("--to", dest="last", metavar="STEP", help="stop after this step")
    parser.add_argument(
        "--redo",
        action="store_true",
        help="run the chosen steps even where they are complete (to go on after an interruption, leave it out)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def run(args: argparse.Namespace) -> int:
    """Run the pipeline."""
    from launch.pipeline import load_pipeline_config, run_pipeline

    config = load_pipeline_config(args.pipeline)
    run_pipeline(config, first=args.first, last=args.last, redo=args.redo, dry_run=args.dry_run)
    return 0
