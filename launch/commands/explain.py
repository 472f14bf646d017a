"""``riskfuse explain``: where an amplified model looks in a photo, as a heat map."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dataset_builders.errors import ConfigError

__all__ = ["EXAMPLE", "HELP", "add_arguments", "run"]

HELP = "draw where the hazard amplifier's queries look in photos, and print what the model answers"
EXAMPLE = (
    "riskfuse explain data/corridor/images/board_b/board_b_00001.jpg --recipe recipes/tiny/high_risk_amplified.yaml "
    "--task recipes/tasks/corridor.yaml --stage high_risk --out explanations"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("photos", metavar="PHOTO", type=Path, nargs="+", help="photos to explain")
    parser.add_argument("--recipe", type=Path, required=True, help="training recipe of an amplified model")
    parser.add_argument("--task", type=Path, required=True, help="task card")
    parser.add_argument("--stage", required=True, help="stage of the task card, whose question is asked")
    parser.add_argument("--out", type=Path, required=True, help="directory for one PNG a photo")
    parser.add_argument("--adapter", help="adapter directory (default: the recipe's output_dir); none: the bare base")
    parser.add_argument("--merged", type=Path, help="merged model directory, in place of base and adapter")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")


def run(args: argparse.Namespace) -> int:
    """Explain all photos; 1 when some could not be read (they are listed)."""
    from dataset_builders.errors import PhotoError
    from dataset_builders.task_card import load_task_card
    from launch.predict.model import ModelSpec, load_for_prediction
    from launch.predict.plan import named_model
    from launch.predict.worker import read_photo
    from launch.recipe import load_recipe
    from launch.training import has_gpu

    files = _png_files(args.photos, args.out)
    card, recipe = load_task_card(args.task), load_recipe(args.recipe)
    prompt, answers = card.prompt(args.stage), card.answers(args.stage)
    model, adapter = named_model(recipe, adapter=args.adapter, merged=args.merged)
    device = args.device if args.device != "auto" else "cuda" if has_gpu() else "cpu"
    spec = ModelSpec(
        model=model,
        adapter=adapter,
        preprocessing={"template": recipe.template, **recipe.preprocessing},
        device=device,
        dtype=args.dtype,
        threads=1,
    )
    from launch.amplifier.explanation import Explainer
    from launch.amplifier.heat_map import draw_heat_map

    explainer = Explainer(load_for_prediction(spec), prompt, answers)
    failed = 0
    for path, file in zip(args.photos, files, strict=True):
        try:
            photo = read_photo(str(path))
        except PhotoError as error:
            print(f"failed: {path}: {error}", file=sys.stderr)
            failed += 1
            continue
        explanation = explainer.explain(photo)
        draw_heat_map(file, photo, explanation, path.name)
        print(f"{file}: " + ", ".join(f"p({name}) = {p:.4f}" for name, p in explanation.probabilities.items()))
    return 1 if failed else 0


def _png_files(photos: list[Path], out: Path) -> list[Path]:
    files = [out / f"{path.stem}.png" for path in photos]
    for path, file in zip(photos, files, strict=True):
        if files.count(file) > 1:
            raise ConfigError(f"{path}: another photo would be drawn to {file} too; explain them one after the other")
        if file.resolve() == path.resolve():
            raise ConfigError(f"{path}: would be overwritten; name another directory with --out")
    return files
