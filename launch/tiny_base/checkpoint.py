"""Builds the tiny Qwen2.5-VL: the real classes, a small size, its own tokenizer with Qwen's special tokens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

__all__ = ["SPECIAL_TOKENS", "build_model", "build_tokenizer", "save_checkpoint"]

# In the order and with the meaning that Qwen2.5-VL gives them.
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
# Digits one by one, runs of letters, runs of Chinese characters, punctuation: as Qwen's, simplified.
SPLIT_PATTERN = r"\p{N}|[^\s\p{L}\p{N}]| ?\p{L}+|\s+"
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|>"
    "<|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LARGEST_PHOTO = 448 * 448  # pixels; the recipes choose less


def build_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE tokenizer on ``texts``; any other text is still spelled, by bytes.

    Args:
        texts: Sentences; those that come often become few tokens.
        vocab_size: Upper bound, special tokens included.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = Qwen2Tokenizer(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in ("<|im_end|>", "<|endoftext|>")],
        model_max_length=4096,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A randomly initialised Qwen2.5-VL in float32 that fits the tokenizer; the same seed gives the same weights."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    def token(name: str) -> int:
        number = tokenizer.convert_tokens_to_ids(name)
        assert isinstance(number, int)
        return number

    vision: dict[str, Any] = {
        "depth": 6, "hidden_size": 96, "num_heads": 4, "intermediate_size": 192, "out_hidden_size": 128,
        "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
        # Photos are so small that every block sees the whole of them; one window keeps patches in natural order.
        "fullatt_block_indexes": list(range(6)), "window_size": 28 * 64,
    }  # fmt: skip
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
        "tie_word_embeddings": True, "bos_token_id": token("<|endoftext|>"), "eos_token_id": token("<|im_end|>"),
        "pad_token_id": token("<|endoftext|>"),
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(config).float()
    model.generation_config.eos_token_id = token("<|im_end|>")
    model.generation_config.pad_token_id = token("<|endoftext|>")
    return model


def save_checkpoint(
    directory: Path, model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write model, tokenizer and image processor as ``from_pretrained`` expects them; weights are one float32 file."""
    from transformers import Qwen2VLImageProcessor

    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    processor = Qwen2VLImageProcessor(
        size={"shortest_edge": 56 * 56, "longest_edge": LARGEST_PHOTO}, patch_size=14, merge_size=2
    )
    processor.save_pretrained(directory)
