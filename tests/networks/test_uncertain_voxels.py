"""What the light form spares: voxels of which the coarse head is sure, and D that stands still."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddmseg.maths.schedule import make_schedule
from ddmseg.networks import sampling
from ddmseg.networks.ensemble import sampled_answer
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.uncertain_voxels import SURE, UncertainVoxels
from toys import tiny_model

GRID = (8, 8, 16)
CLASSES = 3
STEPS = 4


@pytest.fixture(scope="module")
def model() -> DiscrepancyDiffusionSegmenter:
    return tiny_model(dims=3, classes=CLASSES, mask_stride=2, denoiser_form="light").eval()


@pytest.fixture(scope="module")
def encoding(model) -> Encoding:
    """The coarse head is sure of the first half of the grid."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        found = model.encode(torch.randn(1, 1, *GRID, generator=generator))
    logits = 0.1 * torch.randn(found.coarse_logits.shape, generator=generator)
    logits[:, 1, :4] += 9.0
    return replace(found, coarse=logits)


def sampler_of(model, encoding, **how) -> MaskSampler:
    return MaskSampler(model, encoding, make_schedule("cosine", 0.0), **how)


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def answer(sampler: MaskSampler, **how):
    with torch.no_grad():
        return sampled_answer(
            sampler,
            algorithm="ddim",
            steps=STEPS,
            samples=3,
            temperature=1.0,
            coarse_share=0.25,
            generator=seed(),
            **how,
        )


@torch.no_grad()
def test_samples_decide_where_the_coarse_head_is_not_sure(model, encoding) -> None:
    sampler = sampler_of(model, encoding)
    top = encoding.coarse_logits.softmax(1).amax(1).flatten()
    assert torch.equal(sampler.uncertain.voxels, (top < SURE).nonzero().flatten())
    p = sampler(steps=STEPS, generator=seed())
    coarse = encoding.coarse_logits.softmax(1)
    torch.testing.assert_close(p[:, :, :4], coarse[:, :, :4])
    assert not torch.allclose(p[:, :, 4:], coarse[:, :, 4:], atol=1e-3)


@torch.no_grad()
def test_what_they_decide_is_what_they_would_have_decided(model, encoding, monkeypatch) -> None:
    """Everywhere decided, the same noise gives the same at the voxels in doubt."""
    there = sampler_of(model, encoding).uncertain
    some = sampler_of(model, encoding).decide(steps=STEPS, generator=seed())
    joined = answer(sampler_of(model, encoding))
    monkeypatch.setattr(model.denoiser, "trusts_coarse_head", False)
    every = sampler_of(model, encoding).decide(steps=STEPS, generator=seed())
    torch.testing.assert_close(some, every.flatten(2)[:, :, there.voxels])
    whole = answer(sampler_of(model, encoding))
    ours, theirs = (
        p.flatten(2)[:, :, there.voxels] for p in (joined.probabilities, whole.probabilities)
    )
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)
    assert joined.sample_labels.shape == whole.sample_labels.shape == (3, *GRID)
    torch.testing.assert_close(joined.sample_volumes.sum(1), whole.sample_volumes.sum(1))


@torch.no_grad()
def test_decided_some_at_a_time_they_are_the_same(model, encoding, monkeypatch) -> None:
    at_once = sampler_of(model, encoding).decide(steps=STEPS, generator=seed())
    monkeypatch.setattr(sampling, "VOXELS_AT_ONCE", 7)
    in_parts = sampler_of(model, encoding).decide(steps=STEPS, generator=seed())
    torch.testing.assert_close(in_parts, at_once)


@torch.no_grad()
def test_the_last_answer_may_take_the_place_of_the_coarse_one(model, encoding) -> None:
    decided = replace(encoding, coarse=encoding.coarse_logits.softmax(1), decided=True)
    kept = answer(sampler_of(model, decided)).probabilities
    coarse = decided.coarse.clone()
    over = answer(sampler_of(model, decided), last=True).probabilities
    torch.testing.assert_close(over, kept)
    assert over is decided.coarse
    assert not torch.equal(coarse, kept)


