"""Weighs a recipe and the profiles on it against some GPUs: what fits, why not, and which is fastest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_builders.task_card import load_task_card
from launch.plan.architecture import find_architecture
from launch.plan.estimate import GIB, Memory, additional_parameters, estimate_memory
from launch.plan.profiles import find_profiles, plain_command
from launch.plan.settings import Settings, read_settings
from launch.plan.shortage import shortage
from launch.plan.tokens import ExampleTokens, example_tokens, make_batch
from launch.preflight.arguments import additional_targets
from launch.recipe import TrainingRecipe, load_recipe

__all__ = ["AS_IT_IS", "Candidate", "Hardware", "Plan", "make_plan"]

AS_IT_IS = "recipe"
_STEPS = "gradient_accumulation_steps"


@dataclass(frozen=True)
class Hardware:
    """Where training shall run.

    Attributes:
        gpus: GPUs of a node.
        memory_gib: Memory of each, in GiB.
        nodes: Nodes.
    """

    gpus: int
    memory_gib: float
    nodes: int = 1

    @property
    def world(self) -> int:
        """GPUs of all nodes."""
        return self.gpus * self.nodes


@dataclass(frozen=True)
class Candidate:
    """A recipe with an overlay, on the given hardware.

    Attributes:
        name: The profile's, or ``recipe`` for the recipe as it is.
        settings: What the recipe says then; None when it cannot run on so many GPUs.
        passes: Passes of a step on this hardware, its ``gradient_accumulation_steps``.
        memory: The estimate; None in the same case.
        fits: Whether the estimate is within the GPUs' memory.
        reason: Why it does not fit or cannot run, with the remedy; empty when it fits.
        command: The command line that trains so.
    """

    name: str
    settings: Settings | None
    passes: int
    memory: Memory | None
    fits: bool
    reason: str
    command: str


@dataclass(frozen=True)
class Plan:
    """Everything that ``riskfuse plan`` says.

    Attributes:
        tokens: The longest example.
        global_batch: Examples of one optimiser step, the same in all candidates.
        candidates: The recipe as it is, then the profiles by name.
        best: The fastest that fits, by ``_speed_order``; None when none fits.
    """

    recipe: Path
    hardware: Hardware
    tokens: ExampleTokens
    global_batch: int
    candidates: tuple[Candidate, ...]
    best: Candidate | None


def make_plan(
    path: Path,
    hardware: Hardware,
    *,
    task: Path | None = None,
    profiles: Path = Path("recipes/profiles"),
    changes: Mapping[str, Any] | None = None,
) -> Plan:
    """Estimate a recipe as it is, and with each profile.

    A recipe is written for one GPU: its batch times its accumulation is the number of examples of a step. Every
    candidate keeps that number, by the accumulation that the hardware's number of GPUs asks for.

    Args:
        path: Training recipe of LLaMA-Factory.
        hardware: Where it shall run.
        task: Task card, for the prompt's length when the data set is not there.
        profiles: Directory of the profiles.
        changes: Keys that replace the recipe's and the profiles', to try them out.

    Raises:
        ConfigError: Recipe, card or profile cannot be read, or has keys that are not modelled.
    """
    changes = dict(changes or {})
    loaded = load_recipe(path)
    recipe = TrainingRecipe(loaded.path, dict(loaded.raw) | changes)
    card = load_task_card(task) if task is not None else None
    architecture = find_architecture(recipe.model_name_or_path)
    own = read_settings(recipe.raw, architecture, str(path))
    tokens = example_tokens(recipe, card, own)
    global_batch = own.batch * own.accumulation
    extra = additional_parameters(Path(recipe.model_name_or_path), additional_targets(recipe), own.item)
    candidates = []
    for name, overlay in {AS_IT_IS: {}, **find_profiles(profiles)}.items():
        overlay |= changes
        keys = dict(recipe.raw) | overlay
        settings = read_settings(keys, architecture, str(path) if name == AS_IT_IS else f"{path} with {name}")
        steps, rest = divmod(global_batch, settings.batch * hardware.world)
        if rest or not steps:
            candidates.append(Candidate(name, None, 0, None, False, _indivisible(global_batch, settings, hardware), ""))
            continue
        batch = make_batch(tokens, settings, architecture)
        memory = estimate_memory(architecture, settings, batch, gpus=hardware.world, additional=extra)
        missing = memory.total / GIB - hardware.memory_gib
        reason = shortage(memory, missing, settings, hardware.world) if missing > 0 else ""
        adapted = overlay if steps == settings.accumulation else overlay | {_STEPS: steps}
        command = plain_command(path, adapted, gpus=hardware.gpus, nodes=hardware.nodes)
        candidates.append(Candidate(name, settings, steps, memory, not reason, reason, command))
    best = min((item for item in candidates if item.fits), key=_speed_order, default=None)
    return Plan(path, hardware, tokens, global_batch, tuple(candidates), best)


def _speed_order(candidate: Candidate) -> tuple[bool, bool, int, int, bool]:
    """The less comes first: what costs time, the dearest first.

    Host memory (every number crosses the bus), gathering weights (ZeRO-3: in each pass), computing again what was not
    kept (with frozen weights a pass costs 4 operations a weight and token, and 6 with checkpointing), and the number of
    passes; among equals the one that was written for so many GPUs. An order by counting, no measurement of speed.
    """
    settings = candidate.settings
    assert settings is not None  # it fits
    zero = settings.zero
    offloads = zero.offload_optimizer or zero.offload_parameters
    recomputed = {"off": 0, "trained": 1, "all": 2}[settings.checkpointing]
    return offloads, zero.stage == 3, recomputed, -settings.batch, candidate.passes != settings.accumulation


def _indivisible(global_batch: int, settings: Settings, hardware: Hardware) -> str:
    made = settings.batch * hardware.world
    return f"{hardware.world} x {settings.batch} examples make steps of {made}, which do not divide {global_batch}"
