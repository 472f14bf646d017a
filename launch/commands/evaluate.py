"""``riskfuse evaluate``: score any submission against labels, or compare several."""

from __future__ import annotations

import argparse
from pathlib import Path

from dataset_builders.task_card import load_task_card

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "score submissions against a labelled list: score, F1 of every class, intervals, levels to beat, differences"
EXAMPLE = (
    "riskfuse evaluate runs/board/fusion/b-submit.txt data/scenes/board_b.txt --task recipes/tasks/corridor.yaml --json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="SUBMISSION",
        help="name<TAB>label, exactly the names of the labelled list in its order; all are compared with the first",
    )
    parser.add_argument("--labels", help="labelled list: name<TAB>label (default: the last one of the files)")
    parser.add_argument("--task", required=True, help="task card")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    parser.add_argument("--resamples", type=int, default=2000, help="bootstrap resamples of intervals (default 2000)")
    parser.add_argument("--tensorboard", metavar="DIR", help="write the scores there for TensorBoard too")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples (default 0)")


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    import json

    from dataset_builders.errors import ConfigError
    from fusion.evaluate import evaluate
    from fusion.score_table import format_differences, format_systems
    from launch.tracking import write_scores

    if args.resamples < 2:
        raise ConfigError(f"--resamples must be at least 2, got {args.resamples}")
    submissions, labels = (args.files, args.labels) if args.labels else (args.files[:-1], args.files[-1])
    if not submissions:
        raise ConfigError(f"{labels}: one file is too few; give a submission and the labelled list")
    card = load_task_card(args.task)
    scores = evaluate(submissions, labels, card, resamples=args.resamples, seed=args.seed)
    if args.tensorboard:
        write_scores(Path(args.tensorboard), {Path(labels).stem: scores})
    if args.json:
        print(json.dumps({"task": card.task, **scores}, ensure_ascii=False))
    else:
        title = f"{', '.join(submissions)}: {scores['rows']} photos, at most {scores['max_score']:g}"
        print(format_systems(title, scores))
        if scores["differences"]:
            print(f"\n{format_differences(scores)}")
    return 0
