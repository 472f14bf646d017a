"""Where the hazard amplifiers of a run look in photos, as thumbnails with the strongest tokens marked."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataset_builders.errors import ConfigError, PhotoError
from dataset_builders.manifest import read_manifest
from launch.report.run_files import RunFiles, StageFiles

__all__ = ["draw_heat_maps", "mark_relevance"]

SIDE, QUALITY = 200, 74
MARK_RGB, OPACITY = (255, 60, 0), 0.72


def draw_heat_maps(files: RunFiles, sample_ids: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Let every specialist with a hazard amplifier explain photos. Loads the models, one after the other.

    Args:
        files: A run of a pipeline.
        sample_ids: Photos; those that cannot be read are left out.

    Returns:
        Sample id -> (stage, data URI) of each specialist.

    Raises:
        ConfigError: No specialist of the run has an amplifier.
    """
    explainers = {stage.name: explainer for stage in files.stages[1:] if (explainer := _explainer(files, stage))}
    if not explainers:
        raise ConfigError(
            f"{files.run}: no specialist of it has a hazard amplifier, so there are no heat maps; leave out "
            "--heat-maps, or train one (docs/amplifier.md)"
        )
    from launch.predict.worker import read_photo

    wanted = set(sample_ids)
    images = {row.sample_id: row.image for row in read_manifest(files.dataset) if row.sample_id in wanted and row.image}
    found: dict[str, list[tuple[str, str]]] = {}
    for sample_id, image in images.items():
        try:
            photo = read_photo(str(files.dataset / image))
        except PhotoError:
            continue
        found[sample_id] = [
            (name, _data_uri(mark_relevance(photo, explainer.explain(photo).relevance_HWK.max(-1))))
            for name, explainer in explainers.items()
        ]
    return found


def mark_relevance(photo: Any, relevance_HW: np.ndarray) -> Any:
    """A small copy of an RGB PIL image whose amplified tokens are tinted.

    Args:
        photo: The image.
        relevance_HW: How strongly each token is amplified, 0 to 1.
    """
    from PIL import Image

    small = photo.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    strength = np.clip(relevance_HW, 0.0, 1.0) * 255 * OPACITY
    mask = Image.fromarray(strength.astype(np.uint8)).resize(small.size, Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", small.size, MARK_RGB), small, mask)


def _explainer(files: RunFiles, stage: StageFiles) -> Any:
    """The explainer of a stage; None when its model has no amplifier or its recipe is not in the run directory."""
    from launch.amplifier.guards import amplifier_section
    from launch.predict.plan import named_model
    from launch.recipe import load_recipe

    path = files.run / "recipes" / f"{stage.name}.yaml"
    if not path.is_file():
        return None
    recipe = load_recipe(path)
    model, adapter = named_model(recipe, adapter=None, merged=None)
    if amplifier_section(Path(model)) is None:
        return None
    from launch.amplifier.explanation import Explainer
    from launch.predict.model import ModelSpec, load_for_prediction
    from launch.training import has_gpu

    spec = ModelSpec(
        model=model,
        adapter=adapter,
        preprocessing={"template": recipe.template, **recipe.preprocessing},
        device="cuda" if has_gpu() else "cpu",
        dtype="auto",
        threads=1,
    )
    return Explainer(load_for_prediction(spec), files.card.prompt(stage.name), files.card.answers(stage.name))


def _data_uri(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
