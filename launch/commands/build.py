"""``riskfuse build``: photos and labels in, a LLaMA-Factory data set directory out."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "verify photos and labels and write the data set directory that training and prediction read"
EXAMPLE = "riskfuse build recipes/data/corridor.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("config", type=Path, help="build config; its paths are relative to the current directory")
    parser.add_argument("--workers", type=int, help="processes, instead of the config's; changes no byte of the result")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the text")


def run(args: argparse.Namespace) -> int:
    """Build, or say that nothing had to be done; print the counts."""
    import json

    from dataset_builders.build import build_dataset
    from dataset_builders.build_config import load_build_config
    from dataset_builders.summary import render_summary

    config = load_build_config(args.config)
    if args.workers is not None:
        config = config.with_workers(args.workers)
    result = build_dataset(config)
    if args.json:
        found = {"out": config.out.as_posix(), "fresh": result.fresh, **result.marker}
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print(render_summary(result.marker))
    if result.fresh:
        print(f"\nwrote {config.out}")
    else:
        print(f"\n{config.out} is complete for the same inputs and config; nothing to do")
    return 0
