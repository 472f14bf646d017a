"""All stages of a run on one photo that is not of the run; models are loaded when first needed, and kept."""

from __future__ import annotations

import argparse
import base64
import math
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import BASE
from fusion.fusion_model import MODEL_NAME, FusionModel, load_fusion_model
from fusion.review_queue import expected_costs, queued_for_review, review_reasons
from fusion.systems import UNDECIDED
from launch.predict.views import average_views, view_photos
from launch.report.run_files import RunFiles
from launch.review.opinion import Opinion, SecondLook

__all__ = ["OnePhoto", "Scored"]


@dataclass(frozen=True)
class Scored:
    """What a run says about one photo.

    Attributes:
        opinion: Of the models.
        heat_maps: Stage and data URI of a PNG, of each specialist with a hazard amplifier.
        image: RGB PIL image, as the models see it before they resize it.
    """

    opinion: Opinion
    heat_maps: tuple[tuple[str, str], ...]
    image: Any


@dataclass(frozen=True)
class _Stage:
    """A loaded stage; ``explainer`` is None without a hazard amplifier."""

    name: str
    scorer: Any
    explainer: Any


class OnePhoto:
    """Scores single photos as the run's pipeline scores its own.

    Args:
        files: The run, see ``find_run``.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}

    def score(self, path: Path) -> Scored:
        """Score a photo with every stage and fuse.

        Args:
            path: The photo.

        Raises:
            ConfigError: The run's models or recipes are not here.
            DataError: The fusion cannot be read.
            PhotoError: The photo cannot be read.
        """
        from launch.predict.worker import read_photo

        image = read_photo(str(path))
        with self._lock:  # one model at a time; and each is loaded once
            model = self._fusion_model()
            names = (BASE, *(specialist.name for specialist in model.parameters.specialists))
            stages = [self._stage(name) for name in names]
            logps = [self._answers(stage, image) for stage in stages]
            maps = tuple((stage.name, _heat_map(stage, image)) for stage in stages if stage.explainer is not None)
        return Scored(self._opinion(model, logps), maps, image)

    def _fusion_model(self) -> FusionModel:
        if self._files.fusion is None:
            raise ConfigError(f"{self._files.run}: fusion has not been run yet; run the pipeline first")
        model = load_fusion_model(self._files.fusion / MODEL_NAME)
        if model.labels != self._files.card.label_ids:
            raise ConfigError(
                f"{self._files.fusion / MODEL_NAME}: fitted for the labels {', '.join(model.labels)}, but the task "
                f"card has {', '.join(self._files.card.label_ids)}; fuse again"
            )
        return model

    def _options(self) -> argparse.Namespace:
        """What the pipeline told ``riskfuse predict`` that changes its numbers."""
        parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
        parser.add_argument("--views", default="none")
        parser.add_argument("--dtype", default="auto")
        parser.add_argument("--device", default="auto")
        parser.add_argument("--threads", type=int, default=1)
        return parser.parse_known_args(self._files.pipeline.get("inference", {}).get("options", []))[0]

    def _stage(self, name: str) -> _Stage:
        if name not in self._stages:
            self._stages[name] = self._load(name)
        return self._stages[name]

    def _load(self, name: str) -> _Stage:
        """Load a stage by the recipe that the pipeline left in the run directory."""
        from launch.predict.plan import named_model
        from launch.recipe import load_recipe

        path = self._files.run / "recipes" / f"{name}.yaml"
        if not path.is_file():
            raise ConfigError(
                f"{path}: no such file; only a run of `riskfuse run` keeps the recipes by which its models are loaded"
            )
        recipe = load_recipe(path)
        model, adapter = named_model(recipe, adapter=None, merged=None)
        if not Path(model).is_dir() and not _is_cached(model):
            raise _gone(name, "model", model)
        if adapter is not None and not Path(adapter).is_dir():
            raise _gone(name, "adapter", adapter)
        from launch.amplifier.explanation import Explainer
        from launch.amplifier.guards import MODULE
        from launch.predict.model import ModelSpec, load_for_prediction
        from launch.predict.scorer import LabelScorer
        from launch.training import has_gpu

        options, card = self._options(), self._files.card
        device = options.device if options.device != "auto" else "cuda" if has_gpu() else "cpu"
        preprocessing = {"template": recipe.template, **recipe.preprocessing}
        loaded = load_for_prediction(ModelSpec(model, adapter, preprocessing, device, options.dtype, options.threads))
        prompt, answers = card.prompt(name), card.answers(name)
        explains = name != BASE and getattr(loaded.model, MODULE, None) is not None
        return _Stage(
            name,
            LabelScorer(loaded, prompt, answers),
            Explainer(loaded, prompt, answers) if explains else None,
        )

    def _answers(self, stage: _Stage, image: Any) -> np.ndarray:
        views = view_photos(self._options().views, [image])
        return average_views(np.stack([stage.scorer.score(view) for view in views]))

    def _opinion(self, model: FusionModel, logps: list[np.ndarray]) -> Opinion:
        """Fuse what the stages answered, each [1, answers], base first."""
        card = self._files.card
        applied = model.apply(logps[0], np.stack(logps[1:]))
        calibrated = model.review.calibrator.apply(applied.fused_logps_NK)
        sets_NK = model.review.prediction_sets.sets(calibrated)
        decided_N = applied.labels[model.submitted]
        queued = bool(queued_for_review(decided_N, sets_NK)[0])
        target_K = np.isin(card.label_ids, [label for s in card.specialists for label in s.targets])
        decided = int(decided_N[0])
        reasons = review_reasons(decided_N, sets_NK, target_K, _texts(self._files)) if queued else None
        cost = float(expected_costs(calibrated, decided_N, card)[0])
        looks = tuple(
            SecondLook(
                name=specialist.name,
                targets=tuple(card.text_of(label) for label in model.targets[specialist.name]),
                positive=float(applied.positive_SN[s, 0]),
                coefficient=float(applied.kappa_SN[s, 0]),
            )
            for s, specialist in enumerate(model.parameters.specialists)
        )
        return Opinion(
            decided=card.label_ids[decided] if decided != UNDECIDED else card.fallback,
            in_set=tuple(bool(inside) for inside in sets_NK[0]),
            base=tuple(np.exp(applied.base_logps_NK[0]).tolist()),
            fused=tuple(np.exp(calibrated[0]).tolist()),
            looks=looks,
            expected_cost=None if math.isnan(cost) else cost,
            reason=reasons[0].as_py() if reasons is not None else "",
        )


def _texts(files: RunFiles) -> Any:
    import pyarrow as pa

    return pa.array([label.text for label in files.card.labels])


def _is_cached(model: str) -> bool:
    """Whether a model of the hub was downloaded before: a click in a page shall not start a download of gigabytes."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(model, "config.json"), str)
    except HFValidationError:  # a path, and no name of the hub
        return False


def _gone(stage: str, kind: str, place: str) -> ConfigError:
    return ConfigError(
        f"the {kind} of stage {stage!r} is gone: {place}; start the app in the directory where the pipeline was run, "
        "or train the stage again"
    )


def _heat_map(stage: _Stage, image: Any) -> str:
    from launch.amplifier.heat_map import draw_heat_map

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "map.png"
        draw_heat_map(path, image, stage.explainer.explain(image), stage.name)
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
