"""One process of a training run, started by torchrun or Ray: takes the last whole checkpoint, and trains.

LLaMA-Factory resumes from the checkpoint with the highest number, also when a lost process left it half written. Every
process therefore removes such checkpoints first; all see the same files, so all take the same checkpoint.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.train.command import resolved_recipe
from launch.train.config import TrainConfig
from launch.training import remove_broken_checkpoints

__all__ = ["main"]


def main(argv: Sequence[str]) -> None:
    """Train; the arguments are a recipe and ``key=value`` words."""
    recipe, *overrides = argv
    output_dir = Path(resolved_recipe(TrainConfig(recipe=Path(recipe), overrides=tuple(overrides)))["output_dir"])
    for checkpoint in remove_broken_checkpoints(output_dir):
        print(f"{checkpoint} was half written when the run was lost; removed", file=sys.stderr)
    sys.argv = ["llamafactory-cli", recipe, *overrides]

    from llamafactory.train.tuner import run_exp

    run_exp()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback from every process
    main(sys.argv[1:])
