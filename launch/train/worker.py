"""One process of a training run, started by torchrun: agrees with all others on the checkpoint to go on from, trains.

LLaMA-Factory resumes from the checkpoint with the highest number, also when a lost process left it half written. Here
every process first removes such checkpoints on its machine; then all take the last one that each of them has whole,
which need not be on a shared file system.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from launch.train.command import resolved_recipe
from launch.train.config import TrainConfig
from launch.training import remove_broken_checkpoints, whole_checkpoints

__all__ = ["main"]

PATIENCE = timedelta(minutes=10)


def main(argv: Sequence[str]) -> None:
    """Train; the arguments are a recipe and ``key=value`` words."""
    recipe, *overrides = argv
    output_dir = Path(resolved_recipe(TrainConfig(recipe=Path(recipe), overrides=tuple(overrides)))["output_dir"])
    remove_broken_checkpoints(output_dir)
    step = _common_step(whole_checkpoints(output_dir))
    if step is not None:
        overrides.append(f"resume_from_checkpoint={(output_dir / f'checkpoint-{step}').as_posix()}")
    sys.argv = ["llamafactory-cli", recipe, *overrides]

    from llamafactory.train.tuner import run_exp

    run_exp()


def _common_step(steps: Sequence[int]) -> int | None:
    """The greatest step that is among the steps of every process; None when there is none."""
    world = int(os.environ["WORLD_SIZE"])
    if world == 1:
        return max(steps, default=None)

    from torch.distributed import PrefixStore, TCPStore

    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and os.environ["RANK"] == "0",
        timeout=PATIENCE,
    )
    attempt = PrefixStore(f"riskfuse/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    attempt.set(os.environ["RANK"], json.dumps(list(steps)))
    known = [set(json.loads(attempt.get(str(rank)))) for rank in range(world)]
    return max(set.intersection(*known), default=None)


if __name__ == "__main__":
    main(sys.argv[1:])
