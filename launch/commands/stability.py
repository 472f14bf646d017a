"""``riskfuse stability``: how far predictions move when something is changed that should not matter."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "label flips and spread over batch sizes, workers, number types, prompts, mirror images and training seeds"
EXAMPLE = (
    "riskfuse stability --recipe recipes/tiny/base.yaml --task recipes/tasks/corridor.yaml --stage base "
    "--data data/corridor --photos 200 --adapters saves/board/base --out runs/board/stability"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    required = parser.add_argument_group("what to predict, over and over")
    required.add_argument("--recipe", type=Path, required=True, help="training recipe: model, template, pixel budget")
    required.add_argument("--task", type=Path, required=True, help="task card")
    required.add_argument("--stage", required=True, help="stage of the task card: base or a specialist's name")
    required.add_argument("--data", type=Path, required=True, help="data set directory with manifest.parquet")
    required.add_argument("--out", type=Path, required=True, help="directory of the report and of all predictions")
    photos = parser.add_argument_group("photos")
    photos.add_argument("--split", default="test", help="split of the data set (default: test)")
    photos.add_argument("--photos", type=int, help="so many photos, drawn at random (default: all)")
    varied = parser.add_argument_group("what is varied: the first of each list is the reference")
    varied.add_argument("--adapters", nargs="+", default=(), help="adapters of several training seeds")
    varied.add_argument("--batch-sizes", type=int, nargs="+", default=(8, 1, 32), help="default: 8 1 32")
    varied.add_argument(
        "--workers", type=int, nargs="*", default=(1, 2), help="Ray actors (default: 1 2); none: without Ray"
    )
    varied.add_argument("--dtypes", nargs="+", default=("float32", "bfloat16"), help="default: float32 bfloat16")
    varied.add_argument("--views", nargs="+", default=("none", "flip"), help="test-time views (default: none flip)")
    varied.add_argument("--paraphrases", type=Path, help="YAML file with other prompts, see docs/stability.md")
    work = parser.add_argument_group("work")
    work.add_argument("--shard-size", type=int, default=64, help="photos in a part file (default: 64)")
    work.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    work.add_argument("--resamples", type=int, default=2000, help="bootstrap resamples of intervals (default 2000)")
    work.add_argument("--seed", type=int, default=0, help="seed of the photos and resamples (default 0)")


def run(args: argparse.Namespace) -> int:
    """Predict, compare and print the table."""
    from launch.stability import run_stability

    report = run_stability(_config(args))
    print(report.table, end="")
    print(f"report: {report.out}/stability.txt, .csv, .json, .png")
    return 0


def _config(args: argparse.Namespace) -> Any:
    from pydantic import ValidationError

    from launch.stability import StabilityConfig

    try:
        return StabilityConfig(**{name: getattr(args, name) for name in StabilityConfig.model_fields})
    except ValidationError as error:
        findings = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'flags'}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{findings}. See riskfuse stability --help") from None
