"""Samplers against an exact mixture, against each other, and one contract for all."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.samplers import (
    SAMPLERS,
    Jump,
    ddim,
    ddpm,
    dpm_solver_pp_2m,
    find_sampler,
    one_step,
    time_grid,
)
from ddmseg.maths.schedule import make_schedule
from pairs import pairs

LINEAR = make_schedule("linear")
SCHEDULES = [LINEAR, make_schedule(), make_schedule(shift=-3.0)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def log_snr_to_time(log_snr: Tensor) -> Tensor:
    """Find the times in [0, 1] of ``LINEAR`` with the given log-SNR, by bisection."""
    low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
    for _ in range(60):
        middle = (low + high) / 2
        too_clean = LINEAR.log_snr(middle) > log_snr
        low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
    return (low + high) / 2


def lattice(steps: int) -> Tensor:
    """Times between two fixed ends whose steps in log-SNR are long and short in turn.

    Equal steps would hide a multistep rule that forgets their ratio.
    """
    ends = LINEAR.log_snr(torch.tensor([1.0, 1e-2], dtype=torch.float64))
    lengths = torch.tensor([1.3, 0.7], dtype=torch.float64).repeat(steps // 2)
    share = torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
    return log_snr_to_time(ends[0] + share * ends.diff())


# Truth: order of convergence and moments


@pytest.fixture(scope="module")
def solution(mixture):
    """The ODE's answer for 16 noises, from a solver with far more steps than any test."""
    return dpm_solver_pp_2m(
        mixture.predictor(LINEAR), normal(16, 2), schedule=LINEAR, times=lattice(1280)
    )


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1.0), (dpm_solver_pp_2m, 2.0)])
def test_error_falls_at_the_promised_order(mixture, solution, sampler, order):
    clean, x_T = mixture.predictor(LINEAR), normal(16, 2)
    steps, errors = torch.tensor([30.0, 60.0, 120.0, 240.0]), []
    for n in steps:
        x_0 = sampler(clean, x_T, schedule=LINEAR, times=lattice(int(n)))
        errors.append((x_0 - solution).square().mean().sqrt())
    log_n, log_error = steps.log(), torch.stack(errors).log().float()
    centred = log_n - log_n.mean()
    slope = (centred * log_error).sum() / centred.square().sum()
    assert float(-slope) == pytest.approx(order, abs=0.2)


def test_first_and_second_order_solve_the_same_equation(mixture, solution):
    # Richardson: two DDIM runs extrapolated land on the second-order answer.
    clean, x_T = mixture.predictor(LINEAR), normal(16, 2)
    coarse, fine = (ddim(clean, x_T, schedule=LINEAR, times=lattice(n)) for n in (150, 300))
    assert (2 * fine - coarse - solution).abs().max() < 0.2 * (fine - solution).abs().max()


