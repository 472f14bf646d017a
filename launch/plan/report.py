"""The table of ``riskfuse plan``: GiB on each GPU, what fits, and the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch.plan.estimate import GIB
from launch.plan.plan import AS_IT_IS, Candidate, Plan

__all__ = ["plan_as_json", "render_plan"]

_COLUMNS = ("weights", "gradients", "optimizer", "activations", "logits", "reserve", "total")
_PHASES = {
    "loss": "when the loss is known",
    "language": "in the language model's backward pass",
    "vision": "in the vision tower's backward pass",
    "evaluation": "in evaluation",
}


def render_plan(plan: Plan) -> str:
    """The plan as text."""
    hardware, tokens = plan.hardware, plan.tokens
    nodes = f"{hardware.nodes} nodes x " if hardware.nodes > 1 else ""
    width = max(len(candidate.name) for candidate in plan.candidates)
    lines = [
        f"{plan.recipe} on {nodes}{hardware.gpus} GPU{'s' * (hardware.gpus > 1)} of {hardware.memory_gib:g} GiB",
        f"longest example: {tokens.photo} + {tokens.text} tokens, photo + text ({tokens.source})",
        f"examples of a step: {plan.global_batch}, in all rows",
        "",
        "GiB on each GPU, estimated:",
        "  ".join(["".ljust(width), " batch", *(f"{column:>11}" for column in _COLUMNS), "  fits"]),
    ]
    lines += [_row(candidate, width) for candidate in plan.candidates]
    lines.append("")
    for candidate in plan.candidates:
        if not candidate.fits:
            lines.append(f"{candidate.name} does not fit: {candidate.reason}")
        elif candidate.memory is not None:
            lines.append(f"{candidate.name} fits; most memory is needed {_PHASES[candidate.memory.phase]}")
    lines += ["", *_conclusion(plan)]
    return "\n".join(lines) + "\n"


def _row(candidate: Candidate, width: int) -> str:
    if candidate.memory is None or candidate.settings is None:
        return "  ".join([candidate.name.ljust(width), f"{'-':>6}", *(f"{'-':>11}" for _ in _COLUMNS), "    no"])
    parts = candidate.memory.parts | {"total": candidate.memory.total}
    cells = [f"{parts[column] / GIB:>11.1f}" for column in _COLUMNS]
    answer = "yes" if candidate.fits else "no"
    return "  ".join([candidate.name.ljust(width), f"{candidate.settings.batch:>6}", *cells, f"{answer:>6}"])


def _conclusion(plan: Plan) -> list[str]:
    if plan.best is None:
        return ["None fits. Take more or larger GPUs, or a smaller model."]
    name = "the recipe as it is" if plan.best.name == AS_IT_IS else plan.best.name
    lines = [
        f"Take {name}: of those that fit, the one that moves and computes the least twice (no offload, no ZeRO-3, no "
        "checkpointing), then the one with the largest passes. This is counted, not measured.",
        f"  {plan.best.command}",
    ]
    if plan.hardware.nodes > 1:
        last = plan.hardware.nodes - 1
        lines.append(f"On each node with its NODE_RANK, 0 to {last}, and node 0's address as MASTER_ADDR.")
    return lines


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """The plan for scripts; memory in bytes."""

    def row(candidate: Candidate) -> Mapping[str, Any]:
        memory = candidate.memory
        return {
            "name": candidate.name,
            "fits": candidate.fits,
            "reason": candidate.reason,
            "phase": memory.phase if memory else None,
            "bytes": memory.parts | {"total": memory.total} if memory else None,
            "command": candidate.command,
        }

    return {
        "recipe": plan.recipe.as_posix(),
        "gpus": plan.hardware.gpus,
        "nodes": plan.hardware.nodes,
        "memory_gib": plan.hardware.memory_gib,
        "photo_tokens": plan.tokens.photo,
        "text_tokens": plan.tokens.text,
        "tokens_from": plan.tokens.source,
        "global_batch": plan.global_batch,
        "candidates": [row(candidate) for candidate in plan.candidates],
        "best": plan.best.name if plan.best else None,
    }
