"""``riskfuse grade``: later photos by the models and the fusion of a finished run."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "grade later photos by a finished run: its models, its fusion, nothing trained or fitted anew"
EXAMPLE = "riskfuse grade runs/board photos/monday --out runs/monday"

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run directory of a finished pipeline")
    parser.add_argument("photos", metavar="PHOTOS", type=Path, help="directory of photos")
    parser.add_argument(
        "--list",
        type=Path,
        dest="photo_list",
        metavar="FILE",
        help="only these photos, one name a line; with a label behind a tab the answers are scored (default: all)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="run directory of these photos; `riskfuse review OUT` opens it"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and predict nothing")


def run(args: argparse.Namespace) -> int:
    """Grade."""
    from launch.pipeline import run_pipeline
    from launch.pipeline.grade import grading_pipeline

    config = grading_pipeline(args.run_dir, args.photos, args.out, args.photo_list)
    run_pipeline(config, dry_run=args.dry_run)
    return 0
