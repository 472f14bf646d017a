"""``riskfuse fuse``: all models' predictions in, submission and score table out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import TaskCard, load_task_card

if TYPE_CHECKING:
    from fusion.fit import FitSettings

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "calibrate all models, correct the base model by the specialists, decide and write the submission"
EXAMPLE = (
    "riskfuse fuse data/demo --task recipes/tasks/corridor.yaml --base predictions/demo/base "
    "--specialist predictions/demo/high_risk --out runs/by_hand"
)

FIT_OPTIONS = ("calibrator", "decision", "guard_level", "force_fusion", "folds", "seed", "alpha", "label_errors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("dataset", help="data set directory that `riskfuse build` made")
    parser.add_argument("--task", required=True, help="task card")
    parser.add_argument("--base", required=True, help="predictions of the base model on the splits val and test")
    parser.add_argument(
        "--specialist",
        required=True,
        action="append",
        metavar="[NAME=]DIR",
        help="predictions of a specialist on the same splits; once for each, by its name in the task card (which may "
        "be left out when there is only one)",
    )
    parser.add_argument(
        "--out-of-fold",
        metavar="DIR",
        help="fit on all folds: DIR/base and DIR/NAME of each specialist were made by riskfuse out-of-fold (default: "
        "fit on the split val alone)",
    )
    parser.add_argument(
        "--fitted",
        metavar="DIR",
        help="fit nothing: decide about the test photos by the fusion in this directory, made by the same models",
    )
    parser.add_argument("--out", required=True, help="directory for the submission, the scores and fusion.json")
    parser.add_argument(
        "--submit-source",
        help="test source of b-submit.txt; default: the last one. Every other source gets submit-SOURCE.txt",
    )
    parser.add_argument(
        "--calibrator",
        choices=("auto", "temperature"),
        default="temperature",
        help="of every stage: a temperature (default), or isotonic or matrix calibration where it wins by "
        "cross-validated log-loss (auto)",
    )
    parser.add_argument(
        "--decision",
        choices=("auto", "argmax", "rule"),
        default="auto",
        help="most probable label (argmax), class offsets fitted for the score (rule), or the rule where it pays in "
        "cross-fitting (auto, the default)",
    )
    parser.add_argument(
        "--guard-level",
        type=float,
        default=0.9,
        help="two-sided level of the interval of fusion's cross-fitted gain; base is submitted when its lower end is "
        "below zero (default 0.9: a one-sided 95 %% bound)",
    )
    parser.add_argument("--force-fusion", action="store_true", help="submit fused whatever the guard says")
    parser.add_argument("--folds", type=int, default=5, help="folds of the cross-fitting on validation (default 5)")
    parser.add_argument("--resamples", type=int, default=2000, help="bootstrap resamples of intervals (default 2000)")
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="share of true labels that prediction sets may miss (default 0.05)"
    )
    parser.add_argument(
        "--label-errors",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the labels on the ladder that are known to be a rung off: prediction sets are then made for the "
        "true labels (default 0)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of folds and resamples (default 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the text")


def run(args: argparse.Namespace) -> int:
    """Fuse; photos that only the fallback label could answer are listed on stderr and are no failure of this step."""
    import json
    from dataclasses import asdict

    from fusion.apply import apply_fusion
    from fusion.fuse import fuse
    from launch.tracking import TENSORBOARD, write_scores

    settings = _settings(args)
    card = load_task_card(args.task)
    photos = (args.dataset, card, args.base, _directories(args.specialist, card))
    if args.fitted is not None:
        result = apply_fusion(
            *photos, args.fitted, args.out, submit_source=args.submit_source, resamples=settings.resamples
        )
    else:
        result = fuse(
            *photos, args.out, out_of_fold=args.out_of_fold, submit_source=args.submit_source, settings=settings
        )
    parts = {"validation": result.scores["validation"], **result.scores["test"]}
    write_scores(Path(args.out) / TENSORBOARD, parts, result.scores["review"])
    if args.json:
        submissions = {source: path.as_posix() for source, path in result.submissions.items()}
        fallbacks = [asdict(fallback) for fallback in result.fallbacks]
        found = {"out": args.out, "submissions": submissions, "fallbacks": fallbacks, "notes": result.notes}
        print(json.dumps({**found, "scores": result.scores}, ensure_ascii=False))
    else:
        print(result.table, end="")
        for source, path in result.submissions.items():
            print(f"submission of {source}: {path}")
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    for fallback in result.fallbacks:
        print(f"answered by the fallback label: {fallback.source}/{fallback.name}: {fallback.reason}", file=sys.stderr)
    return 0


def _settings(args: argparse.Namespace) -> FitSettings:
    from pydantic import ValidationError

    from fusion.fit import FitSettings

    values = {name: getattr(args, name) for name in FIT_OPTIONS}
    try:
        settings = FitSettings(**values, resamples=args.resamples)
    except ValidationError as error:
        findings = "; ".join(f"--{str(item['loc'][0]).replace('_', '-')}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{findings}; see riskfuse fuse --help") from None
    if args.fitted is not None:
        given = [name for name in FIT_OPTIONS if getattr(settings, name) != FitSettings.model_fields[name].default]
        given += ["out_of_fold"] if args.out_of_fold is not None else []
        if given:
            words = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ConfigError(f"{words}: say how a fusion is fitted, but with --fitted none is; leave them out")
    return settings


def _directories(words: list[str], card: TaskCard) -> dict[str, str]:
    """Directory of each specialist's predictions from ``NAME=DIR`` words, or from one bare ``DIR``."""
    names = card.stages[1:]
    found: dict[str, str] = {}
    for word in words:
        name, equals, directory = word.partition("=")
        if not equals and len(names) == 1:
            name, directory = names[0], word
        if not directory:
            raise ConfigError(f"--specialist {word}: write NAME=DIR; the task card's names are {', '.join(names)}")
        if name in found:
            raise ConfigError(f"--specialist names {name} twice: {found[name]} and {directory}")
        found[name] = directory
    return found
