"""The vision tower with batched windows and patches as a matrix product says what transformers' own says."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

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


def build_processor():
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    # Said, since another processor's budget changes the class's own.
    return Qwen2VLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 1024 * 1024})


def look(model, patches, grids=GRIDS):
    import torch

    with torch.inference_mode():
        return model.model.visual(patches, grid_thw=torch.tensor(grids)).pooler_output


def test_answers_are_those_of_transformers(patches):
    import torch

    model = build_model()
    expected = look(model, patches)
    processor = build_processor()
    speed_up_vision(model, processor)
    speed_up_vision(model, processor)  # as two scorers of one model do
    assert model.model.visual.blocks[0].attn.config._attn_implementation == WINDOWS_AT_ONCE
    torch.testing.assert_close(look(model, patches), expected)


def test_raw_pixels_give_what_normalised_ones_give():
    """The normalisation is in the weights, and a photo is one frame in place of the same one twice."""
    import torch

    rng = np.random.default_rng(2)
    photos = [Image.fromarray(rng.integers(0, 256, (14 * h, 14 * w, 3), dtype=np.uint8)) for _, h, w in GRIDS]
    model, processor = build_model(), build_processor()
    usual = processor(photos, return_tensors="pt")
    expected = look(model, usual["pixel_values"])
    speed_up_vision(model, processor)
    raw = processor(photos, return_tensors="pt")
    assert (raw["pixel_values"].dtype, raw["pixel_values"].nbytes * 8) == (torch.uint8, usual["pixel_values"].nbytes)
    assert raw["image_grid_thw"].tolist() == usual["image_grid_thw"].tolist() == [list(grid) for grid in GRIDS]
    torch.testing.assert_close(look(model, raw["pixel_values"]), expected)
    torch.testing.assert_close(look(model, usual["pixel_values"]), expected)


def test_raw_pixels_are_as_exact_in_16_bits():

    photo = Image.fromarray(np.random.default_rng(3).integers(0, 256, (224, 168, 3), dtype=np.uint8))
    model, processor = build_model().bfloat16(), build_processor()
    usual = processor([photo], return_tensors="pt")["pixel_values"].bfloat16()
    exact = build_model().model.visual.patch_embed(usual.float())
    before = (model.model.visual.patch_embed(usual) - exact).abs().max()
    speed_up_vision(model, processor)
    raw = processor([photo], return_tensors="pt")["pixel_values"].bfloat16()
    assert (model.model.visual.patch_embed(raw) - exact).abs().max() <= 1.5 * before


def test_a_photo_s_numbers_depend_on_no_other_photo(patches):
    import torch

    model = build_model()
    speed_up_vision(model, build_processor())
    alone = look(model, patches[: 16 * 12], GRIDS[:1])
    torch.testing.assert_close(look(model, patches)[: len(alone)], alone)


def test_a_model_of_another_family_stays_as_it_is():
    import torch

    model = build_model()
    model.config.model_type = "another"
    processor = build_processor()
    speed_up_vision(model, processor)
    assert isinstance(model.model.visual.patch_embed.proj, torch.nn.Conv3d)
    assert processor.do_normalize
