"""``riskfuse verify``: drop augmented copies whose label is no longer true."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from dataset_builders.stores import location

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "score augmented copies against their originals and drop those whose label is no longer true"
EXAMPLE = (
    "riskfuse verify data/corridor_vl_adas --task recipes/tasks/corridor.yaml --by stage1 "
    "--predictions predictions/copies/fold-* --contact-sheet verification.html"
)
# Never drops a copy that is as probable as its original, see DropRule.
DROP_BELOW = -1.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("dataset", type=Path, help="data set directory, made by riskfuse augment")
    parser.add_argument("--task", type=Path, required=True, help="task card (YAML)")
    parser.add_argument(
        "--by",
        choices=("stage1", "dual_encoder", "none"),
        required=True,
        help="the first stage's out-of-fold predictions, a CLIP-like model, or nobody: all copies come back",
    )
    parser.add_argument(
        "--predictions", type=location, nargs="+", default=[], metavar="DIR", help="stage1: directories, of every fold"
    )
    encoder = parser.add_argument_group("dual encoder")
    encoder.add_argument("--model", help="directory or hub name of a CLIP- or SigLIP-like model")
    encoder.add_argument("--texts", type=Path, help="YAML file, label id: text (default: the card's rules)")
    encoder.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    encoder.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    encoder.add_argument("--batch-size", type=int, default=32, help="photos in a forward pass (default: 32)")
    drop = parser.add_argument_group("which copies are dropped").add_mutually_exclusive_group()
    drop.add_argument("--drop-below", type=float, metavar="V", help=f"scores under this value (default: {DROP_BELOW})")
    drop.add_argument("--drop-quantile", type=float, metavar="Q", help="this share of each label's copies, the worst")
    parser.add_argument("--contact-sheet", type=Path, metavar="FILE.html", help="page with originals and copies")
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the text")


def run(args: argparse.Namespace) -> int:
    """Verify, or say that nothing had to be done; print the counts."""
    import json
    import sys

    from dataset_builders.augment.verified_set import verify_copies
    from dataset_builders.task_card import load_task_card
    from launch.out_of_fold.unvouched import notes_on_unvouched

    card = load_task_card(args.task)
    rule = _rule(args)
    result = verify_copies(args.dataset, card, _judge(args, card), rule)
    verification = result.marker["verification"]
    for note in notes_on_unvouched(args.predictions, "is certain of every copy, and none is dropped"):
        print(note, file=sys.stderr)
    text = sys.stderr if args.json else sys.stdout
    for label_id, counts in verification["labels"].items():
        mean = f", mean score {counts['mean_score']:.2f}" if "mean_score" in counts else ""
        print(f"{label_id}: {counts['dropped']} of {counts['copies']} copies dropped{mean}", file=text)
    if args.contact_sheet is not None:
        from dataset_builders.augment.contact_sheet import write_verification_sheet

        write_verification_sheet(args.contact_sheet, args.dataset, card, verification)
        print(f"wrote {args.contact_sheet}", file=text)
    if result.fresh:
        print(f"wrote {args.dataset}; dropped copies are listed in build.json under verification", file=text)
    else:
        print(f"{args.dataset} is verified by the same judge and rule; nothing to do", file=text)
    if args.json:
        found = {"dataset": args.dataset.as_posix(), "fresh": result.fresh, **verification}
        print(json.dumps(found, ensure_ascii=False))
    return 0


def _rule(args: argparse.Namespace) -> Any:
    from pydantic import ValidationError

    from dataset_builders.augment.verification import DropRule

    given = args.drop_below is not None or args.drop_quantile is not None
    if args.by == "none":
        if given:
            raise ConfigError("--by none scores nothing, so nothing can be dropped; leave out --drop-below/-quantile")
        return DropRule()
    try:
        return DropRule(below=args.drop_below if given else DROP_BELOW, quantile=args.drop_quantile)
    except ValidationError as error:
        raise ConfigError("; ".join(f"--drop-{item['loc'][0]}: {item['msg']}" for item in error.errors())) from None


def _judge(args: argparse.Namespace, card: Any) -> Any:
    """The judge, or None. Flags of another judge are refused: they would do nothing."""
    flags = {"stage1": ("predictions",), "dual_encoder": ("model", "texts")}
    for judge, names in flags.items():
        given = [f"--{name}" for name in names if getattr(args, name)]
        if args.by != judge and given:
            raise ConfigError(f"{' and '.join(given)} can only be used with --by {judge}, but --by is {args.by}")
        if args.by == judge and not getattr(args, names[0]):
            raise ConfigError(f"--by {judge} needs --{names[0]}")
    if args.by == "stage1":
        from dataset_builders.augment.judges import StageOneJudge

        return StageOneJudge(args.predictions, card)
    if args.by == "dual_encoder":
        from launch.training import has_gpu
        from launch.verify import DualEncoderJudge, label_texts

        if args.batch_size < 1:
            raise ConfigError(f"--batch-size must be at least 1, got {args.batch_size}")
        device = args.device if args.device != "auto" else "cuda" if has_gpu() else "cpu"
        return DualEncoderJudge(
            args.model, label_texts(card, args.texts), device=device, dtype=args.dtype, batch_size=args.batch_size
        )
    return None
