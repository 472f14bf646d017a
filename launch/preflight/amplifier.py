"""Would a recipe train its model's hazard amplifier? LLaMA-Factory drops or freezes it without a word otherwise."""

from __future__ import annotations

from pathlib import Path

from dataset_builders.errors import ConfigError
from dataset_builders.sharegpt import stage_of
from dataset_builders.task_card import TaskCard
from launch.amplifier.answer_tokens import deciding_tokens
from launch.amplifier.guards import MODULE, amplifier_section, check_code, model_config
from launch.preflight.arguments import additional_targets
from launch.preflight.datasets import dataset_names_of
from launch.preflight.finding import Finding, error
from launch.recipe import TrainingRecipe

__all__ = ["check_amplifier", "check_auxiliary_loss"]


def check_amplifier(recipe: TrainingRecipe) -> list[Finding]:
    """Is a model's own class loaded, with unchanged code, and is its amplifier trained?"""
    directory = Path(recipe.model_name_or_path)
    config = model_config(directory)
    findings = []
    if "auto_map" in config and not recipe.raw.get("trust_remote_code"):
        problem = f"{directory} has a class of its own, which is not loaded without 'trust_remote_code'"
        findings.append(error(f"{recipe.path}: trust_remote_code", problem, "Set 'trust_remote_code: true'."))
    if MODULE not in config:
        return findings
    try:
        check_code(directory)
    except ConfigError as refusal:
        findings.append(error(f"{recipe.path}: model_name_or_path", str(refusal), "Training would run that code."))
    if recipe.trains_adapter and MODULE not in additional_targets(recipe):
        problem = f"{directory} has a {MODULE}, which LLaMA-Factory would freeze and leave out of the adapter"
        findings.append(error(f"{recipe.path}: additional_target", problem, f"Set 'additional_target: {MODULE}'."))
    if recipe.raw.get("finetuning_type") == "freeze":
        problem = f"{directory} has a {MODULE}, which freeze tuning does not train: it opens layers of the base alone"
        findings.append(error(f"{recipe.path}: finetuning_type", problem, "Use lora with additional_target, or full."))
    return findings


def check_auxiliary_loss(recipe: TrainingRecipe, card: TaskCard) -> list[Finding]:
    """Are the answers that the amplifier's own loss waits for those of the data sets? It is zero for all others."""
    directory = Path(recipe.model_name_or_path)
    section = amplifier_section(directory)
    if section is None or not section.get("auxiliary_weight"):
        return []
    findings = []
    for stage in dict.fromkeys(stage_of(name, card) for name in dataset_names_of(recipe, "dataset")):
        where = f"{recipe.path}: model_name_or_path"
        remedy = f"Prepare it again: riskfuse amplify … --aux-weight with this task card and --stage {stage}."
        try:
            expected = deciding_tokens(directory, card, stage)
        except ConfigError as refusal:
            findings.append(error(where, f"{directory} was prepared with --aux-weight, but {refusal}", remedy))
            continue
        if any(section.get(key) != value for key, value in expected.items()):
            problem = f"{directory} was prepared with --aux-weight for other answers than stage {stage!r} has"
            findings.append(error(where, problem, remedy))
    return findings
