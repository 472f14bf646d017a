"""The module alone: identity at first, gradients that flow, one photo independent of the others, the auxiliary loss."""

from __future__ import annotations

import pytest
import torch

from launch.amplifier.modeling_hazard_amplifier import HazardAmplifier

SIZE, COUNTS = 32, [9, 1, 30, 4]


def make_module(*, trained: bool, seed: int = 0) -> HazardAmplifier:
    generator = torch.Generator().manual_seed(seed)
    module = HazardAmplifier(SIZE, queries=3, width=8, strength=4.0)
    module.reset_parameters(generator)
    if trained:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def make_tokens(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(sum(COUNTS), SIZE, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_identity_bit_for_bit_at_first(dtype, weights):
    tokens = make_tokens(dtype)
    amplified, logits = make_module(trained=False).to(weights)(tokens, COUNTS)
    assert amplified.dtype == dtype
    assert torch.equal(amplified, tokens)
    assert logits.shape == (len(COUNTS),)
    assert logits.isfinite().all()


def test_gradients_flow_from_the_first_step_and_reach_everything_after_it():
    module, tokens = make_module(trained=False), make_tokens().requires_grad_()
    wanted = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    (module(tokens, COUNTS)[0] * wanted).sum().backward()
    starters = {"gain", "mark", "context"}
    assert all(getattr(module, name).grad.abs().sum() > 0 for name in starters)
    assert torch.equal(tokens.grad, wanted)
    optimizer.step()
    optimizer.zero_grad()
    (module(tokens, COUNTS)[0] * wanted).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_every_weight_has_a_gradient_without_the_auxiliary_loss():
    """Data-parallel training stops at a weight that the loss does not reach; a zero gradient is one."""
    module = make_module(trained=False)
    module(make_tokens(), COUNTS)[0].sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_photo_does_not_see_the_others_nor_the_padding():
    module, tokens = make_module(trained=True), make_tokens()
    together, logits = module(tokens, COUNTS)
    assert not torch.allclose(together, tokens)
    for index, part in enumerate(tokens.split(COUNTS)):
        alone, logit = module(part, [len(part)])
        torch.testing.assert_close(together.split(COUNTS)[index], alone)
        torch.testing.assert_close(logits[index], logit[0])


def test_order_of_tokens_moves_with_them():
    module, tokens = make_module(trained=True), make_tokens()
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(3))
    there, back = module(tokens[order], [len(tokens)])[0], module(tokens, [len(tokens)])[0][order]
    torch.testing.assert_close(there, back)


def test_attention_sums_to_one_and_relevance_to_nothing_in_padding():
    seen = make_module(trained=True).attend(make_tokens(), COUNTS)
    torch.testing.assert_close(seen.attention.sum(1), torch.ones(len(COUNTS), 3))
    for index, count in enumerate(COUNTS):
        assert not seen.attention[index, count:].any()
        assert not seen.relevance[index, count:].any()


def test_lora_finds_no_layer_in_it():
    assert [name for name, _ in make_module(trained=False).named_modules()] == [""]


@pytest.mark.parametrize("enabled", [True, False])
def test_autocast_changes_nothing(enabled):
    module, tokens = make_module(trained=True), make_tokens(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        result = module(tokens, COUNTS)[0]
    assert torch.equal(result, module(tokens, COUNTS)[0])
