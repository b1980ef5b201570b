"""The denoiser: how it starts, what it may see, and that one scan serves many samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddmseg.networks.denoiser import CONDITIONINGS, Conditions, CrossAttention, pooled_logits
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from pairs import pairs
from toys import shake, tiny_model

GRID = 8


def images(dims: int, *, items: int = 1, seed: int = 1) -> torch.Tensor:
    return torch.randn(items, 1, *(GRID,) * dims, generator=torch.Generator().manual_seed(seed))


def noisy(model: DiscrepancyDiffusionSegmenter, *, items: int = 1, seed: int = 2) -> torch.Tensor:
    grid = (GRID // model.mask_stride,) * model.dims
    shape = (items, model.mask_encoding.channels, *grid)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ask(
    model: DiscrepancyDiffusionSegmenter,
    encoding: Encoding,
    *,
    conditions: Conditions | None = None,
    items: int = 1,
    log_snr: float = 0.0,
    estimate_seed: int = 3,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits on the mask's grid and on the image grid."""
    chosen = conditions or model.conditions(encoding)
    x_t, estimate = noisy(model, items=items), noisy(model, items=items, seed=estimate_seed)
    times = torch.full((items,), log_snr)
    logits, hidden = model.denoise(x_t, times, chosen, encoding, estimate)
    return logits, model.decode(hidden, chosen)


CASES = pytest.mark.parametrize(
    ("dims", "conditioning", "stride"),
    pairs((2, 3), CONDITIONINGS, (1, 2)),
)


@CASES
@torch.no_grad()
def test_before_training_it_says_what_the_coarse_head_says(dims, conditioning, stride):
    model = tiny_model(dims=dims, conditioning=conditioning, mask_stride=stride, fresh=True)
    encoding = model.encode(images(dims))
    logits, fine = ask(model, encoding)
    coarse = encoding.coarse_logits
    assert torch.equal(fine, coarse)
    assert torch.equal(logits, coarse if stride == 1 else pooled_logits(coarse))


@CASES
@torch.no_grad()
def test_without_a_prior_it_minds_the_mask_from_the_start(dims, conditioning, stride):
    # A zero start, with nothing to correct, kept rare classes out for a whole training.
    model = tiny_model(
        dims=dims, conditioning=conditioning, mask_stride=stride, coarse_prior=False, fresh=True
    )
    for answer in ask(model, model.encode(images(dims))):
        assert answer.std() > 0.05


@CASES
@torch.no_grad()
def test_one_scan_serves_a_batch_of_samples(dims, conditioning, stride):
    model = tiny_model(dims=dims, conditioning=conditioning, mask_stride=stride)
    encoding = model.encode(images(dims))
    conditions = model.conditions(encoding)
    x_t, estimate = noisy(model, items=3), noisy(model, items=3, seed=3)
    log_snr = torch.tensor([-4.0, 0.0, 5.0])
    together, hidden = model.denoise(x_t, log_snr, conditions, encoding, estimate)
    fine = model.decode(hidden, conditions)
    for i in range(3):
        one = slice(i, i + 1)
        alone, h = model.denoise(x_t[one], log_snr[one], conditions, encoding, estimate[one])
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fine[one], model.decode(h, conditions), rtol=1e-4, atol=1e-5)


