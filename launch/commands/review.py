"""``riskfuse review``: people look at the review queue; their labels come out as a label list."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launch.report.run_files import RunFiles

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "look at the review queue in a browser, and export what the reviewers decided as a label list"
EXAMPLE = "riskfuse review runs/board"
LISTED = 20  # conflicts that are printed; the file holds all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run directory of a pipeline, or of riskfuse fuse")
    parser.add_argument("--task", type=Path, help="task card (default: the pipeline's)")
    parser.add_argument("--data", type=Path, help="data set directory (default: the pipeline's)")
    parser.add_argument("--source", help="photos of this test source alone (export: needed when several were reviewed)")
    parser.add_argument(
        "--reviewer", default="", metavar="NAME", help="name that the page begins with (it can be changed)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen to (default 127.0.0.1: this machine alone)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen to, 0 for a free one (default 7860)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    parser.add_argument(
        "--export", type=Path, metavar="FILE", help="write the reviewers' labels as name<TAB>label, and end"
    )
    parser.add_argument(
        "--rest",
        type=Path,
        metavar="FILE",
        help="with --export: write the names of the other photos, the new test list",
    )
    parser.add_argument("--agreement", action="store_true", help="print how far the reviewers agree, and end")


def run(args: argparse.Namespace) -> int:
    """Start the app, or export; an export exits with 1 when some photos are not in it (they are listed)."""
    from dataset_builders.errors import ConfigError
    from launch.report.run_files import find_run
    from launch.review.store import DIRECTORY, DecisionStore, clean_reviewer

    files = find_run(args.run_dir, task=args.task, data=args.data)
    directory = files.run / DIRECTORY
    if args.rest is not None and args.export is None:
        raise ConfigError("--rest lists what --export does not write; give both")
    if args.export is not None or args.agreement:
        return _export(files, directory, args)
    if not 0 <= args.port <= 65535:
        raise ConfigError(f"--port must be from 0 to 65535, got {args.port}")
    from launch.review.app import serve
    from launch.review.queue import read_queue

    serve(
        files,
        read_queue(files, args.source),
        DecisionStore(directory),
        reviewer=clean_reviewer(args.reviewer) if args.reviewer else "",
        host=args.host,
        port=args.port,
        browser=not args.no_browser,
    )
    return 0


def _export(files: RunFiles, directory: Path, args: argparse.Namespace) -> int:
    from launch.review.agreement import format_agreement, measure_agreement
    from launch.review.queue import sources_of
    from launch.review.store import read_all
    from launch.review.votes import collect_votes, conflicts_path, export_labels, write_rest

    reviewers, photos = read_all(directory), sources_of(files)
    for found in reviewers:
        if found.warning is not None:
            print(found.warning, file=sys.stderr)
    if args.export is None and args.source is None:
        compared = list(photos)
    else:
        source, votes, unknown = collect_votes(reviewers, photos, args.source)
        compared = list(votes)
        if unknown:
            print(f"{unknown} decisions are of photos that this run does not have; left out", file=sys.stderr)
    if args.agreement or len(reviewers) > 1:
        print(format_agreement(measure_agreement(reviewers, files.card, compared)))
    if args.export is None:
        return 0
    done = export_labels(args.export, files.card, source, votes, photos)
    print(f"wrote {args.export}: {len(done.labels)} photos of {source}, {done.outvoted} of them against a minority")
    if args.rest is not None:
        print(f"wrote {args.rest}: {write_rest(args.rest, done, photos)} photos of {source} that are not in it")
    if not done.conflicts:
        return 0
    print(f"{len(done.conflicts)} photos are not exported, see {conflicts_path(args.export)}:", file=sys.stderr)
    for conflict in done.conflicts[:LISTED]:
        given = ", ".join(f"{reviewer}: {label}" for reviewer, (label, _) in conflict.votes.items())
        print(f"  {conflict.name!r}: {conflict.why} ({given})", file=sys.stderr)
    if len(done.conflicts) > LISTED:
        print(f"  and {len(done.conflicts) - LISTED} more", file=sys.stderr)
    return 1
