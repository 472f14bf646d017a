"""The vision tower with batched windows and patches as a matrix product says what transformers' own says."""

from __future__ import annotations

import pytest

from launch.predict.vision_kernels import WINDOWS_AT_ONCE, speed_up_vision

GRIDS = ((1, 16, 12), (1, 8, 8), (1, 10, 22))  # in patches; a window has 8 x 8


def build_model():
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    vision = {"depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 32}
    vision |= {"fullatt_block_indexes": [1]}
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "vocab_size": 64, "pad_token_id": 0}
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(vision_config=vision, text_config=text)
    return Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa").eval()


@pytest.fixture
def patches():
    import torch

    count = sum(height * width for _, height, width in GRIDS)
    return torch.randn(count, 3 * 2 * 14 * 14, generator=torch.Generator().manual_seed(1))


def look(model, patches, grids=GRIDS):
    import torch

    with torch.inference_mode():
        return model.model.visual(patches, grid_thw=torch.tensor(grids)).pooler_output


def test_answers_are_those_of_transformers(patches):
    import torch

    model = build_model()
    expected = look(model, patches)
    speed_up_vision(model)
    speed_up_vision(model)  # as two scorers of one model do
    assert model.model.visual.blocks[0].attn.config._attn_implementation == WINDOWS_AT_ONCE
    torch.testing.assert_close(look(model, patches), expected)


def test_a_photo_s_numbers_depend_on_no_other_photo(patches):
    import torch

    model = build_model()
    speed_up_vision(model)
    alone = look(model, patches[: 16 * 12], GRIDS[:1])
    torch.testing.assert_close(look(model, patches)[: len(alone)], alone)


def test_a_model_of_another_family_stays_as_it_is():
    import torch

    model = build_model()
    model.config.model_type = "another"
    speed_up_vision(model)
    assert isinstance(model.model.visual.patch_embed.proj, torch.nn.Conv3d)
