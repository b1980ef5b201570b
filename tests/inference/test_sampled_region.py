"""The region that samples decide: where it lies, and what stands around it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddmseg.inference.sampled_region import REACH_VOXELS, SampledRegion
from ddmseg.inference.scan_encoding import QUARTER
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.ensemble import Answer, sampled_answer
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.sampling import MaskSampler
from ddmseg.randomness import seeded
from toys import tiny_model

GRID = (32, 32, 24)
PATCH = (8, 8, 8)
HEAD = (slice(9, 20), slice(13, 27), slice(6, 16))


@pytest.fixture(scope="module", params=["full", "light"])
def model(request):
    return tiny_model(dims=3, classes=3, mask_stride=2, denoiser_form=request.param).eval()


@pytest.fixture(scope="module")
def encoding(model) -> Encoding:
    """Features of a scan whose coarse foreground is a box."""
    with torch.no_grad():
        found = model.encode(torch.randn(1, 1, *GRID, generator=seeded(0, 0)))
    logits = torch.zeros_like(found.coarse_logits)
    logits[:, 0] = 3.0
    logits[(0, 1, *HEAD)] = 9.0
    return replace(found, coarse=logits)


@torch.no_grad()
def answered(model, encoding: Encoding, region: SampledRegion) -> Answer:
    sampler = MaskSampler(model, region.encoding(encoding), make_schedule("cosine", 0.0))
    answer = sampled_answer(
        sampler,
        algorithm="ddim",
        steps=2,
        samples=3,
        temperature=1.0,
        coarse_share=0.25,
        generator=seeded(3, 0),
        trace=True,
    )
    return region.completed(answer, encoding)


def test_it_holds_the_coarse_foreground_with_room_around_it(encoding) -> None:
    region = SampledRegion.of(encoding, PATCH)
    assert not region.is_whole
    for side, head, n in zip(region.box, HEAD, GRID, strict=True):
        assert side.start <= head.start - REACH_VOXELS
        assert min(n, head.stop + REACH_VOXELS) <= side.stop
        assert side.stop - side.start < head.stop - head.start + 2 * (REACH_VOXELS + QUARTER)
        assert side.start % QUARTER == side.stop % QUARTER == 0


def test_a_grid_not_much_larger_than_a_training_patch_is_taken_whole(encoding) -> None:
    region = SampledRegion.of(encoding, (8, 28, 8))
    assert region.is_whole
    assert region.encoding(encoding) is encoding


def test_inside_samples_decide_and_around_them_the_coarse_head(model, encoding) -> None:
    region = SampledRegion.of(encoding, PATCH)
    found = answered(model, encoding, region)
    coarse = torch.softmax(encoding.coarse_logits, dim=1)
    outside = torch.ones(GRID, dtype=torch.bool)
    outside[region.box] = False
    torch.testing.assert_close(found.probabilities[..., outside], coarse[..., outside])
    assert not torch.allclose(found.probabilities[..., ~outside], coarse[..., ~outside])


def test_all_that_is_told_is_of_the_whole_grid(model, encoding) -> None:
    found = answered(model, encoding, SampledRegion.of(encoding, PATCH))
    voxels = float(torch.tensor(GRID).prod())
    torch.testing.assert_close(found.sample_volumes.sum(1), torch.full((3,), voxels))
    assert found.sample_labels.shape == (3, *GRID)
    assert found.step_labels is not None
    assert found.step_labels.shape == (2, *(n // 2 for n in GRID))


def test_labels_of_samples_lie_where_they_were_drawn(model, encoding) -> None:
    region = SampledRegion.of(encoding, PATCH)
    found = answered(model, encoding, region)
    inside = found.sample_labels[(slice(None), *region.box)]
    assert int(inside.sum()) == int(found.sample_labels.sum()) > 0
    joined = found.probabilities.argmax(1)[0]
    agreement = (found.sample_labels == joined).float().mean(dim=(1, 2, 3))
    assert agreement.min() > 0.9
