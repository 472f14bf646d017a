"""Builds one forward pass: prompts behind their common beginning, the answers' trie behind the prompts."""

from __future__ import annotations

import inspect
from typing import Any

from launch.predict.answers import AnswerTrie
from launch.predict.inputs import EncodedPhotos
from launch.predict.model import LoadedModel

__all__ = ["CommonPrefix", "batch_inputs", "prompt_positions"]


class CommonPrefix:
    """Keys and values of what stands before the photo in every prompt (the system text), computed once.

    The text before the photo is the same in all prompts of a stage and cannot look at what follows. It is run
    alone, so that its numbers depend on no batch.
    """

    def __init__(self, loaded: LoadedModel, prompt_ids: list[int]) -> None:
        import torch

        image_token = getattr(loaded.model.config, "image_token_id", None)
        length = prompt_ids.index(image_token) if image_token in prompt_ids else 0
        self.ids = prompt_ids[:length]
        self._layers: list[tuple[Any, Any]] = []
        if not length:
            return
        ids = torch.tensor([self.ids], device=loaded.device)
        positions = prompt_positions(ids, torch.ones_like(ids, dtype=torch.bool), {}, loaded)
        output = loaded.model(input_ids=ids, position_ids=positions, use_cache=True, logits_to_keep=1)
        self._layers = [(layer.keys, layer.values) for layer in output.past_key_values.layers]

    def __len__(self) -> int:
        return len(self.ids)

    def cache(self, rows: int) -> Any:
        """A fresh cache that holds the prefix in each of ``rows`` >= 1 rows."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for number, (keys, values) in enumerate(self._layers):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)
        return cache


def batch_inputs(batch: EncodedPhotos, trie: AnswerTrie, prefix: CommonPrefix, loaded: LoadedModel) -> dict[str, Any]:
    """Arguments of the model for a batch of B prompts, left-padded, with the trie's N nodes behind them.

    Returns:
        ``input_ids`` [B, S] (S = longest prompt without the prefix, plus N), ``position_ids`` [3, B, S] (or [B, S]
        without multimodal RoPE), additive ``attention_mask`` [B, 1, S, P + S], ``past_key_values`` of P tokens,
        and the image processor's tensors.
    """
    import torch

    rows, start = len(batch.prompt_ids), len(prefix)
    length = max(map(len, batch.prompt_ids))
    ids_BL = torch.full((rows, length), int(loaded.tokenizer.pad_token_id))
    real_BL = torch.zeros((rows, length), dtype=torch.bool)
    rest_BL = torch.zeros((rows, length), dtype=torch.bool)  # real and not in the prefix
    for row, prompt_ids in enumerate(batch.prompt_ids):
        assert prompt_ids[:start] == prefix.ids, "prompts of a stage begin alike"
        ids_BL[row, length - len(prompt_ids) :] = torch.tensor(prompt_ids)
        real_BL[row, length - len(prompt_ids) :] = True
        rest_BL[row, length - len(prompt_ids) + start :] = True
    positions = prompt_positions(ids_BL, real_BL, batch.vision, loaded)
    depths_N = torch.tensor(trie.depths, dtype=positions.dtype)
    positions = torch.cat([positions[..., start:], positions[..., -1:] + depths_N], dim=-1)
    tokens_BN = torch.tensor(trie.tokens, dtype=ids_BL.dtype).expand(rows, len(trie))
    # In a padded row the window's first columns hold the prefix's last tokens; like padding, nothing sees them, and
    # no image token is among them.
    mask = _tree_mask(rest_BL[:, start:], trie, start, loaded.model.dtype)
    return {
        "input_ids": torch.cat([ids_BL[:, start:], tokens_BN], dim=1).to(loaded.device),
        "position_ids": positions.to(loaded.device),
        "attention_mask": mask.to(loaded.device),
        "past_key_values": prefix.cache(rows) if start else None,
        **{key: value.to(loaded.device) for key, value in batch.vision.items()},
    }


def prompt_positions(ids_BL: Any, real_BL: Any, vision: dict[str, Any], loaded: LoadedModel) -> Any:
    """Positions of the prompts: [3, B, L] for models with multimodal RoPE, [B, L] otherwise."""
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


def _tree_mask(real_BW: Any, trie: AnswerTrie, prefix: int, dtype: Any) -> Any:
    """Additive mask [B, 1, W + N, P + W + N]: 0 where a query may look, the type's minimum elsewhere."""
    import torch

    rows, length = real_BW.shape
    size = length + len(trie)
    allowed_SS = torch.ones((size, size), dtype=torch.bool).tril()
    allowed_SS[length:, length:] = torch.from_numpy(trie.visibility())
    keys_BS = torch.cat([real_BW, torch.ones((rows, len(trie)), dtype=torch.bool)], dim=1)
    # Padding looks at itself: a row without any key would be undefined.
    allowed_BSS = (allowed_SS & keys_BS[:, None, :]) | torch.eye(size, dtype=torch.bool)
    mask = torch.zeros((rows, 1, size, prefix + size), dtype=dtype)
    mask[..., prefix:].masked_fill_(~allowed_BSS[:, None], torch.finfo(dtype).min)
    return mask