@CASES
@torch.no_grad()
def test_the_blind_branch_does_not_see_the_image(dims, conditioning, stride):
    model = tiny_model(dims=dims, conditioning=conditioning, mask_stride=stride)
    encodings = [model.encode(images(dims, seed=seed)) for seed in (1, 5)]
    blind = [ask(model, one, conditions=model.conditions(one).without_image()) for one in encodings]
    for a, b in zip(*blind, strict=True):
        assert torch.equal(a, b)
    seeing = [ask(model, one) for one in encodings]
    assert not torch.allclose(seeing[0][0], seeing[1][0])


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_conditioning_by_none_without_a_prior_is_blind_too(dims):
    model = tiny_model(dims=dims, conditioning="none", coarse_prior=False)
    answers = [ask(model, model.encode(images(dims, seed=seed)))[0] for seed in (1, 5)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@torch.no_grad()
def test_only_the_discrepancy_tells_it_of_the_estimate(conditioning):
    model = tiny_model(conditioning=conditioning)
    encoding = model.encode(images(2))
    a, _ = ask(model, encoding, estimate_seed=3)
    b, _ = ask(model, encoding, estimate_seed=4)
    assert torch.equal(a, b) == (conditioning != "discrepancy")


@torch.no_grad()
def test_it_minds_noise_level_and_noisy_mask():
    model = tiny_model()
    encoding = model.encode(images(2))
    assert not torch.allclose(ask(model, encoding)[0], ask(model, encoding, log_snr=6.0)[0])
    estimate = noisy(model)
    a, b = (
        model.denoise(x, torch.zeros(1), model.conditions(encoding), encoding, estimate)[0]
        for x in (noisy(model, seed=7), noisy(model, seed=8))
    )
    assert not torch.allclose(a, b)


def test_it_corrects_the_coarse_head_but_does_not_bend_it():
    model = tiny_model().train()
    logits, fine = ask(model, model.encode(images(2)))
    (logits.square().sum() + fine.square().sum()).backward()
    assert all(weight.grad is None for weight in model.image_encoder.head.parameters())
    assert all(
        weight.grad is not None and weight.grad.any()
        for weight in model.image_encoder.stem.parameters()
    )


def test_the_discrepancy_map_must_be_given():
    model = tiny_model()
    conditions = model.conditions(model.encode(images(2)))
    with pytest.raises(ValueError, match="needs the discrepancy map"):
        model.denoiser(noisy(model), torch.zeros(1), conditions, None)


@torch.no_grad()
def test_a_huge_discrepancy_says_wrong_and_nothing_more():
    model = tiny_model()
    encoding = model.encode(images(2))
    conditions = model.conditions(encoding)
    D = torch.ones(1, 4, 4, 4)
    a, b = (
        model.denoiser(noisy(model), torch.zeros(1), conditions, D * size)[0]
        for size in (100.0, 1e6)
    )
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dims", [2, 3])
def test_pooled_logits_are_those_of_the_mean_probability(dims):
    logits = torch.randn(2, 3, *(4,) * dims)
    p = logits.softmax(1)
    for axis in range(2, 2 + dims):
        p = p.unflatten(axis, (-1, 2)).mean(axis + 1)
    pooled = pooled_logits(logits)
    torch.testing.assert_close(pooled.softmax(1), p)
    sure = torch.tensor([50.0, -50.0]).reshape(1, 2, *(1,) * dims).expand(1, 2, *(2,) * dims)
    assert pooled_logits(sure).isfinite().all()


def test_attention_reaches_every_voxel_of_the_image():
    attention = CrossAttention(2, 8, 6)
    shake(attention)
    x, tokens = torch.randn(2, 8, 3, 3), torch.randn(1, 5, 6)
    moved = tokens.clone()
    moved[0, 4] += 1
    change = (attention(x, moved) - attention(x, tokens)).abs().amax(1)
    assert attention(x, tokens).shape == x.shape
    assert (change > 0).all()


def test_equal_voxels_attend_by_their_place():
    attention = CrossAttention(2, 8, 6)
    shake(attention)
    x, features = torch.ones(1, 8, 4, 4), torch.ones(1, 6, 3, 5)
    features[0, :, 0, 0] = 9.0
    answer = attention(x, attention.tokens(features))
    assert attention.tokens(features).shape == (1, 15, 6)
    assert answer.flatten(2).std(dim=2).max() > 0.01
    # and without places in the tokens they could not
    with torch.no_grad():
        for place in (attention.place_of_mask, attention.place_of_image):
            place.weight.zero_()
    alike = attention(x, attention.tokens(features))
    assert torch.allclose(alike, alike[..., :1, :1].expand_as(alike), atol=1e-5)


def test_the_conditions_of_the_blind_branch_keep_nothing_of_the_image():
    model = tiny_model(conditioning="cross_attention")
    conditions = model.conditions(model.encode(images(2)))
    blind = conditions.without_image()
    assert blind == replace(blind, blind=True)
    assert (blind.half, blind.quarter, blind.tokens) == (None, None, None)
    assert (blind.prior, blind.fine_prior) == (None, None)
    assert not blind.stem.any()
