"""Runs a training to its end: starts torchrun, and starts it again when it was lost."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from dataset_builders.errors import ConfigError
from launch.build_locks import remove_stale_build_locks
from launch.pipeline.processes import TAG, alone, end_tagged, ended_by_signals
from launch.train.command import resolved_recipe, torchrun_command, torchrun_environment
from launch.train.config import TrainConfig
from launch.training import TrainingState, last_step, training_state

__all__ = ["check_training", "run_training"]

PAUSE_S = 5.0
_WATCH_S = 30.0


@ended_by_signals()
def run_training(config: TrainConfig, say: Callable[[str], None]) -> int:
    """Train to the end, on this machine's part of the run.

    A run that was lost is started again at most ``config.restarts`` times, from the last checkpoint that is whole. On
    one machine a run that was lost before it made a step is not started again: it would fail for the same reason.

    Args:
        config: What to train.
        say: Receives lines for the user.

    Returns:
        Exit status: 0, or that of the last try.

    Raises:
        ConfigError: ``riskfuse check`` found errors.
        StepError: Another ``riskfuse train`` works on the directory.
    """
    recipe = resolved_recipe(config)
    output_dir = Path(str(recipe["output_dir"]))
    if training_state(output_dir) is TrainingState.FINISHED:
        say(f"{output_dir} holds the finished run; nothing to do")
        return 0
    environment = torchrun_environment(config)
    if config.check:
        check_training(recipe, config.recipe)
    resolved = output_dir.resolve()
    resolved.parent.mkdir(parents=True, exist_ok=True)
    refusal = f"another riskfuse train works on {output_dir}; wait for it, end it, or name another output_dir"
    with alone(resolved.with_name(f".{resolved.name}.train{config.node_rank}.lock"), refusal):
        return _train(config, output_dir, environment, say)


def _train(config: TrainConfig, output_dir: Path, environment: dict[str, str], say: Callable[[str], None]) -> int:
    """Under the lock, since what carries the tag is then what a killed run left, and no run that works."""
    command = torchrun_command(config)
    tag = f"train {output_dir.resolve()} {config.node_rank}"
    if left := end_tagged(tag):
        say(f"ended {left} processes that an earlier, killed run left at work on {output_dir}")
    for started in range(config.restarts + 1):
        say(f"$ {shlex.join(command)}")
        before = _traces(output_dir)
        status = _run(command, environment | {TAG: tag}, tag)
        if status == 0 or started == config.restarts:
            return status
        step = last_step(output_dir)
        if config.nodes == 1 and not _traces(output_dir) - before:
            say(f"lost with status {status} before it made a step; not started again, since it would fail again")
            return status
        say(f"lost with status {status} at step {step}; start {started + 2} of {config.restarts + 1}")
        time.sleep(PAUSE_S)
    raise AssertionError("the last start returns")


def _traces(output_dir: Path) -> set[tuple[str, int]]:
    """What steps leave behind, with the time of its last change: the log and checkpoints.

    Step numbers tell nothing: a start counts from its checkpoint, and may be lost before it is where the last one was.
    """
    found = (*output_dir.glob("trainer_log.jsonl"), *output_dir.glob("checkpoint-*/trainer_state.json"))
    return {(str(path), path.stat().st_mtime_ns) for path in found}


def check_training(recipe: dict[str, Any], path: Path) -> None:
    """``riskfuse check`` in a process of its own: what it loads would stay in memory for days here.

    Args:
        recipe: The recipe's keys with all overrides.
        path: Where it was read.

    Raises:
        ConfigError: It found errors.
    """
    with tempfile.TemporaryDirectory() as scratch:  # with the overrides, which may be what is wrong
        resolved = Path(scratch) / path.name
        resolved.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        command = [sys.executable, "-m", "launch.cli", "check", str(resolved)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip().replace(str(resolved), str(path))
        raise ConfigError(f"the training would fail (--no-check skips this):\n{said}")


def _run(command: list[str], environment: dict[str, str], tag: str) -> int:
    process = subprocess.Popen(command, env=os.environ | environment, start_new_session=True)
    try:
        while True:
            try:
                return process.wait(timeout=_WATCH_S)
            except subprocess.TimeoutExpired:
                for lock in remove_stale_build_locks():
                    print(f"removed {lock}, left by a killed process", file=sys.stderr)
    except KeyboardInterrupt:
        process.terminate()  # torchrun ends its processes in order; a second Ctrl-C does not wait
        process.wait()
        raise
    finally:
        end_tagged(tag)
