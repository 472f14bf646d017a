"""Exact log-probabilities of all answers in one forward pass: the trie's nodes ride behind the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dataset_builders.task_card import Answer, Prompt
from launch.predict.answers import AnswerTrie, build_trie
from launch.predict.inputs import EncodedPhotos, InputEncoder
from launch.predict.model import LoadedModel

__all__ = ["LabelScorer", "off_label_mass"]


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
    are computed once, and an answer may be a prefix of another one.
    """

    def __init__(self, loaded: LoadedModel, prompt: Prompt, answers: Sequence[Answer]) -> None:
        self._loaded = loaded
        self._answers = tuple(answers)
        self.encoder = InputEncoder(loaded, prompt, answers)
        self._trie: AnswerTrie | None = None

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
            inputs = _model_inputs(batch, self._trie, self._loaded)
            output = self._loaded.model(**inputs, logits_to_keep=len(self._trie) + 1, use_cache=False)
            logp_BNV = output.logits.float().log_softmax(-1)
            # Column 0 is the prompt's end, node i is column i + 1.
            columns = [[(asked + 1, token) for asked, token in path] for path in self._trie.paths]
            scores = [sum(logp_BNV[:, column, token].double() for column, token in path) for path in columns]
            return torch.stack(scores, dim=1).cpu().numpy()


def _model_inputs(batch: EncodedPhotos, trie: AnswerTrie, loaded: LoadedModel) -> dict[str, Any]:
    """Left-padded prompts with the trie behind them, their positions and the tree mask."""
    import torch

    rows, nodes = len(batch.prompt_ids), len(trie)
    length = max(map(len, batch.prompt_ids))
    ids_BL = torch.full((rows, length), int(loaded.tokenizer.pad_token_id))
    real_BL = torch.zeros((rows, length), dtype=torch.bool)
    for row, prompt_ids in enumerate(batch.prompt_ids):
        ids_BL[row, length - len(prompt_ids) :] = torch.tensor(prompt_ids)
        real_BL[row, length - len(prompt_ids) :] = True
    positions = _prompt_positions(ids_BL, real_BL, batch.vision, loaded)
    depths_N = torch.tensor(trie.depths, dtype=positions.dtype)
    positions = torch.cat([positions, positions[..., -1:] + depths_N], dim=-1)
    tokens_BN = torch.tensor(trie.tokens, dtype=ids_BL.dtype).expand(rows, nodes)
    mask = _tree_mask(real_BL, trie, loaded.model.dtype)
    device = loaded.device
    vision = {key: value.to(device) for key, value in batch.vision.items()}
    return {
        "input_ids": torch.cat([ids_BL, tokens_BN], dim=1).to(device),
        "position_ids": positions.to(device),
        "attention_mask": mask.to(device),
        **vision,
    }


def _prompt_positions(ids_BL: Any, real_BL: Any, vision: dict[str, Any], loaded: LoadedModel) -> Any:
    """Positions of the prompts: [3, B, L] for models with multimodal RoPE, [B, L] otherwise."""
    import inspect

    import torch

    model = loaded.model
    # Where LLaMA-Factory's collator looks for it, with the arguments that it gives.
    owner = next((m for m in (model, getattr(model, "model", None)) if hasattr(m, "get_rope_index")), None)
    if owner is None:
        return (real_BL.long().cumsum(-1) - 1).clamp(min=0)
    arguments = {
        "input_ids": ids_BL,
        "image_grid_thw": vision.get("image_grid_thw"),
        "video_grid_thw": None,
        "attention_mask": real_BL.float(),
    }
    if "mm_token_type_ids" in inspect.signature(owner.get_rope_index).parameters:
        arguments["mm_token_type_ids"] = (ids_BL == model.config.image_token_id).to(ids_BL.dtype)
    positions, _ = owner.get_rope_index(**arguments)
    return positions.to(torch.long)


def _tree_mask(real_BL: Any, trie: AnswerTrie, dtype: Any) -> Any:
    """Additive attention mask [B, 1, L + N, L + N]: 0 where a query may look, the type's minimum elsewhere."""
    import torch

    rows, length = real_BL.shape
    size = length + len(trie)
    allowed_SS = torch.ones((size, size), dtype=torch.bool).tril()
    allowed_SS[length:, length:] = torch.from_numpy(trie.visibility())
    keys_BS = torch.cat([real_BL, torch.ones((rows, len(trie)), dtype=torch.bool)], dim=1)
    # Padding looks at itself: a row without any key would be undefined.
    allowed_BSS = (allowed_SS & keys_BS[:, None, :]) | torch.eye(size, dtype=torch.bool)
    mask = torch.zeros((rows, 1, size, size), dtype=dtype)
    return mask.masked_fill_(~allowed_BSS[:, None], torch.finfo(dtype).min)
