"""One set of checks for every conditioning, guidance and sampler, in 2-D and 3-D."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from ddmseg.errors import SettingsError
from ddmseg.maths.samplers import SAMPLERS
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks import sampling
from ddmseg.networks.denoiser import CONDITIONINGS
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.sampling import GUIDANCES, Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from pairs import pairs
from toys import tiny_model

GRID = 8
CLASSES = 3


@cache
def encoded(
    dims: int = 2, conditioning: str = "discrepancy", stride: int = 1, prior: bool = True
) -> tuple[DiscrepancyDiffusionSegmenter, Encoding]:
    """A model and two scans that it has encoded."""
    model = tiny_model(dims=dims, conditioning=conditioning, mask_stride=stride, coarse_prior=prior)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return model, model.encode(torch.randn(2, 1, *(GRID,) * dims, generator=generator))


def make_sampler(
    model: DiscrepancyDiffusionSegmenter,
    encoding: Encoding,
    kind: str = "none",
    scale: float = 0.5,
    temperature: float = 1.0,
) -> MaskSampler:
    return MaskSampler(model, encoding, make_schedule(), Guidance(kind, scale, temperature))


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize(
    ("conditioning", "dims", "stride", "guidance", "sampler"),
    pairs(CONDITIONINGS, (2, 3), (1, 2), GUIDANCES, tuple(SAMPLERS)),
)
@torch.no_grad()
def test_contract(conditioning, dims, stride, guidance, sampler):
    draw = make_sampler(*encoded(dims, conditioning, stride), guidance)
    p, again, other = (draw(sampler=sampler, steps=2, generator=seed(s)) for s in (0, 0, 1))
    assert p.shape == (2, CLASSES, *(GRID,) * dims)
    assert p.isfinite().all()
    assert p.min() >= 0
    torch.testing.assert_close(p.sum(1), torch.ones(2, *(GRID,) * dims))
    assert torch.equal(p, again)
    assert not torch.equal(p, other)


@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize("classes", [CLASSES, 20])
@torch.no_grad()
def test_a_light_denoiser_keeps_the_contract(classes, guidance):
    model = tiny_model(classes=classes, mask_stride=2, denoiser_form="light")
    encoding = model.encode(torch.randn(2, 1, GRID, GRID, generator=seed(1)))
    draw = make_sampler(model, encoding, guidance)
    seen = []
    p = draw(steps=3, generator=seed(0), observe=lambda step, said: seen.append(said()))
    assert p.shape == (2, classes, GRID, GRID)
    torch.testing.assert_close(p.sum(1), torch.ones(2, GRID, GRID))
    assert [q.shape for q in seen] == [(2, classes, GRID // 2, GRID // 2)] * 3
    assert not torch.equal(p, draw(steps=3, generator=seed(9)))


# Steps


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@torch.no_grad()
def test_an_observer_sees_every_step(sampler):
    seen = []
    draw = make_sampler(*encoded(stride=2))
    draw(sampler=sampler, steps=4, observe=lambda step, said: seen.append((step, said())))
    assert [step for step, _ in seen] == list(range(1 if sampler == "one-step" else 4))
    for _, p in seen:
        assert p.shape == (2, CLASSES, GRID // 2, GRID // 2)
        torch.testing.assert_close(p.sum(1), torch.ones(2, GRID // 2, GRID // 2))


@torch.no_grad()
def test_one_step_of_any_sampler_is_the_one_step_sampler():
    draw = make_sampler(*encoded())
    expected = draw(sampler="one-step", steps=7, generator=seed(0))
    for name in SAMPLERS:
        assert torch.equal(draw(sampler=name, steps=1, generator=seed(0)), expected)


@torch.no_grad()
def test_samplers_differ_after_the_first_step():
    draw = make_sampler(*encoded())
    answers = [draw(sampler=name, steps=4, generator=seed(0)) for name in ("ddim", "ddpm", "dpm")]
    assert not torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


@torch.no_grad()
def test_the_discrepancy_is_of_the_estimate_so_far():
    model, encoding = encoded()
    estimates = []

    draw = make_sampler(model, encoding)
    original = model.denoise

    def denoise(x_t, log_snr, conditions, enc, estimate, D):
        estimates.append(estimate)
        torch.testing.assert_close(D, model.seen_discrepancy(conditions, enc, estimate))
        return original(x_t, log_snr, conditions, enc, estimate, D)

    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "denoise", denoise)
        draw(steps=3, observe=lambda _, p: seen.append(model.mask_encoding.of_probabilities(p())))
    assert torch.equal(estimates[0], draw.first_estimate)
    assert torch.equal(estimates[1], seen[0])
    assert torch.equal(estimates[2], seen[1])


@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_the_first_estimate_is_the_coarse_mask_or_anything(stride):
    model, encoding = encoded(stride=stride)
    logits = encoding.coarse_logits
    p = logits.softmax(1)
    if stride == 2:
        p = torch.nn.functional.avg_pool2d(p, 2)
    first = make_sampler(model, encoding).first_estimate
    torch.testing.assert_close(first, model.mask_encoding.of_probabilities(p))
    ignorant = make_sampler(*encoded(stride=stride, prior=False)).first_estimate
    torch.testing.assert_close(ignorant, torch.full_like(first, 2 / CLASSES - 1))


@torch.no_grad()
def test_without_a_prior_it_samples_all_the_same():
    p = make_sampler(*encoded(prior=False))(steps=2, generator=seed(0))
    torch.testing.assert_close(p.sum(1), torch.ones(2, GRID, GRID))


def test_an_unknown_sampler_is_refused():
    with pytest.raises(SettingsError, match="did you mean 'ddim'"):
        make_sampler(*encoded())(sampler="ddimm")


# Guidance


@pytest.mark.parametrize("guidance", GUIDANCES[1:])
@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_guidance_of_scale_zero_is_no_guidance(guidance, stride):
    model, encoding = encoded(stride=stride)
    plain = make_sampler(model, encoding)(steps=3, generator=seed(0))
    guided = make_sampler(model, encoding, guidance, scale=0.0)(steps=3, generator=seed(0))
    # x_0 to score and back rounds; the blind branch does not even do that.
    torch.testing.assert_close(guided, plain, rtol=1e-3, atol=1e-4)
    if guidance == "classifier_free":
        assert torch.equal(guided, plain)


@pytest.mark.parametrize("guidance", GUIDANCES[1:])
@torch.no_grad()
def test_guidance_changes_the_answer(guidance):
    model, encoding = encoded()
    plain = make_sampler(model, encoding)(steps=3, generator=seed(0))
    guided = make_sampler(model, encoding, guidance, scale=2.0)(steps=3, generator=seed(0))
    assert not torch.allclose(guided, plain, atol=1e-3)


def last_clean_mask(monkeypatch: pytest.MonkeyPatch, draw: MaskSampler) -> torch.Tensor:
    """The guided clean mask that the sampler ends with."""
    masks = []

    def find(name):
        def run(*arguments, **options):
            masks.append(SAMPLERS[name](*arguments, **options))
            return masks[-1]

        return run

    monkeypatch.setattr(sampling, "find_sampler", find)
    draw(steps=3, generator=seed(0))
    return masks[-1]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_energy_guidance_lowers_the_discrepancy(monkeypatch, dims, stride):
    model, encoding = encoded(dims, "concat", stride)

    def D(scale: float, temperature: float = 1.0) -> float:
        draw = make_sampler(model, encoding, "energy", scale, temperature)
        mask = last_clean_mask(monkeypatch, draw)
        return model.folded_discrepancy(encoding, mask, stride=stride).mean().item()

    plain, weak, strong = D(0.0), D(0.01), D(0.05)
    assert strong < weak < plain
    # sigma_D divides the energy: twice the temperature is a quarter of the scale
    assert D(0.05, temperature=5**0.5) == pytest.approx(weak, rel=1e-4)


def test_energy_guidance_works_in_inference_mode():
    model, _ = encoded()
    with torch.inference_mode():
        encoding = model.encode(torch.randn(1, 1, GRID, GRID, generator=seed(3)))
        p = make_sampler(model, encoding, "energy")(steps=2, generator=seed(0))
    assert p.isfinite().all()


@pytest.mark.parametrize("classes", [3, 16, 33])
@torch.no_grad()
def test_classifier_guidance_leans_towards_the_coarse_answer(monkeypatch, classes):
    model = tiny_model(classes=classes, conditioning="none", coarse_prior=False)
    encoding = model.encode(torch.randn(1, 1, GRID, GRID, generator=seed(1)))
    truth = torch.randint(0, classes, (1, GRID, GRID), generator=seed(2))
    logits = 6.0 * torch.nn.functional.one_hot(truth, classes).movedim(-1, 1).float()
    encoding = Encoding(encoding.stem, encoding.pyramid, encoding.embedding, logits)

    def agreement(scale: float) -> float:
        mask = last_clean_mask(
            monkeypatch, make_sampler(model, encoding, "classifier", scale=scale)
        )
        codes = model.mask_encoding.codebook
        distance = torch.cdist(mask.movedim(1, -1).flatten(1, -2), codes[None])
        return (distance.argmin(-1) == truth.flatten(1)).float().mean().item()

    assert agreement(0.0) < 0.6
    assert agreement(1.0) > 0.95


@torch.no_grad()
def test_classifier_free_guidance_extrapolates_away_from_the_blind_answer():
    model, encoding = encoded()
    conditions = model.conditions(encoding)
    x_T = torch.randn(2, CLASSES, GRID, GRID, generator=seed(0))
    first = make_sampler(model, encoding).first_estimate
    log_snr = make_schedule().log_snr(torch.ones(2, dtype=torch.float64)).float()
    seeing, blind = (
        model.denoise(x_T, log_snr, c, encoding, first)[0]
        for c in (conditions, conditions.without_image())
    )
    found = make_sampler(model, encoding, "classifier_free", scale=1.5)(steps=1, generator=seed(0))
    expected = torch.softmax(seeing + 1.5 * (seeing - blind), dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_guided_mask_stays_within_the_scale_of_masks(monkeypatch):
    model = tiny_model(input_scale=0.3)
    encoding = model.encode(torch.randn(1, 1, GRID, GRID, generator=seed(1)))
    draw = make_sampler(model, encoding, "classifier", scale=100.0)
    mask = last_clean_mask(monkeypatch, draw)
    assert mask.abs().max() <= 0.3 + 1e-6
