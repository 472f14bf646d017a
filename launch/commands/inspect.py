"""``riskfuse inspect``: the data quality report of a data set directory."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dataset_builders.stores import Location, location

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "look for near-duplicates, leaks, wrong labels, shortcuts and outliers before a model is trained on them"
EXAMPLE = "riskfuse inspect data/corridor --task recipes/tasks/corridor.yaml --fail-on leak,shortcut"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("dataset", type=Path, help="complete data set directory")
    parser.add_argument("--task", type=Path, help="task card, for the labels' texts")
    parser.add_argument(
        "--predictions",
        type=location,
        nargs="+",
        default=(),
        metavar="DIR",
        help="stage base's out-of-fold predictions",
    )
    parser.add_argument("--out", type=Path, help="report directory (default: runs/inspect/NAME)")
    parser.add_argument("--fail-on", default="", metavar="FINDING,…", help="exit with 1 when one of these is a problem")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the text")
    parser.add_argument("--seed", type=int, default=0, help="of the cross-validated audits (default: 0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; changes no byte")


def run(args: argparse.Namespace) -> int:
    """Inspect, write the report, print a line a finding; 1 when a finding of ``--fail-on`` is a problem."""
    import json
    from dataclasses import asdict

    from dataset_builders.errors import ConfigError
    from dataset_builders.inspect import check_finding_names, inspect_dataset, write_inspection
    from dataset_builders.task_card import load_task_card
    from launch.out_of_fold.unvouched import notes_on_unvouched

    fail_on = [name.strip() for name in args.fail_on.split(",") if name.strip()]
    check_finding_names(fail_on)
    if "label_errors" in fail_on and not args.predictions:
        raise ConfigError("--fail-on label_errors needs --predictions; without them nothing would be checked")
    if args.workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {args.workers}")
    inspection = inspect_dataset(
        args.dataset,
        card=load_task_card(args.task) if args.task else None,
        probabilities=_probabilities(args.dataset, args.predictions) if args.predictions else None,
        seed=args.seed,
        workers=args.workers,
    )
    out = args.out or Path("runs/inspect") / args.dataset.resolve().name
    write_inspection(inspection, out)
    text = sys.stderr if args.json else sys.stdout
    for finding in inspection.findings:
        print(f"{finding.verdict:<8} {finding.name}: {finding.meaning}", file=text)
    for note in notes_on_unvouched(args.predictions, "believes its labels, and wrong ones are not found"):
        print(note, file=sys.stderr)
    if not args.predictions:
        print("not done label_errors: needs --predictions, see docs/inspect.md", file=text)
    print(f"\nwrote {out / 'report.html'}", file=text)
    problems = inspection.problems(fail_on)
    if args.json:
        findings = [asdict(finding) for finding in inspection.findings]
        found = {"report": (out / "report.html").as_posix(), "ok": not problems, "findings": findings}
        print(json.dumps(found, ensure_ascii=False))
    if problems:
        print(f"riskfuse inspect: problems in {', '.join(p.name for p in problems)}", file=sys.stderr)
    return 1 if problems else 0


def _probabilities(dataset: Path, directories: Sequence[Location]) -> dict[str, NDArray[np.float64]]:
    """Sample id -> probabilities of the labels, each directory calibrated on its own rows: folds have their own models.

    Raises:
        DataError: A directory is no finished set of predictions of this task, or a photo is in two of them.
    """
    import numpy as np

    from dataset_builders.dataset_dir import read_marker
    from dataset_builders.errors import DataError
    from dataset_builders.manifest import read_manifest
    from dataset_builders.task_card import BASE
    from fusion.calibration import apply_temperature, fit_temperature
    from fusion.predictions import read_predictions

    label_ids: list[str] = read_marker(dataset)["labels"]
    label_of = {row.sample_id: row.label for row in read_manifest(dataset) if row.parent is None}
    found: dict[str, NDArray[np.float64]] = {}
    for directory in directories:
        predictions = read_predictions(directory, tuple(label_ids), stage=BASE)
        ids = predictions.sample_ids.to_pylist()
        kept = [i for i in np.flatnonzero(~predictions.failed_N) if label_of.get(ids[i]) is not None]
        twice = next((ids[i] for i in kept if ids[i] in found), None)
        if twice is not None:
            raise DataError(f"{directory}: {twice!r} is in another directory too; a photo needs one prediction")
        labels_N = np.array([label_ids.index(str(label_of[ids[i]])) for i in kept], dtype=np.int64)
        temperature = fit_temperature(predictions.logps_NK[kept], labels_N)
        probs_NK = np.exp(apply_temperature(predictions.logps_NK[kept], temperature))
        found |= {ids[i]: row_K for i, row_K in zip(kept, probs_NK, strict=True)}
    return found
