"""``riskfuse amplify``: a checkpoint directory with a hazard amplifier, from a plain one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "prepare a Qwen2.5-VL checkpoint with a hazard amplifier; its weights are linked, not copied"
EXAMPLE = "riskfuse amplify models/tiny-qwen2_5-vl models/tiny-amplified"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("base", metavar="BASE", help="directory of a Qwen2.5-VL checkpoint")
    parser.add_argument("out", metavar="OUT", type=Path, help="directory to write, on the same file system")
    parser.add_argument("--queries", type=int, default=4, help="hazard queries (default: 4)")
    parser.add_argument("--width", type=int, default=64, help="channels of a comparison (default: 64)")
    parser.add_argument("--strength", type=float, default=4.0, help="pace of learning, as LoRA's alpha (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights (default: 0)")
    loss = parser.add_argument_group("auxiliary loss: each photo against its answer, in training only")
    loss.add_argument("--aux-weight", type=float, default=0.0, help="its weight (default: 0, none)")
    loss.add_argument("--task", type=Path, help="task card whose answers it learns from")
    loss.add_argument("--stage", help="stage of the task card, one with two answers")


def run(args: argparse.Namespace) -> int:
    """Prepare the directory, or say that nothing had to be done."""
    from launch.amplifier.checkpoint import prepare_checkpoint

    if prepare_checkpoint(args.base, args.out, _options(args)):
        print(f"wrote {args.out}; a recipe takes it with these lines:")
    else:
        print(f"{args.out} is complete for the same base and options; nothing to do. In a recipe:")
    print(f"model_name_or_path: {args.out}\ntrust_remote_code: true\nadditional_target: hazard_amplifier")
    return 0


def _options(args: argparse.Namespace) -> Any:
    from pydantic import ValidationError

    from launch.amplifier import AmplifierOptions

    if (args.task is None) != (args.stage is None):
        raise ConfigError("--task and --stage go together: a task card and one of its stages")
    values = {name: getattr(args, name) for name in ("queries", "width", "strength", "seed")}
    if args.task is not None and args.aux_weight:
        from dataset_builders.task_card import load_task_card
        from launch.amplifier.answer_tokens import deciding_tokens

        values |= deciding_tokens(Path(args.base), load_task_card(args.task), args.stage)
    try:
        return AmplifierOptions(**values, auxiliary_weight=args.aux_weight)
    except ValidationError as error:
        findings = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'flags'}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{findings}. See riskfuse amplify --help") from None
