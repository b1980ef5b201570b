"""The VP-SDE schedules and conversions: laws, truth, and diffusers' discrete chain."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.schedule import (
    LOG_SNR_LIMIT,
    Schedule,
    clean_to_score,
    make_schedule,
    noise,
    score_to_clean,
)

SCHEDULES = [
    make_schedule("linear"),
    make_schedule(),
    make_schedule(shift=-3.0),
    make_schedule("linear", 2.0),
]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def dense(low: float = 0.0, high: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linspace(low, high, 20_001, dtype=dtype)


# The schedule


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_variance_is_preserved(schedule, dtype):
    t = dense(dtype=dtype)
    total = schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2
    assert (total - 1).abs().max() < 1e-6


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_is_finite_up_to_both_ends(schedule, dtype):
    t = dense(dtype=dtype)
    for values in (schedule.log_snr(t), schedule.alpha(t), schedule.sigma(t)):
        assert values.dtype == dtype
        assert values.isfinite().all()
    assert (schedule.alpha(t) > 0).all()
    assert (schedule.sigma(t) > 0).all()


@every_schedule
def test_log_snr_falls(schedule):
    level = schedule.log_snr(dense())
    assert (level.diff() <= 0).all()
    assert level.abs().max() <= LOG_SNR_LIMIT
    assert (schedule.log_snr(dense(0.001, 0.999)).diff() < 0).all()  # flat only where cut


@every_schedule
def test_log_snr_is_the_log_of_the_ratio(schedule):
    t = dense(0.01, 0.99)
    ratio = 2 * (schedule.alpha(t) / schedule.sigma(t)).log()
    assert torch.allclose(ratio, schedule.log_snr(t), atol=1e-10)


@every_schedule
def test_it_runs_from_clean_to_noise(schedule):
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert schedule.sigma(ends)[0] < 0.01
    assert schedule.alpha(ends)[1] < 0.06


def test_linear_alpha_is_the_closed_form():
    t = dense(0.001, 1.0)
    log_alpha = -0.25 * t**2 * 19.9 - 0.5 * t * 0.1  # Song et al. 2021, eq. 33
    assert torch.allclose(make_schedule("linear").alpha(t), log_alpha.exp(), atol=1e-12)


def test_cosine_alpha_is_the_cosine():
    t = dense(0.001, 0.999)
    assert torch.allclose(make_schedule().alpha(t), torch.cos(math.pi * t / 2), atol=1e-10)


@given(st.floats(0.05, 0.95), st.floats(0.1, 3.0))
def test_a_shift_is_a_scaled_mask(t, b):
    # Noise on a mask of size b, seen relative to b, is the base schedule shifted by 2 log b.
    t = torch.tensor(t, dtype=torch.float64)
    base = make_schedule()
    shifted = make_schedule(shift=2 * math.log(b))
    ratio = b * base.alpha(t) / base.sigma(t)
    assert (shifted.alpha(t) / shifted.sigma(t)).item() == pytest.approx(ratio.item())


def test_the_linear_schedule_is_the_limit_of_diffusers_discrete_chain():
    diffusers = pytest.importorskip("diffusers")
    steps = 5_000  # their chain of rates beta / N tends to ours as N grows
    chain = diffusers.DDPMScheduler(steps, beta_start=0.1 / steps, beta_end=20 / steps)
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    ours = make_schedule("linear").alpha(t) ** 2
    assert torch.allclose(ours, chain.alphas_cumprod.double(), atol=1e-3)


def test_the_cosine_schedule_is_near_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    chain = diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    ours = make_schedule().alpha(t) ** 2
    assert (ours - chain.alphas_cumprod.double()).abs().max() < 0.02  # their offset of 0.008


def test_names_make_schedules():
    assert make_schedule() == Schedule("cosine", 0.0)
    assert make_schedule("linear", shift=-2.0) == Schedule("linear", -2.0)


def test_an_unknown_name_is_refused():
    message = r"schedule: got 'cosin'; allowed are linear, cosine.*did you mean 'cosine'"
    with pytest.raises(SettingsError, match=message):
        make_schedule("cosin")


# Conversions


ROUND_TRIPS = [(clean_to_score, score_to_clean)]


@every_schedule
@pytest.mark.parametrize(("there", "back"), ROUND_TRIPS)
@pytest.mark.parametrize("t", [0.02, 0.3, 0.7, 0.97])
def test_round_trips(schedule, there, back, t):
    x_0, x_t, t = normal(2, 3, 4), normal(2, 3, 4, seed=1), torch.tensor(t, dtype=torch.float64)
    assert torch.allclose(back(there(x_0, x_t, t, schedule), x_t, t, schedule), x_0, atol=1e-8)
    other = normal(2, 3, 4, seed=2)
    assert torch.allclose(there(back(other, x_t, t, schedule), x_t, t, schedule), other, atol=1e-8)


@every_schedule
def test_the_noise_that_was_added_is_found(schedule):
    x_0, eps = normal(3, 2, 5), normal(3, 2, 5, seed=1)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    x_t = noise(x_0, eps, t, schedule)
    sigma = schedule.sigma(t).reshape(3, 1, 1)
    assert torch.allclose(clean_to_score(x_0, x_t, t, schedule), -eps / sigma)


def test_noise_has_the_promised_moments():
    x_0, t = torch.full((1, 200_000), 0.7, dtype=torch.float64), torch.tensor([0.4])
    x_t = noise(x_0, normal(1, 200_000), t, make_schedule())
    assert x_t.mean().item() == pytest.approx(0.7 * math.cos(0.2 * math.pi), abs=0.01)
    assert x_t.std().item() == pytest.approx(math.sin(0.2 * math.pi), abs=0.01)


@every_schedule
def test_the_score_is_the_gradient_of_the_log_density(schedule, mixture):
    # Tweedie: the posterior mean of a mixture gives the score of its noised density.
    t = torch.tensor(0.4, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    noised = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(mixture.weights),
        torch.distributions.MultivariateNormal(
            alpha * mixture.means,
            alpha**2 * mixture.covariances + sigma**2 * torch.eye(2, dtype=torch.float64),
        ),
    )
    x_t = normal(10, 2).requires_grad_()
    (expected,) = torch.autograd.grad(noised.log_prob(x_t).sum(), x_t)
    x_t = x_t.detach()
    score = clean_to_score(mixture.predictor(schedule)(x_t, t), x_t, t, schedule)
    assert torch.allclose(score, expected, atol=1e-8)


@pytest.mark.parametrize(
    "convert", [noise, *(function for pair in ROUND_TRIPS for function in pair)]
)
@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4, 5), (3, 2, 4, 5, 6)])
def test_one_time_an_item_is_each_item_alone(convert, shape):
    def call(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return convert(a, b, t, make_schedule())

    a, b, t = normal(*shape), normal(*shape, seed=1), torch.tensor([0.1, 0.5, 0.9]).double()
    together = call(a, b, t)
    alone = torch.stack([call(a[i], b[i], t[i]) for i in range(3)])
    assert together.shape == shape
    assert torch.allclose(together, alone)
    assert call(a.float(), b.float(), t).dtype == torch.float32
