"""``riskfuse llamaboard``: a recipe for LLaMA-Factory's page."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "write a recipe so that LlamaBoard, LLaMA-Factory's page, loads it"
EXAMPLE = "riskfuse llamaboard recipes/tiny/base.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="training recipe of LLaMA-Factory")
    parser.add_argument("--name", help="name of the file in llamaboard_config (default: after the recipe)")


def run(args: argparse.Namespace) -> int:
    """Write it, and say what to do with it."""
    from dataset_builders.errors import ConfigError
    from launch.recipe import load_recipe

    recipe = load_recipe(args.recipe)
    if args.name is not None and (Path(args.name).name != args.name or Path(args.name).suffix != ".yaml"):
        raise ConfigError(f"--name {args.name}: expected the name of a .yaml file, without a directory")
    from launch.llamaboard import config_name, extra_arguments, write_llamaboard_config

    path = write_llamaboard_config(recipe, args.name or config_name(args.recipe))
    print(f"wrote {path}")
    print(f"without a field of their own, in `Extra arguments`: {', '.join(extra_arguments(recipe))}")
    print("start the page in this directory: GRADIO_SERVER_NAME=127.0.0.1 llamafactory-cli webui")
    print(f"then choose {path.name} as `Config path` and press `Load arguments`")
    return 0
