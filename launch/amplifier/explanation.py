"""What the hazard queries look at in a photo, and what the model answers about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataset_builders.errors import ConfigError
from dataset_builders.task_card import Answer, Prompt
from launch.amplifier.guards import MODULE
from launch.predict.model import LoadedModel
from launch.predict.scorer import LabelScorer

__all__ = ["Explainer", "Explanation"]


@dataclass(frozen=True)
class Explanation:
    """One photo as the amplifier sees it, on the grid of its tokens.

    Attributes:
        probabilities: Answer id → probability, 0 … 1; what is missing to one says something else.
        relevance_HWK: How strongly each query amplifies a token, 0 … 1.
        attention_HWK: Where each query looks; sums to one over the photo.
    """

    probabilities: dict[str, float]
    relevance_HWK: np.ndarray
    attention_HWK: np.ndarray


class Explainer:
    """Scores photos as ``riskfuse predict`` does, and keeps what the amplifier saw on the way.

    Raises:
        ConfigError: The model has no amplifier.
    """

    def __init__(self, loaded: LoadedModel, prompt: Prompt, answers: Sequence[Answer]) -> None:
        module = getattr(loaded.model, MODULE, None)
        if module is None:
            raise ConfigError(
                "the model has no hazard amplifier, so there is no attention to show; use a recipe whose "
                "model_name_or_path was prepared by riskfuse amplify"
            )
        self._answers = tuple(answers)
        self._scorer = LabelScorer(loaded, prompt, answers)
        self._merge = int(loaded.processor.image_processor.merge_size)
        self._module = module
        self._inputs: tuple[Any, ...] = ()
        module.register_forward_hook(self._remember)

    def explain(self, photo: Any) -> Explanation:
        """Explain the answer about one RGB PIL image."""
        import torch

        batch = self._scorer.encode([photo])
        logp_K = self._scorer.score_encoded(batch)[0]
        with torch.inference_mode():
            seen = self._module.attend(*self._inputs)
        height, width = (int(side) // self._merge for side in batch.vision["image_grid_thw"][0, 1:])
        return Explanation(
            probabilities={answer.id: float(np.exp(logp)) for answer, logp in zip(self._answers, logp_K, strict=True)},
            relevance_HWK=seen.relevance[0].cpu().numpy().reshape(height, width, -1),
            attention_HWK=seen.attention[0].cpu().numpy().reshape(height, width, -1),
        )

    def _remember(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        self._inputs = inputs
