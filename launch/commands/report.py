"""``riskfuse report``: what a run came to, as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "write one HTML page about a run: scores, curves, what fusion changed, mistakes, data, configuration"
EXAMPLE = "riskfuse report runs/board"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run directory of a pipeline, or of riskfuse fuse")
    parser.add_argument("--out", type=Path, help="file to write (default: RUN/report.html)")
    parser.add_argument("--task", type=Path, help="task card (default: the pipeline's)")
    parser.add_argument("--data", type=Path, help="data set directory (default: the pipeline's)")
    parser.add_argument("--saves", type=Path, help="directory with one training a stage (default: the pipeline's)")
    parser.add_argument("--predictions", type=Path, help="directory with one prediction a stage (default: the same)")
    parser.add_argument("--photos", type=int, default=24, help="at most so many photos of each kind (default 24)")
    parser.add_argument("--rows", type=int, default=200, help="at most so many rows of what was left out (default 200)")
    parser.add_argument(
        "--heat-maps", action="store_true", help="load specialists with a hazard amplifier and show where they look"
    )


def run(args: argparse.Namespace) -> int:
    """Write the report."""
    from dataset_builders.errors import ConfigError
    from launch.report import REPORT_NAME, write_report
    from launch.report.run_files import find_run

    for name in ("photos", "rows"):
        if getattr(args, name) < 0:
            raise ConfigError(f"--{name} must not be negative, got {getattr(args, name)}")
    files = find_run(args.run_dir, task=args.task, data=args.data, saves=args.saves, predictions=args.predictions)
    out = args.out or args.run_dir / REPORT_NAME
    write_report(files, out, photos=args.photos, rows=args.rows, heat_maps=args.heat_maps)
    print(f"wrote {out}")
    return 0
