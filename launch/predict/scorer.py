"""Exact log-probabilities of all answers in one forward pass: the trie's nodes ride behind the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dataset_builders.task_card import Answer, Prompt
from launch.predict.answers import AnswerTrie, build_trie
from launch.predict.batch import CommonPrefix, batch_inputs
from launch.predict.inputs import EncodedPhotos, InputEncoder
from launch.predict.model import LoadedModel
from launch.predict.vision_kernels import speed_up_vision

__all__ = ["COMPUTATION", "LabelScorer", "off_label_mass"]

# Raised with every change after which a score may differ in its last digits: parts of two such versions never mix.
COMPUTATION = 4


def off_label_mass(logp_BK: np.ndarray) -> np.ndarray:
    """Probability that the model says anything but an answer: 1 − Σ exp(logp), shape [B], clipped to [0, 1]."""
    return np.clip(1.0 - np.exp(logp_BK).sum(axis=-1), 0.0, 1.0)


class LabelScorer:
    """Scores photos against the answers of one stage.

    log p(answer) is the sum of log p(token | photo, prompt, earlier tokens) over the answer's tokens and the
    end-of-turn token, in natural logarithms. Tokens are those that training writes; other ways to cut the same
    text into tokens count as off-label. The nodes of the answers' trie stand behind the prompt in the same
    sequence; an attention mask lets each node see the prompt and its own ancestors only, and its position is
    the prompt's last plus its depth. So one forward pass gives every conditional probability, shared prefixes
    are computed once, and an answer may be a prefix of another one. What stands before the photo is the same in
    every prompt; its keys and values are computed once for all photos. The vision tower and the image processor are
    changed in place, see ``speed_up_vision``.
    """

    def __init__(self, loaded: LoadedModel, prompt: Prompt, answers: Sequence[Answer]) -> None:
        speed_up_vision(loaded.model, loaded.processor.image_processor)
        self._loaded = loaded
        self._answers = tuple(answers)
        self.encoder = InputEncoder(loaded, prompt, answers)
        self._trie: AnswerTrie | None = None
        self._prefix: CommonPrefix | None = None

    def score(self, photos: Sequence[Any]) -> np.ndarray:
        """Log-probabilities of B >= 1 RGB PIL images, float64 [B, K], columns in the order of the answers."""
        return self.score_encoded(self.encode(photos))

    def encode(self, photos: Sequence[Any]) -> EncodedPhotos:
        """Prepare a batch; may run in another thread than ``score_encoded``."""
        if self._trie is None:
            self._trie = build_trie(self.encoder.answer_ids(photos[0]))
        return self.encoder.encode(photos)

    def score_encoded(self, batch: EncodedPhotos) -> np.ndarray:
        """As ``score``, for a batch that ``encode`` prepared."""
        import torch

        assert self._trie is not None, "encode comes first"
        with torch.inference_mode():
            if self._prefix is None:
                self._prefix = CommonPrefix(self._loaded, batch.prompt_ids[0])
            inputs = batch_inputs(batch, self._trie, self._prefix, self._loaded)
            output = self._loaded.model(**inputs, logits_to_keep=len(self._trie) + 1)
            logp_BNV = output.logits.float().log_softmax(-1)
            # Column 0 is the prompt's end, node i is column i + 1.
            columns = [[(asked + 1, token) for asked, token in path] for path in self._trie.paths]
            scores = [sum(logp_BNV[:, column, token].double() for column, token in path) for path in columns]
            return torch.stack(scores, dim=1).cpu().numpy()
