"""Starting LLaMA-Factory and reading what a training run left behind. Training itself is ``llamafactory-cli train``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from launch.loopback import loopback_environment
from launch.tracking import TENSORBOARD

__all__ = [
    "TrainingState",
    "has_gpu",
    "last_step",
    "remove_broken_checkpoints",
    "training_command",
    "training_environment",
    "training_progress",
    "training_state",
]

# LLaMA-Factory writes them in this order, after the model, when the last step is done.
_FINAL_FILES = ("all_results.json", "trainer_state.json")


class TrainingState(Enum):
    """What an output directory of LLaMA-Factory holds."""

    ABSENT = "nothing"
    PARTIAL = "an unfinished run"
    FINISHED = "a finished run"


@cache
def has_gpu() -> bool:
    """Whether an NVIDIA GPU is visible. Asks the driver's tool, since asking torch takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "unset").strip() in ("", "-1"):
        return False
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    listing = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU" in listing.stdout


def training_command(recipe: Path) -> list[str]:
    """The command line that trains a recipe with this Python."""
    return [sys.executable, "-m", "llamafactory.cli", "train", str(recipe)]


def training_environment(recipe: dict[str, Any], processes: int | None, *, alone: bool | None = None) -> dict[str, str]:
    """Environment variables that ``llamafactory-cli train`` needs beside the caller's own.

    Args:
        recipe: The recipe's keys.
        processes: Processes on this machine; None leaves the choice (one a GPU) to LLaMA-Factory.
        alone: Whether this is the only machine, whose processes then listen to the loopback address alone; None goes by
            the caller's variables of LLaMA-Factory, ``NNODES`` and ``RDZV_ID``.

    Raises:
        ConfigError: DeepSpeed, or more than one process, on a machine without a GPU and ``processes`` is not given.
    """
    environment = {
        # torchrun is looked up by name, also when the virtual environment is not activated.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "TOKENIZERS_PARALLELISM": "false",
        # peft writes the names of the adapted layers in the order of a Python set: with a fixed seed of its hashes, the
        # same training gives the same bytes.
        "PYTHONHASHSEED": "0",
    }
    if recipe.get("output_dir") and "TENSORBOARD_LOGGING_DIR" not in os.environ:
        # Read by the trainer when it reports to TensorBoard; by itself it makes a new directory at every restart.
        environment["TENSORBOARD_LOGGING_DIR"] = (Path(str(recipe["output_dir"])) / TENSORBOARD).as_posix()
    if Path(str(recipe.get("model_name_or_path"))).is_dir():
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if processes is None and recipe.get("deepspeed") and not has_gpu():
        raise ConfigError(
            "the recipe names a DeepSpeed file, but this machine has no GPU to count processes by; "
            "say how many: training.processes in the pipeline, or NPROC_PER_NODE"
        )
    if recipe.get("deepspeed") or (processes or 1) > 1:
        environment["FORCE_TORCHRUN"] = "1"
    if processes is not None:
        environment["NPROC_PER_NODE"] = str(processes)
    if not has_gpu():
        environment["DS_ACCELERATOR"] = "cpu"
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // (processes or 1)))
    if alone is None:
        alone = os.environ.get("NNODES", "1") == "1" and "RDZV_ID" not in os.environ
    return environment | loopback_environment() if alone else environment


def training_state(output_dir: Path) -> TrainingState:
    """Tell what an output directory holds.

    A run is finished when the trainer wrote its closing files and made the number of steps that it had planned;
    running such a recipe again would train one step more and overwrite the results.
    """
    if not output_dir.is_dir() or not any(output_dir.iterdir()):
        return TrainingState.ABSENT
    if not all((output_dir / name).is_file() for name in _FINAL_FILES):
        return TrainingState.PARTIAL
    try:
        state = json.loads((output_dir / "trainer_state.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return TrainingState.PARTIAL
    done = state.get("global_step", 0) >= max(state.get("max_steps", 0), 1)
    return TrainingState.FINISHED if done else TrainingState.PARTIAL


def remove_broken_checkpoints(output_dir: Path) -> list[Path]:
    """Remove checkpoints that an interruption left half written, so that the run resumes from the one before.

    Several processes may do so at the same time.

    Returns:
        The directories that were removed.
    """
    broken = [path for path in sorted(output_dir.glob("checkpoint-*")) if not _checkpoint_is_whole(path)]
    for path in broken:
        while path.exists():
            shutil.rmtree(path, ignore_errors=True)
    return broken


def last_step(output_dir: Path) -> int | None:
    """The last step that a training logged; None before the first one."""
    try:
        lines = (output_dir / "trainer_log.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        with contextlib.suppress(json.JSONDecodeError):  # the last line may be half written
            return int(json.loads(line)["current_steps"])
    return None


def _checkpoint_is_whole(checkpoint: Path) -> bool:
    # The trainer writes the state last; DeepSpeed names its shards in "latest" after all processes wrote theirs.
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    shards = list(checkpoint.glob("global_step*"))
    if not shards:
        return True
    latest = checkpoint / "latest"
    if not (latest.is_file() and (checkpoint / latest.read_text(encoding="utf-8").strip()).is_dir()):
        return False
    ranks = len(list(shards[0].glob("*zero_pp_rank_*optim_states.pt")))
    return ranks <= 1 or len(list(checkpoint.glob("rng_state_*.pth"))) == ranks


def training_progress(output_dir: Path) -> str | None:
    """One line about a running training: step, loss, time left; None before the first logged step."""
    log = output_dir / "trainer_log.jsonl"
    try:
        lines = log.read_text(encoding="utf-8").splitlines()
        entry = json.loads(lines[-1])
    except (FileNotFoundError, IndexError, json.JSONDecodeError):  # not yet there, or being written just now
        return None
    parts = [f"step {entry.get('current_steps')}/{entry.get('total_steps')}"]
    if (loss := entry.get("loss")) is not None:
        parts.append(f"loss {loss:.3f}")
    elif (loss := entry.get("eval_loss")) is not None:
        parts.append(f"validation loss {loss:.3f}")
    if remaining := entry.get("remaining_time"):
        parts.append(f"{remaining} left")
    return ", ".join(parts)
