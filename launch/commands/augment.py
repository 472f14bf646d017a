"""``riskfuse augment``: a data set directory with augmented copies of the training photos."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "add augmented copies of training photos to a data set, so many of each class; resumable"
EXAMPLE = "riskfuse augment recipes/augment/corridor.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("policy", type=Path, help="augmentation policy (YAML)")
    parser.add_argument("--dataset", type=Path, help="data set to augment, in place of the policy's")
    parser.add_argument("--out", type=Path, help="data set directory to write, in place of the policy's")
    parser.add_argument("--seed", type=int, help="seed, in place of the policy's")
    parser.add_argument("--workers", type=int, help="processes, in place of the policy's; changes no byte")
    parser.add_argument(
        "--gallery", type=Path, metavar="FILE.html", help="page with originals and copies of each class"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the text")


def run(args: argparse.Namespace) -> int:
    """Augment, and print how many rows and copies every class has."""
    import json
    import sys

    from dataset_builders.augment.augment import augment_dataset
    from dataset_builders.augment.config import load_augment_config
    from dataset_builders.summary import render_summary

    changes = {"dataset": args.dataset, "out": args.out, "seed": args.seed, "workers": args.workers}
    config = load_augment_config(args.policy).with_changes({k: v for k, v in changes.items() if v is not None})
    result = augment_dataset(config)
    if args.json:
        found = {"out": config.out.as_posix(), "fresh": result.fresh, **result.marker}
        print(json.dumps(found, ensure_ascii=False))
    else:
        done = f"wrote {config.out}" if result.fresh else f"{config.out} is complete for the same inputs; nothing to do"
        print(f"{render_summary(result.marker)}\n\n{done}")
    if args.gallery is not None:
        from dataset_builders.augment.gallery import write_gallery
        from dataset_builders.task_card import load_task_card

        write_gallery(args.gallery, config.out, load_task_card(config.task))
        print(f"wrote {args.gallery}", file=sys.stderr if args.json else sys.stdout)
    return 0
