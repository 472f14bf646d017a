"""``riskfuse out-of-fold``: predictions on training photos by models that were trained without them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "train one model a fold and score every training photo with the one that has not seen it; resumable"
EXAMPLE = (
    "riskfuse out-of-fold recipes/tiny/base.yaml --task recipes/tasks/corridor.yaml --data data/corridor "
    "--out predictions/out_of_fold --saves saves/out_of_fold"
)
SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="the stage's training recipe; all folds are trained by it")
    required = parser.add_argument_group("what and where to")
    required.add_argument("--task", type=Path, required=True, help="task card")
    required.add_argument("--data", type=Path, required=True, help="data set directory whose folds are trained")
    required.add_argument("--out", type=Path, required=True, help="predictions, one directory a fold")
    required.add_argument("--saves", type=Path, required=True, help="adapters, one directory a fold")
    specialist = parser.add_argument_group("a specialist in place of stage 1")
    specialist.add_argument("--stage", default="base", help="stage of the task card (default: base)")
    specialist.add_argument(
        "--mining", type=Path, nargs="+", default=(), help="the base stage's out-of-fold predictions, for the negatives"
    )
    specialist.add_argument("--rows", type=int, help="rows of a training set, as in riskfuse specialist")
    specialist.add_argument("--seed", type=int, default=0, help="of the random negatives, as in riskfuse specialist")
    folds = parser.add_argument_group("folds")
    folds.add_argument("--folds", help="do only these, such as 0,2; photos of the others get no prediction")
    folds.add_argument(
        "--predict-data", type=Path, help="score this data set, an augmented copy of --data (default: --data itself)"
    )
    folds.add_argument("--with-copies", action="store_true", help="augmented copies of --data take part in training")
    training = parser.add_argument_group("training")
    training.add_argument("--override", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="recipe keys")
    training.add_argument("--processes", type=int, help="training processes (default: one a GPU)")
    prediction = parser.add_argument_group("prediction")
    prediction.add_argument("--engine", choices=("ray", "local"), default="ray", help="as in riskfuse predict")
    prediction.add_argument("--workers", type=int, default=1, help="Ray actors (default: 1)")
    prediction.add_argument("--batch-size", type=int, default=16, help="photos in a forward pass (default: 16)")
    prediction.add_argument("--shard-size", type=int, default=128, help="photos in a part file (default: 128)")


def run(args: argparse.Namespace) -> int:
    """Train and predict; 0 when every photo was read, 1 when some failed (they are listed)."""
    from launch.out_of_fold import run_out_of_fold

    config = _config(args)
    report = run_out_of_fold(config)
    for row in report.failed_rows[:SHOWN]:
        print(f"failed: {row['sample_id']}: {row['error']}", file=sys.stderr)
    if len(report.failed_rows) > SHOWN:
        print(f"… and {len(report.failed_rows) - SHOWN} more, in {config.out}/fold-*/predictions.json", file=sys.stderr)
    for line in _summary(report.marker, report.left_out, config.out):
        print(line)
    return 1 if report.failed_rows else 0


def _summary(marker: dict[str, Any], left_out: tuple[int, ...], out: Path) -> list[str]:
    photos, total = marker["photos"], marker["photos_of_data_set"]
    copies = f" and {marker['copies']} augmented copies" if marker["copies"] else ""
    lines = [
        f"{len(marker['folds'])} of {marker['folds_of_data_set']} folds: {photos} of {total} photos{copies}, each "
        f"scored by a model that saw neither it nor a near-duplicate nor a copy: {out}/fold-*"
    ]
    if left_out:
        lines += [
            f"what this costs: {total - photos} photos ({(total - photos) / total:.0%}) have no out-of-fold "
            "prediction. Mining, calibration and checks can use",
            "the others alone, so what they say rests on fewer photos of each class and on fewer models. For the "
            f"rest: --folds {','.join(map(str, left_out))}",
        ]
    return lines


def _config(args: argparse.Namespace) -> Any:
    from pydantic import ValidationError

    from launch.out_of_fold import OutOfFoldConfig

    values = {name: getattr(args, name) for name in OutOfFoldConfig.model_fields if name not in ("folds", "overrides")}
    folds = None if args.folds is None else tuple(name.strip() for name in args.folds.split(",") if name.strip())
    try:
        return OutOfFoldConfig(**values, folds=folds, overrides=_overrides(args.override))
    except ValidationError as error:
        findings = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'flags'}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{findings}. See riskfuse out-of-fold --help") from None


def _overrides(words: list[str]) -> dict[str, Any]:
    """KEY=VALUE words, read as LLaMA-Factory's command line reads them."""
    from omegaconf import OmegaConf

    if bare := [word for word in words if "=" not in word]:
        raise ConfigError(f"--override takes KEY=VALUE, got {', '.join(bare)}")
    values: Any = OmegaConf.to_container(OmegaConf.from_cli(words))
    return values
