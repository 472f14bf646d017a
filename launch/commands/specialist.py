"""``riskfuse specialist``: the second stage's training sets, from the data set and the first stage's predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dataset_builders.stores import location

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "write the specialists' training and validation sets, with negatives that the base model finds hard"
EXAMPLE = "riskfuse specialist data/corridor --task recipes/tasks/corridor.yaml --predictions predictions/base"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("dataset", type=Path, help="data set directory, made by riskfuse build")
    parser.add_argument("--task", type=Path, required=True, help="task card (YAML)")
    parser.add_argument(
        "--predictions", type=location, required=True, nargs="+", help="the base stage's predictions on training photos"
    )
    parser.add_argument("--stage", nargs="+", metavar="NAME", help="only these specialists of the card (default: all)")
    parser.add_argument(
        "--rows",
        type=_positive,
        help="rows of a training set, filled by repetition; not kept to where each positive would not come once at the "
        "card's ratio (default: each positive once)",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides the random negatives (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the text")


def run(args: argparse.Namespace) -> int:
    """Write the sets, or say that nothing had to be done; print the counts."""
    import json

    from dataset_builders.specialist import Choice, build_specialist
    from dataset_builders.task_card import load_task_card

    card = load_task_card(args.task)
    stages = dict.fromkeys(args.stage or card.stages[1:])
    for stage in stages:
        card.specialist(stage)  # a wrong name is said before anything is written
    found = {}
    for stage in stages:
        choice = Choice(stage, tuple(args.predictions), seed=args.seed, rows=args.rows)
        result = build_specialist(args.dataset, card, choice)
        if args.json:
            found[stage] = {"fresh": result.fresh, **result.marker}
            continue
        print(f"{stage}: is the label one of {', '.join(card.specialist(stage).targets)}?")
        _print_counts(result.marker, args.rows)
        if result.fresh:
            print(f"wrote {args.dataset}/{stage}_train.json and {stage}_val.json")
        else:
            print(f"{args.dataset}/{stage}.json is complete for the same inputs; nothing to do")
    if args.json:
        print(json.dumps({"dataset": args.dataset.as_posix(), "stages": found}, ensure_ascii=False))
    return 0


def _print_counts(marker: dict[str, Any], wanted: int | None) -> None:
    train, val = marker["train"], marker["val"]
    print(
        f"train: {train['rows']} rows; {train['positives']} positives in {train['positive_rows']} rows, "
        f"{train['hard_negatives']} hard and {train['random_negatives']} random negatives in "
        f"{train['negative_rows']} rows"
    )
    if wanted is not None and train["rows"] != wanted:
        print(f"       --rows {wanted} does not hold each positive once at the card's ratio, so it is not kept to")
    if train["negatives_without_prediction"]:
        print(f"       {train['negatives_without_prediction']} negatives have no prediction and could not be mined")
    print(f"val:   {val['rows']} rows; {val['positives']} positives, {val['negatives']} negatives")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value