def draw(sampler, mixture, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x_T = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    ends = LINEAR.log_snr(torch.tensor([1.0, 1e-3], dtype=torch.float64)).tolist()
    levels = torch.linspace(*ends, 101, dtype=torch.float64)[1:-1]
    times = torch.cat([torch.ones(1), log_snr_to_time(levels)])
    clean = mixture.predictor(LINEAR)
    return sampler(clean, x_T, schedule=LINEAR, times=times, generator=generator)


def assert_same_moments(x: Tensor, mixture) -> None:
    """Mean within 4 standard errors; covariance within 0.05, 4 errors of its largest entry.

    The last clean prediction lacks the noise still in x_t, a bias of sigma^2 < 1e-3.
    """
    error_of_mean = (mixture.covariance.diagonal() / len(x)).sqrt()
    assert ((x.mean(0) - mixture.mean).abs() < 4 * error_of_mean + 0.005).all()
    assert torch.allclose(x.T.cov(), mixture.covariance, atol=0.05)


@pytest.fixture(scope="module")
def ddpm_samples(mixture):
    return draw(ddpm, mixture, 6_000, seed=1)


def test_ddpm_samples_have_the_mean_and_covariance_of_the_mixture(mixture, ddpm_samples):
    assert_same_moments(ddpm_samples, mixture)


def test_ddpm_finds_the_weights_of_the_components(mixture, ddpm_samples):
    nearest = torch.cdist(ddpm_samples, mixture.means).argmin(1)
    component = torch.multinomial(
        mixture.weights, 6_000, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    root = torch.linalg.cholesky(mixture.covariances)[component]
    truth = mixture.means[component] + (root @ normal(6_000, 2, 1, seed=7))[..., 0]
    expected = torch.cdist(truth, mixture.means).argmin(1)
    found, wanted = (x.bincount(minlength=3) / 6_000 for x in (nearest, expected))
    assert torch.allclose(found, wanted, atol=0.03)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_perfect_predictor_of_one_mask_is_exact_at_any_budget(schedule):
    mask = normal(3, 4, seed=5)
    for name, sampler in SAMPLERS.items():
        times = time_grid(7)
        generator = torch.Generator().manual_seed(0)
        out = sampler(
            lambda x_t, t: mask, normal(3, 4), schedule=schedule, times=times, generator=generator
        )
        assert torch.equal(out, mask), name


@pytest.mark.parametrize("times", [[], [1.2], [0.0], [math.nan]])
def test_one_step_refuses_a_bad_first_time(times):
    with pytest.raises(SettingsError, match="times: got"):
        one_step(smooth, normal(2), schedule=LINEAR, times=torch.tensor(times))


# Contract: every sampler, one set of checks


def smooth(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x_t * (1 - t / 2))


@pytest.fixture(params=sorted(SAMPLERS))
def sampler(request):
    return find_sampler(request.param)


@pytest.mark.parametrize(
    ("shape", "dtype", "schedule"),
    pairs(
        ((3,), (2, 4), (1, 2, 3, 4), (2, 3, 2, 3, 4)),
        (torch.float32, torch.float64, torch.bfloat16),
        SCHEDULES,
    ),
)
def test_shape_and_dtype_are_kept(sampler, shape, dtype, schedule):
    times = time_grid(4)
    generator = torch.Generator().manual_seed(0)
    x_T = normal(*shape).to(dtype)
    out = sampler(smooth, x_T, schedule=schedule, times=times, generator=generator)
    assert out.shape == shape
    assert out.dtype == dtype
    assert out.isfinite().all()


def test_the_generator_decides(sampler):
    def run(seed: int) -> Tensor:
        return sampler(
            smooth,
            normal(4, 5),
            schedule=LINEAR,
            times=time_grid(6),
            generator=torch.Generator().manual_seed(seed),
        )

    assert torch.equal(run(0), run(0))
    assert torch.equal(run(0), run(1)) == (sampler is not ddpm)  # the others draw nothing


def test_the_network_is_asked_once_at_each_time_and_its_last_answer_returned(sampler):
    seen = []

    def clean(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append((float(t), x_t))
        return smooth(x_t, t)

    times, generator = time_grid(5), torch.Generator().manual_seed(0)
    out = sampler(clean, normal(2, 3), schedule=LINEAR, times=times, generator=generator)
    asked = times[: 1 if sampler is one_step else 5]
    assert [t for t, _ in seen] == asked.tolist()
    assert torch.equal(seen[0][1], normal(2, 3))
    assert torch.equal(smooth(seen[-1][1], asked[-1]), out)


def test_one_step_is_one_clean_prediction_from_noise(sampler):
    x_T = normal(2, 3)
    out = sampler(smooth, x_T, schedule=LINEAR, times=time_grid(1))
    assert torch.equal(out, smooth(x_T, torch.tensor(1.0)))


def test_the_input_noise_is_left_alone(sampler):
    x_T = normal(2, 3)
    sampler(smooth, x_T, schedule=LINEAR, times=time_grid(3))
    assert torch.equal(x_T, normal(2, 3))


def test_time_reaches_the_network_in_its_own_dtype(sampler):
    def clean(x_t: Tensor, t: Tensor) -> Tensor:
        assert t.ndim == 0
        assert t.dtype == x_t.dtype == torch.float32
        return x_t

    sampler(clean, normal(2, 3).float(), schedule=LINEAR, times=time_grid(3))


@pytest.mark.parametrize(
    "times", [[], [[1.0, 0.5]], [0.5, 0.5], [0.5, 1.0], [1.0, 0.0], [1.2, 0.5], [1.0, math.nan]]
)
@pytest.mark.parametrize("sampler", [ddpm, ddim, dpm_solver_pp_2m])
def test_bad_times_are_refused(sampler, times):
    with pytest.raises(SettingsError, match="times: got"):
        sampler(smooth, normal(2), schedule=LINEAR, times=torch.tensor(times))


def test_steps_without_length_do_no_harm():
    # A strongly shifted schedule is cut near t = 1, so neighbouring times have one log-SNR.
    schedule = make_schedule(shift=-16.0)
    times = torch.tensor([1.0, 0.99, 0.98, 0.5, 0.1], dtype=torch.float64)
    for sampler in (ddpm, ddim, dpm_solver_pp_2m):
        out = sampler(smooth, normal(2, 3), schedule=schedule, times=times)
        assert out.isfinite().all()


def test_an_unknown_sampler_is_refused_with_a_hint():
    with pytest.raises(SettingsError, match=r"got 'ddmi' \(did you mean 'dd.+'\?\)"):
        find_sampler("ddmi")


# Times


@pytest.mark.parametrize("steps", [1, 2, 10, 200])
def test_time_grid_falls_from_one_in_equal_steps(steps):
    times = time_grid(steps)
    assert (times.dtype, float(times[0])) == (torch.float64, 1.0)
    ends = torch.linspace(1, 1e-3, steps + 1, dtype=torch.float64)
    assert torch.allclose(times, ends[:-1])  # trailing: the end itself is not asked


def test_time_grid_refuses():
    with pytest.raises(SettingsError, match="steps: got 0; it must be at least 1"):
        time_grid(0)


def test_jump_keeps_its_precision_over_tiny_steps():
    t, s = torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.5 - 1e-9, dtype=torch.float64)
    jump = Jump.between(t, s, LINEAR)
    rate = -torch.autograd.functional.jacobian(LINEAR.log_snr, t)  # so fresh ~ rate dt
    assert float(jump.fresh) == pytest.approx(float(rate * 1e-9), rel=1e-5)
