"""Qwen2.5-VL with a hazard amplifier between the vision tower and the language model.

``riskfuse amplify`` copies this file into a checkpoint directory, where transformers loads it as remote code, so it
imports nothing but torch and transformers. See docs/amplifier.md for what it does and why.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration

IGNORED = -100  # label of a token that is not learnt


class HazardAttention(NamedTuple):
    """What K queries see in a batch of B photos of up to L tokens; padding is zero in relevance and attention.

    Attributes:
        logits: How sure each query is of each token, float32 [B, L, K]; minus infinity at padding.
        relevance: Sigmoid of the logits, [B, L, K] in 0 … 1: how strongly a token is amplified. Every token by itself,
            so that two small objects do not share one unit of attention, and a harmless photo has none.
        attention: Softmax of the logits over a photo's tokens, [B, L, K]: where a query looks. Sums to one.
        hidden: The tokens as the queries see them, [B, L, R].
    """

    logits: torch.Tensor
    relevance: torch.Tensor
    attention: torch.Tensor
    hidden: torch.Tensor


class HazardAmplifier(nn.Module):
    """Learned hazard queries look at a photo's tokens, amplify what they recognise and report it to all tokens.

    A token x of a photo becomes ``x ⊙ (1 + s Σ_k r_k g_k) + s·m·(Σ_k r_k d_k + Σ_k e_k C_k c_k)`` with the token's
    relevance r_k for query k, learned channel gains g_k, a learned mark d_k, what the query found in the whole photo
    c_k, its evidence e_k, the root mean square m of the photo's tokens and a fixed strength s. Gains, marks and C start
    at zero: the module is the identity, bit for bit, but they get gradients from the first step on.

    All weights are bare parameters: LoRA with ``lora_target: all`` looks for linear layers and finds none here.

    Args:
        size: Channels D of a token.
        queries: Number of hazard queries K, >= 1.
        width: Channels R in which queries and tokens are compared, >= 1.
        strength: What gains, marks and contexts are multiplied by, as LoRA's alpha multiplies.
    """

    def __init__(self, size: int, queries: int, width: int, strength: float) -> None:
        super().__init__()
        self.strength = strength
        self.norm_weight = nn.Parameter(torch.empty(size))
        self.down = nn.Parameter(torch.empty(width, size))
        self.down_bias = nn.Parameter(torch.empty(width))
        self.queries = nn.Parameter(torch.empty(queries, width))
        self.query_bias = nn.Parameter(torch.empty(queries))
        self.gain = nn.Parameter(torch.empty(queries, size))
        self.mark = nn.Parameter(torch.empty(queries, size))
        self.context = nn.Parameter(torch.empty(queries * width, size))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Initial values: random detectors that rarely fire (relevance about 0.12), and no effect."""
        width, size = self.down.shape
        self.norm_weight.fill_(1.0)
        self.down.normal_(0.0, size**-0.5, generator=generator)
        self.queries.normal_(0.0, width**-0.5, generator=generator)
        self.query_bias.fill_(-2.0)
        for zero in (self.down_bias, self.gain, self.mark, self.context):
            zero.zero_()

    def attend(self, tokens_TD: torch.Tensor, counts: Sequence[int]) -> HazardAttention:
        """What the queries see.

        Args:
            tokens_TD: Tokens of all photos, one photo after the other, any floating type.
            counts: Tokens of each photo, T in sum.
        """
        tokens_BLD = nn.utils.rnn.pad_sequence(list(tokens_TD.float().split(list(counts))), batch_first=True)
        columns_L = torch.arange(tokens_BLD.shape[1], device=tokens_TD.device)
        padding_BL1 = (columns_L >= torch.tensor(counts, device=tokens_TD.device)[:, None])[..., None]
        normal_BLD = functional.layer_norm(tokens_BLD, tokens_BLD.shape[-1:]) * self.norm_weight.float()
        hidden_BLR = functional.gelu(functional.linear(normal_BLD, self.down.float(), self.down_bias.float()))
        logits_BLK = functional.linear(hidden_BLR, self.queries.float(), self.query_bias.float())
        logits_BLK = logits_BLK.masked_fill(padding_BL1, -torch.inf)
        return HazardAttention(logits_BLK, logits_BLK.sigmoid(), logits_BLK.softmax(dim=1), hidden_BLR)

    def forward(self, tokens_TD: torch.Tensor, counts: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Amplify; arguments as for ``attend``.

        Returns:
            The tokens, [T, D] in their own type, and one logit a photo, float32 [B], that a hazard is in it: the
            queries' logits, pooled by their own softmax over tokens and queries (attention-based multiple-instance
            learning: Ilse, Tomczak & Welling, ICML 2018, with the instance's logit as its attention).
        """
        # In float32 whatever the model's type; one that is the identity leaves a bf16 token as it is here too.
        with torch.autocast(device_type=tokens_TD.device.type, enabled=False):
            seen = self.attend(tokens_TD, counts)
            photos = torch.arange(len(counts), device=tokens_TD.device)
            photo_T = photos.repeat_interleave(torch.tensor(counts, device=tokens_TD.device))
            tokens = tokens_TD.float()
            relevance_TK = torch.cat([seen.relevance[i, :count] for i, count in enumerate(counts)])
            evidence_BK = (seen.attention * seen.relevance).sum(1)
            found_BKR = torch.einsum("blk,blr->bkr", seen.attention, seen.hidden) * evidence_BK[..., None]
            context_BD = found_BKR.flatten(1) @ self.context.float()
            # The unit of what is added, so that one strength suits every model; learning must not change the unit.
            unit_B = torch.stack([part.detach().square().mean().sqrt() for part in tokens.split(list(counts))])
            added_TD = relevance_TK @ self.mark.float() + context_BD[photo_T]
            gain_TD = 1.0 + self.strength * (relevance_TK @ self.gain.float())
            amplified_TD = tokens * gain_TD + self.strength * unit_B[photo_T, None] * added_TD
            flat_BN = seen.logits.flatten(1)
            weight_BN = flat_BN.softmax(-1)
            logit_B = (weight_BN * flat_BN.masked_fill(flat_BN == -torch.inf, 0.0)).sum(-1)
            return amplified_TD.to(tokens_TD.dtype), logit_B


class AmplifiedQwen2_5_VLForConditionalGeneration(Qwen2_5_VLForConditionalGeneration):  # noqa: N801 - as its parent
    """Qwen2.5-VL whose visual tokens pass a ``HazardAmplifier``; ``config.hazard_amplifier`` holds its options.

    The module hangs at the top, since transformers renames every key with ``model.`` in front when it reads the hub's
    Qwen2.5-VL files.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        options = config.hazard_amplifier
        self.hazard_amplifier = HazardAmplifier(
            config.text_config.hidden_size, options["queries"], options["width"], options["strength"]
        )
        # After the merger: there the tokens are in natural order again, whole photos one after the other.
        self.model.visual.register_forward_hook(self._amplify, with_kwargs=True)
        self._photo_logits: torch.Tensor | None = None

    def _amplify(self, visual: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        grid_thw = kwargs["grid_thw"] if "grid_thw" in kwargs else args[1]
        counts = (grid_thw.prod(-1) // visual.spatial_merge_size**2).tolist()
        # One call a batch: under ZeRO-3 every call gathers the weights from all processes.
        output.pooler_output, self._photo_logits = self.hazard_amplifier(output.pooler_output, counts)
        return output

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, HazardAmplifier):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    @functools.wraps(Qwen2_5_VLForConditionalGeneration.forward)  # generation and training look at the signature
    def forward(self, *args: Any, labels: torch.Tensor | None = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """As the parent's; in training with labels, ``auxiliary_weight`` times the photos' own loss is added."""
        self._photo_logits = None
        output = super().forward(*args, labels=labels, **kwargs)
        weight = self.config.hazard_amplifier["auxiliary_weight"]
        if weight and self.training and labels is not None and self._photo_logits is not None:
            output.loss = output.loss + weight * self._auxiliary_loss(labels, self._photo_logits)
        self._photo_logits = None
        return output

    def _auxiliary_loss(self, labels_BS: torch.Tensor, logit_P: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy of the photos' logits against their answers, positive or negative."""
        options = self.config.hazard_amplifier
        before_BS = functional.pad(labels_BS[:, :-1], (1, 0), value=IGNORED)
        row, column = ((labels_BS != IGNORED) & (before_BS == IGNORED)).nonzero(as_tuple=True)
        if len(row) != len(logit_P):
            raise ValueError(
                f"the amplifier's auxiliary loss needs one photo and one answer an example, got {len(logit_P)} photos "
                f"and {len(row)} answers; prepare the checkpoint with --aux-weight 0"
            )
        decides_P = labels_BS[row, (column + options["answer_offset"]).clamp(max=labels_BS.shape[1] - 1)]
        positive_P = decides_P == options["positive_token"]
        known_P = positive_P | (decides_P == options["negative_token"])
        loss_P = functional.binary_cross_entropy_with_logits(logit_P, positive_P.float(), reduction="none")
        return (loss_P * known_P).sum() / known_P.sum().clamp(min=1)


AmplifiedQwen2_5_VLForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
