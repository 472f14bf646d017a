"""The step of a stage with a hazard amplifier, ``riskfuse amplify``, and what its recipe then names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataset_builders.errors import ConfigError
from launch.amplifier.guards import MODULE, amplifier_section
from launch.pipeline.config import PipelineConfig
from launch.pipeline.model_steps import riskfuse_command
from launch.pipeline.step import Step
from launch.preflight.arguments import additional_targets
from launch.recipe import TrainingRecipe, load_recipe

__all__ = ["amplified_dir", "amplified_inputs", "amplified_recipe", "amplify_step"]


def amplified_dir(config: PipelineConfig, name: str) -> Path:
    """Where a stage's base model with an amplifier lies; its weights are links."""
    return config.runs_dir / "models" / name


def amplified_inputs(config: PipelineConfig, name: str) -> tuple[Path, ...]:
    """What a training of the stage reads beside its recipe's files, also before it is there."""
    return () if config.stage(name).amplifier is None else (amplified_dir(config, name),)


def amplified_recipe(recipe: dict[str, Any], model: Path) -> dict[str, Any]:
    """The recipe on the amplified base: LLaMA-Factory loads its class, and trains the module beside LoRA."""
    changed = recipe | {"model_name_or_path": model.as_posix(), "trust_remote_code": True}
    parsed = TrainingRecipe(Path(), recipe)
    if parsed.trains_adapter:
        targets = dict.fromkeys([*additional_targets(parsed), MODULE])
        changed["additional_target"] = ",".join(targets)
    return changed


def amplify_step(config: PipelineConfig, name: str, options: Sequence[str]) -> Step:
    """Prepare the base of a stage.

    Args:
        config: The pipeline.
        name: Name of the stage.
        options: Further options of ``riskfuse amplify``.

    Raises:
        ConfigError: The stage's recipe names no base model that is a directory here, or one that has an amplifier.
    """
    stage = config.stage(name)
    values = dict(load_recipe(stage.recipe).raw) | stage.overrides
    base, out = Path(TrainingRecipe(stage.recipe, values).model_name_or_path), amplified_dir(config, name)
    if not base.is_dir():
        raise ConfigError(
            f"{stage.recipe}: model_name_or_path: {base} is no directory here, which stage {name!r} needs for its "
            f"amplifier; `hf download {base} --local-dir models/{base.name}`, then override model_name_or_path with it"
        )
    if amplifier_section(base) is not None:
        raise ConfigError(f"{stage.recipe}: {base} has an amplifier already; leave out `amplifier` of stage {name!r}")
    return Step(
        name=f"amplify_{name}",
        settings={"options": list(options)},
        inputs=(base,),
        outputs=(out / "config.json", out / f"{MODULE}.safetensors"),
        owned=(out,),
        make_commands=lambda: [riskfuse_command("amplify", base, out, *options)],
    )
