"""``riskfuse parity``: do two engines, or an adapter and its merged model, predict the same?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "compare two predictions directories: top answers, differences of probabilities; exit 1 beyond the bounds"
EXAMPLE = "riskfuse parity predictions/base predictions/base_vllm --max-difference 0.02 --min-agreement 0.99"
SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("first", type=Path, help="predictions directory")
    parser.add_argument("second", type=Path, help="predictions directory, of the same photos or of a sample of them")
    parser.add_argument("--max-difference", type=float, default=0.02, help="of a probability, 0 to 1 (default: 0.02)")
    parser.add_argument(
        "--min-agreement", type=float, default=0.99, help="share of photos with the same top answer (default: 0.99)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")


def run(args: argparse.Namespace) -> int:
    """Compare; 0 within the bounds, 1 beyond them."""
    from dataset_builders.errors import ConfigError
    from fusion.parity import ParityBounds, format_parity, measure_parity

    for name in ("max_difference", "min_agreement"):
        if not 0 <= getattr(args, name) <= 1:
            raise ConfigError(f"--{name.replace('_', '-')} must be from 0 to 1, got {getattr(args, name)}")
    bounds = ParityBounds(max_difference=args.max_difference, min_agreement=args.min_agreement)
    parity = measure_parity(args.first, args.second)
    if args.json:
        print(json.dumps(parity.as_json(bounds), ensure_ascii=False))
    else:
        print(format_parity(parity, bounds))
        for sample_id in parity.disagreements[:SHOWN]:
            print(f"another top answer: {sample_id}")
        if len(parity.disagreements) > SHOWN:
            print(f"… and {len(parity.disagreements) - SHOWN} more; --json has them all")
        print("within the bounds" if parity.within(bounds) else "beyond the bounds")
    return 0 if parity.within(bounds) else 1
