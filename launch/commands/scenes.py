"""``riskfuse scenes``: render the boards of corridor photos."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HELP = "render corridor photos with labels: the boards that training and tests use"
EXAMPLE = "riskfuse scenes recipes/tiny/scenes.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("config", type=Path, help="scenes file, such as recipes/tiny/scenes.yaml")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; changes no pixel")


def run(args: argparse.Namespace) -> int:
    """Render."""
    from dataset_builders.errors import ConfigError
    from dataset_builders.scenes.board import load_scenes_config, make_boards

    if args.workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {args.workers}")
    out = make_boards(
        load_scenes_config(args.config), args.workers, lambda line: print(line, file=sys.stderr, flush=True)
    )
    print(f"photos and label lists: {out}\nto look at: {out / 'contact_sheet.png'}")
    return 0