def test_of_a_sample_all_is_told_on_the_whole_grid(model, encoding) -> None:
    found = answer(sampler_of(model, encoding))
    assert (found.sample_labels[:, :4] == 1).all()
    assert len(found.sample_labels[:, 4:].unique()) > 1
    voxels = float(torch.tensor(GRID).prod())
    torch.testing.assert_close(found.sample_volumes.sum(1), torch.full((3,), voxels))
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(1, *GRID))


@pytest.mark.parametrize("kind", ["energy", "classifier", "classifier_free"])
def test_guidance_may_lead_anywhere(model, encoding, kind) -> None:
    assert sampler_of(model, encoding, guidance=Guidance(kind)).uncertain is None


def test_the_full_form_decides_every_voxel(encoding) -> None:
    full = tiny_model(dims=3, classes=CLASSES, mask_stride=2).eval()
    assert sampler_of(full, encoding).uncertain is None


def test_without_a_prior_there_is_nobody_to_trust() -> None:
    alone = tiny_model(
        dims=3, classes=CLASSES, mask_stride=2, denoiser_form="light", coarse_prior=False
    ).eval()
    with torch.no_grad():
        encoding = alone.encode(torch.randn(1, 1, *GRID, generator=seed()))
        assert sampler_of(alone, encoding).uncertain is None


def test_nobody_needs_to_be_in_doubt(encoding, model) -> None:
    sure = replace(encoding, coarse=encoding.coarse_logits.clone())
    sure.coarse_logits[:, 1] += 20.0
    found = answer(sampler_of(model, sure))
    assert (found.sample_labels == 1).all()
    torch.testing.assert_close(found.probabilities, sure.coarse_logits.softmax(1))


@pytest.mark.parametrize(("tolerance", "computed"), [(0.0, STEPS), (1e9, 1)])
@torch.no_grad()
def test_D_is_computed_anew_when_the_estimate_has_moved(
    model, encoding, monkeypatch, tolerance, computed
) -> None:
    asked = []
    original = model.seen_discrepancy

    def seen(*arguments):
        asked.append(arguments[-1])
        return original(*arguments)

    monkeypatch.setattr(model, "seen_discrepancy", seen)
    monkeypatch.setattr(model.denoiser, "estimate_tolerance", tolerance)
    sampler_of(model, encoding)(steps=STEPS, generator=seed())
    assert len(asked) == computed


@torch.no_grad()
def test_the_blind_branch_leaves_no_D_behind(model, encoding, monkeypatch) -> None:
    """Of classifier-free guidance: it sees zeros, which must not pass for the scan's D."""
    given = []
    original = model.denoise

    def denoise(x_t, log_snr, conditions, enc, estimate, D):
        given.append((conditions.blind, float(D.abs().max())))
        return original(x_t, log_snr, conditions, enc, estimate, D)

    monkeypatch.setattr(model, "denoise", denoise)
    monkeypatch.setattr(model.denoiser, "estimate_tolerance", 1e9)
    sampler_of(model, encoding, guidance=Guidance("classifier_free"))(steps=3, generator=seed())
    assert [blind for blind, _ in given] == [False, True] * 3
    assert all((largest == 0) == blind for blind, largest in given)


def test_undecided_voxels_are_put_where_they_were_taken_from() -> None:
    logits = torch.randn(1, CLASSES, *GRID, generator=seed(3)) * 3
    there = UncertainVoxels.of(logits.softmax(1))
    assert 0 < len(there.voxels) < torch.tensor(GRID).prod()
    torch.testing.assert_close(there.probabilities(there.of_coarse), logits.softmax(1))
    assert torch.equal(there.whole_labels(there.of_coarse.argmax(1)), there.labels)
    volumes = there.sure_volumes + there.of_coarse.sum(2)[0]
    torch.testing.assert_close(volumes, logits.softmax(1).sum((0, 2, 3, 4)))
