"""The light denoiser: its contract is that of the full one, its cost is not."""

from __future__ import annotations

import pytest
import torch

from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.blocks import block_means
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.sampling import MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from toys import tiny_model

GRID = 8
DIMS = pytest.mark.parametrize("dims", [2, 3])
CLASSES = pytest.mark.parametrize("classes", [3, 20])


def light(**sizes) -> DiscrepancyDiffusionSegmenter:
    return tiny_model(mask_stride=2, denoiser_form="light", **sizes)


def encode(model: DiscrepancyDiffusionSegmenter, seed: int = 1) -> Encoding:
    generator = torch.Generator().manual_seed(seed)
    return model.encode(torch.randn(1, 1, *(GRID,) * model.dims, generator=generator))


def mask(model: DiscrepancyDiffusionSegmenter, seed: int, items: int = 1) -> torch.Tensor:
    shape = (items, model.mask_encoding.channels, *(GRID // 2,) * model.dims)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ask(model, encoding, *, conditions=None, estimate=3, x_t=2, log_snr=0.0):
    conditions = conditions or model.conditions(encoding)
    times = torch.full((1,), log_snr)
    return model.denoise(mask(model, x_t), times, conditions, encoding, mask(model, estimate))


@DIMS
@CLASSES
@torch.no_grad()
def test_before_training_it_says_what_the_coarse_head_says(dims, classes):
    model = light(dims=dims, classes=classes, fresh=True)
    encoding = encode(model)
    conditions = model.conditions(encoding)
    said, hidden = ask(model, encoding)
    assert torch.equal(model.decode(hidden, conditions), encoding.coarse_logits)
    p = block_means(encoding.coarse_logits.softmax(1))
    code = model.mask_encoding.of_probabilities(p)
    torch.testing.assert_close(model.output_head.estimate(said), code, atol=3e-3, rtol=0)
    assert torch.equal(model.first_estimate(conditions, code), model.output_head.estimate(said))


@DIMS
@torch.no_grad()
def test_without_a_prior_it_minds_the_mask_from_the_start(dims):
    model = light(dims=dims, coarse_prior=False, fresh=True)
    encoding = encode(model)
    conditions = model.conditions(encoding)
    said, hidden = ask(model, encoding)
    assert said.std() > 0.05
    assert model.decode(hidden, conditions).std() > 0.05
    like = mask(model, 0)
    torch.testing.assert_close(
        model.first_estimate(conditions, like), torch.full_like(like, 2 / 3 - 1)
    )


@DIMS
@CLASSES
@torch.no_grad()
def test_one_scan_serves_a_batch_of_samples(dims, classes):
    model = light(dims=dims, classes=classes)
    encoding = encode(model)
    conditions = model.conditions(encoding)
    x_t, estimate = mask(model, 2, items=3), mask(model, 3, items=3)
    log_snr = torch.tensor([-4.0, 0.0, 5.0])
    together, _ = model.denoise(x_t, log_snr, conditions, encoding, estimate)
    for i in range(3):
        one = slice(i, i + 1)
        alone, _ = model.denoise(x_t[one], log_snr[one], conditions, encoding, estimate[one])
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_minds_image_estimate_noisy_mask_and_time():
    model = light()
    encoding = encode(model)
    said, _ = ask(model, encoding)
    others = [
        ask(model, encode(model, seed=5)),
        ask(model, encoding, estimate=4),
        ask(model, encoding, x_t=7),
        ask(model, encoding, log_snr=6.0),
    ]
    for other, _ in others:
        assert not torch.allclose(said, other)


@torch.no_grad()
def test_the_blind_branch_does_not_see_the_image():
    model = light()
    found = []
    for number in (1, 5):
        encoding = encode(model, seed=number)
        blind = model.conditions(encoding).without_image()
        said, hidden = ask(model, encoding, conditions=blind)
        found.append((said, model.decode(hidden, blind)))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_it_corrects_the_coarse_head_but_does_not_bend_it():
    model = light().train()
    encoding = encode(model)
    conditions = model.conditions(encoding)
    said, hidden = ask(model, encoding, conditions=conditions)
    (said.square().sum() + model.decode(hidden, conditions).square().sum()).backward()
    assert all(weight.grad is None for weight in model.image_encoder.head.parameters())
    assert all(weight.grad.any() for weight in model.image_encoder.stem.parameters())


@DIMS
@torch.no_grad()
def test_a_mask_of_whole_blocks_has_the_discrepancy_of_its_blocks(dims):
    model = light(dims=dims)
    encoding = encode(model)
    draw = MaskSampler(model, encoding, make_schedule())
    blocks = torch.randint(0, 3, (1, *(GRID // 2,) * dims))
    labels = blocks
    for axis in range(1, 1 + dims):
        labels = labels.repeat_interleave(2, axis)
    z_mask = model.segmentation_encoder.block_features(model.mask_encoding.of_labels(blocks))
    expected = (encoding.block_features - z_mask).square().sum(1).mean()
    torch.testing.assert_close(draw.discrepancy(labels), expected)
    # Averages over a block lose what differs within it, and add nothing.
    assert draw.discrepancy(labels) <= model.discrepancy_map(encoding, labels).mean()


def test_the_discrepancy_map_must_be_given():
    model = light()
    with pytest.raises(ValueError, match="needs the discrepancy map"):
        model.denoiser(mask(model, 2), torch.zeros(1), model.conditions(encode(model)), None)


def test_it_is_light():
    sizes = {"classes": 20, "widths": (16, 32, 64), "denoiser_width": 16}
    counts = [
        sum(weight.numel() for weight in model.denoiser.parameters())
        for model in (light(**sizes), tiny_model(mask_stride=2, **sizes))
    ]
    assert 2 * counts[0] < counts[1]
