"""The way from a photo's pixels through the vision tower in fewer and larger steps: same result up to rounding.

- A patch embedding is a convolution whose stride is its kernel, so it is one matrix product over all patches; as a
  convolution it costs a fifth of the tiny model's forward pass on a CPU.
- It is linear, and so is the normalisation of the pixels before it: scale and shift go into its weights, and patches
  stay the photo's own 8-bit values. It was made for two frames of a video, and a photo is the same frame twice: the
  weights of both are added. So patches are an eighth of the bytes to arrange, and to bring to a GPU, and the product is
  half as large.
- Qwen2.5-VL's tower attends within windows (Bai et al., Qwen2.5-VL Technical Report, 2025). Without FlashAttention,
  transformers calls the attention once a window, layer and photo; here once a layer and length of window.
"""

from __future__ import annotations

import itertools
from typing import Any

__all__ = ["speed_up_vision"]

# transformers hands all windows to an implementation at once when its name says "flash", one by one otherwise.
WINDOWS_AT_ONCE = "sdpa_in_flash_layout"
FAMILIES = frozenset({"qwen2_vl", "qwen2_5_vl"})  # towers that were tried


def speed_up_vision(model: Any, image_processor: Any) -> None:
    """Change a loaded model's vision tower and its image processor in place; those of another family stay as they are.

    The tower takes the processor's raw 8-bit patches afterwards, and normalised ones of two frames as before.

    Args:
        model: A model of transformers for inference, adapter merged.
        image_processor: Its image processor.
    """
    tower = getattr(getattr(model, "model", None), "visual", None)
    if tower is None or model.config.model_type not in FAMILIES:
        return
    if tower.config._attn_implementation == WINDOWS_AT_ONCE:  # another scorer has the same model
        return
    tower.patch_embed = _matrix_product(tower.patch_embed, image_processor)
    if image_processor.do_rescale and image_processor.do_normalize:
        image_processor.do_rescale = image_processor.do_normalize = False
        image_processor.temporal_patch_size = 1
    from transformers import AttentionInterface

    AttentionInterface.register(WINDOWS_AT_ONCE, _attend_in_windows)
    tower.config._attn_implementation = WINDOWS_AT_ONCE  # set_attn_implementation takes the names of packages only


def _matrix_product(embedding: Any, image_processor: Any) -> Any:
    """The same patch embedding on flattened patches: [N, C * T * P * P] normalised, or [N, C * P * P] raw."""
    import torch

    kernel_DCTPP = embedding.proj.weight.detach()
    # In float64, since raw values are far from zero; the product is in float32 whatever the model's type, since the
    # shift takes away most of what the scaled pixels add up to.
    std_C, mean_C = (
        torch.tensor(values, dtype=torch.float64, device=kernel_DCTPP.device).view(-1, 1, 1)
        for values in (image_processor.image_std, image_processor.image_mean)
    )
    frame_DCPP = kernel_DCTPP.double().sum(2) / std_C
    raw_kernel = (frame_DCPP * image_processor.rescale_factor).flatten(1).float()
    raw_shift = -(frame_DCPP * mean_C).flatten(1).sum(1).float()

    class PatchEmbedding(torch.nn.Module):
        raw_kernel: torch.Tensor
        raw_shift: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.kernel = torch.nn.Parameter(kernel_DCTPP.flatten(1), requires_grad=False)
            self.register_buffer("raw_kernel", raw_kernel, persistent=False)
            self.register_buffer("raw_shift", raw_shift, persistent=False)

        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            if patches.shape[1] == self.raw_kernel.shape[1]:
                found = torch.nn.functional.linear(patches.float(), self.raw_kernel, self.raw_shift)
                return found.to(self.kernel.dtype)
            return torch.nn.functional.linear(patches.to(self.kernel.dtype), self.kernel)

    return PatchEmbedding().eval()


def _attend_in_windows(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *, scaling: float, cu_seq_lens_q: Any, **_: Any
) -> tuple[Any, None]:
    """Attention within windows, in the form of transformers' ``AttentionInterface``.

    Args:
        module: The attention layer.
        query: [1, H, S, D], as ``key`` and ``value``: S patches of all photos, those of a window side by side.
        key: See ``query``.
        value: See ``query``.
        attention_mask: None.
        scaling: Factor of the logits.
        cu_seq_lens_q: int [W + 1], where each window begins, and the end.

    Returns:
        [1, S, H, D], and no weights.
    """
    import torch

    groups = _windows(cu_seq_lens_q)
    found = torch.empty_like(query) if len(groups) > 1 else None
    for place, length in groups:
        q, k, v = (tensor[0, :, place].unflatten(1, (-1, length)).transpose(0, 1) for tensor in (query, key, value))
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scaling)
        if found is None:
            return attended.transpose(1, 2).flatten(0, 1)[None], None
        found[0, :, place] = attended.transpose(0, 1).flatten(1, 2)
    assert found is not None
    return found.transpose(1, 2), None


def _windows(cu_seq_lens: Any) -> list[tuple[Any, int]]:
    """For each length L that occurs, the positions of its windows, one after the other, and L.

    Windows side by side are a slice, so that nothing is copied; others an index tensor. All layers of a pass share
    the tensor, so the answer is kept on it: asking a GPU for the lengths makes it wait.
    """
    import torch

    if not hasattr(cu_seq_lens, "windows"):
        starts_by_length: dict[int, list[int]] = {}
        for start, stop in itertools.pairwise(cu_seq_lens.tolist()):
            starts_by_length.setdefault(stop - start, []).append(start)
        cu_seq_lens.windows = []
        for length, starts in sorted(starts_by_length.items()):
            place: Any = slice(starts[0], starts[-1] + length)
            if place.stop - place.start > length * len(starts):
                place = torch.tensor(starts)[:, None] + torch.arange(length)
                place = place.flatten().to(cu_seq_lens.device)
            cu_seq_lens.windows.append((place, length))
    return cu_seq_lens.windows
