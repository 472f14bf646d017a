"""Steps that train a recipe or predict with it, for every part that plans steps."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from launch.build_locks import remove_stale_build_locks
from launch.pipeline.step import Command, Step
from launch.training import (
    TrainingState,
    remove_broken_checkpoints,
    training_command,
    training_environment,
    training_progress,
    training_state,
)

__all__ = [
    "local_files",
    "offline_environment",
    "riskfuse_command",
    "teaching_keys",
    "trained_files",
    "training_step",
]

_SHOWN = ("FORCE_TORCHRUN", "NPROC_PER_NODE", "DS_ACCELERATOR")

# Keys of a recipe that change how a training is watched or how fast it is, but not what it learns. Changing them does
# not throw a training away.
_HARMLESS = {
    "dataloader_num_workers",
    "eval_steps",
    "eval_strategy",
    "logging_steps",
    "per_device_eval_batch_size",
    "plot_loss",
    "preprocessing_num_workers",
    "report_to",
    "save_steps",
    "save_total_limit",
}


def riskfuse_command(
    *words: str | Path, environment: dict[str, str] | None = None, partial_success: bool = False
) -> Command:
    """A subcommand of ``riskfuse`` with this Python; ``partial_success``: exit status 1 is no failure."""
    texts = [str(word) for word in words]
    argv = (sys.executable, "-m", "launch.cli", *texts)
    return Command(argv, shlex.join(["riskfuse", *texts]), environment or {}, partial_success)


def training_step(
    name: str,
    recipe: dict[str, Any],
    path: Path,
    *,
    task: Path,
    processes: int | None,
    inputs: Sequence[Path],
    check: bool = True,
    curves: Path | None = None,
    begin: Callable[[], None] | None = None,
) -> Step:
    """The training of a resolved recipe by the plain ``llamafactory-cli train``.

    Args:
        name: Of the step.
        recipe: The resolved recipe.
        path: Where it is or, after ``begin``, will be written.
        task: The task card.
        processes: Training processes; None leaves the choice to LLaMA-Factory.
        inputs: Files of the data set; the base model and the DeepSpeed file are added.
        check: Let ``riskfuse check`` look at the recipe first.
        curves: Directory of TensorBoard's curves; one in the output directory when None.
        begin: Called before the training starts.
    """
    output_dir = Path(recipe["output_dir"])

    def commands() -> list[Command]:
        environment = training_environment(recipe, processes)
        if curves is not None:
            environment["TENSORBOARD_LOGGING_DIR"] = curves.as_posix()
        shown = [f"{key}={environment[key]}" for key in _SHOWN if key in environment]
        words = [*shown, "llamafactory-cli", "train", str(path), *_photos_a_step(recipe, processes)]
        train = Command(tuple(training_command(path)), " ".join(words), environment)
        return [riskfuse_command("check", path, "--task", task), train] if check else [train]

    def start() -> None:
        if begin is not None:
            begin()
        for checkpoint in remove_broken_checkpoints(output_dir):
            print(f"  {checkpoint} was half written when the run was interrupted; removed")
        if curves is not None and not any(output_dir.glob("checkpoint-*")):
            shutil.rmtree(curves, ignore_errors=True)  # of a training that is made anew

    return Step(
        name=name,
        settings={"recipe": teaching_keys(recipe), "processes": processes},
        inputs=(*inputs, *local_files(recipe)),
        outputs=trained_files(recipe),
        owned=(output_dir,),
        make_commands=commands,
        begin=start,
        finished=lambda: training_state(output_dir) is TrainingState.FINISHED,
        refuses_strangers=True,
        progress=lambda: training_progress(output_dir) or _loading(),
    )


def _photos_a_step(recipe: dict[str, Any], processes: int | None) -> list[str]:
    """A shell comment: more processes make larger steps of the same recipe, which learns otherwise with them."""
    if processes is None:
        return []
    rows = int(recipe.get("per_device_train_batch_size", 8))  # transformers' default
    return [f" # {processes * rows * int(recipe.get('gradient_accumulation_steps', 1))} photos a step"]


def _loading() -> str:
    """What there is to say before the first step; a lock that nobody holds would make that last for ever."""
    removed = "".join(f"; removed {lock}, left by a killed process" for lock in remove_stale_build_locks())
    return f"loading model and data{removed}"


def teaching_keys(recipe: dict[str, Any]) -> dict[str, Any]:
    """The keys of a recipe that decide what a training learns."""
    return {key: value for key, value in recipe.items() if key not in _HARMLESS}


def trained_files(recipe: dict[str, Any]) -> tuple[Path, ...]:
    """Files of a finished training by which its result is known; a whole model is known by its metrics file."""
    output_dir = Path(recipe["output_dir"])
    if recipe.get("finetuning_type", "lora") in ("full", "freeze"):
        return (output_dir / "config.json", output_dir / "all_results.json")
    return (output_dir / "adapter_config.json", output_dir / "adapter_model.safetensors")


def offline_environment(recipe: dict[str, Any]) -> dict[str, str]:
    """Environment variables that keep a prediction off the network when the base model is a directory here."""
    is_here = Path(str(recipe.get("model_name_or_path"))).is_dir()
    return {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if is_here else {}


def local_files(recipe: dict[str, Any]) -> list[Path]:
    """The base model, when it is a directory here, and the DeepSpeed file."""
    paths = [Path(str(recipe[key])) for key in ("model_name_or_path", "deepspeed") if recipe.get(key)]
    return [path for path in paths if path.exists()]
