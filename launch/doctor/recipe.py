"""Does a recipe run on this machine? Asks ``riskfuse check`` and ``riskfuse plan``, each in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from launch.doctor.accelerator import Gpus
from launch.doctor.child import ask_child
from launch.doctor.result import GIB, Result, error, note, ok, warning
from launch.recipe import TrainingRecipe
from launch.train.command import plain_command
from launch.train.config import TrainConfig

__all__ = ["check_recipe_here"]

TIMEOUT_S = 600.0
_HALF = ("bf16", "fp16", "pure_bf16")


def check_recipe_here(recipe: TrainingRecipe, task: Path | None, gpus: Gpus, memory: int) -> list[Result]:
    """What ``riskfuse check`` finds, whether the training fits this machine, and the command that starts it here.

    Args:
        recipe: The training recipe.
        task: Task card, for ``riskfuse check`` and for the length of a prompt.
        gpus: GPUs of this machine.
        memory: Main memory in bytes, which stands in for a GPU's where there is none.
    """
    return [*_check(recipe, task), *_number_type(recipe, gpus), _fits(recipe, task, gpus, memory), _command(recipe)]


def _riskfuse(words: list[str], task: Path | None) -> tuple[Any, str]:
    card = ["--task", str(task)] if task is not None else []
    return ask_child(["-m", "launch.cli", *words, *card, "--json"], timeout_s=TIMEOUT_S)


def _check(recipe: TrainingRecipe, task: Path | None) -> list[Result]:
    answer, failure = _riskfuse(["check", str(recipe.path)], task)
    if answer is None:
        return [error("recipe", str(recipe.path), f"riskfuse check fails: {failure}", "Run it by itself.")]
    make = {"error": error, "warning": warning}
    rows = [
        make[found["level"]]("recipe", found["where"], found["problem"], found["remedy"])
        for found in answer["findings"]
    ]
    return rows or [ok("recipe", f"{recipe.path}: riskfuse check finds nothing")]


def _number_type(recipe: TrainingRecipe, gpus: Gpus) -> list[Result]:
    """``riskfuse check`` only warns, since a recipe may be meant for another machine; here it is for this one."""
    wanted = [key for key in _HALF if recipe.raw.get(key)]
    if gpus.count or not wanted or recipe.raw.get("use_cpu"):
        return []
    problem = "LLaMA-Factory stops without a GPU that has this number type"
    remedy = f"Train on a GPU, or add `{wanted[0]}=false`."
    return [error("recipe", f"{recipe.path}: {wanted[0]}", problem, remedy)]


def _fits(recipe: TrainingRecipe, task: Path | None, gpus: Gpus, memory: int) -> Result:
    size = gpus.memory_gib if gpus.count else round(memory / GIB, 1)
    words = ["plan", str(recipe.path), "--gpus", str(max(1, gpus.count)), "--memory-gib", str(size)]
    answer, failure = _riskfuse(words, task)
    here = f"{gpus.count} GPUs of {size:g} GiB" if gpus.count else f"{size:g} GiB of main memory, no GPU"
    if answer is None:
        return note("fit", f"{here}: not estimated", failure)
    as_it_is, best = answer["candidates"][0], answer["best"]
    if as_it_is["fits"]:
        return ok("fit", f"{here}: {as_it_is['bytes']['total'] / GIB:.1f} GiB are estimated")
    if gpus.count and best is not None:
        command = next(item["command"] for item in answer["candidates"] if item["name"] == best)
        return error("fit", here, as_it_is["reason"], f"The profile {best} fits: `{command}`.")
    remedy = "Take more or larger GPUs, a smaller model, or a CPU twin from recipes/tiny."
    return error("fit", here, as_it_is["reason"], remedy)


def _command(recipe: TrainingRecipe) -> Result:
    try:
        return note("start it with", plain_command(TrainConfig(recipe=recipe.path)))
    except ConfigError as failure:
        return note("start it with", "not known", str(failure))
