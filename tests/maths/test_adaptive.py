"""The effort ladder and the sampler that chooses its own times."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.adaptive import BUDGETS, StepController, adaptive, climb
from ddmseg.maths.samplers import SAMPLERS, dpm_solver_pp_2m, log_snr_to_time, time_grid
from ddmseg.maths.schedule import CosineSchedule, LinearSchedule

LINEAR = LinearSchedule()
ENDS = torch.tensor([1.0, 1e-2], dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


class Counter:
    """A clean-mask predictor that counts how often it is asked."""

    def __init__(self, clean) -> None:
        self.clean = clean
        self.calls = 0

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.clean(x_t, t)


# The sampler


@pytest.fixture(scope="module")
def solution(mixture):
    levels = LINEAR.log_snr(ENDS).tolist()
    times = log_snr_to_time(torch.linspace(*levels, 1281, dtype=torch.float64), schedule=LINEAR)
    clean = mixture.predictor(LINEAR)
    return dpm_solver_pp_2m(clean, normal(16, 2), schedule=LINEAR, times=times)


def solve(mixture, tolerance: float) -> tuple[Tensor, int]:
    clean = Counter(mixture.predictor(LINEAR))
    out = adaptive(
        clean, normal(16, 2), schedule=LINEAR, times=ENDS, tolerance=tolerance, max_steps=10_000
    )
    return out, clean.calls


@pytest.mark.parametrize("tolerance", [3e-2, 1e-2, 1e-3])
def test_error_stays_within_the_tolerance(mixture, solution, tolerance):
    out, _ = solve(mixture, tolerance)
    error = (out - solution).square().mean().sqrt() / solution.square().mean().sqrt()
    # The tolerance bounds one step; errors of the steps add up, but not all of them.
    assert error < 3 * tolerance


def test_a_tighter_tolerance_costs_more_and_errs_less(mixture, solution):
    results = [solve(mixture, tolerance) for tolerance in (1e-1, 1e-2, 1e-3)]
    errors = [(out - solution).abs().mean().item() for out, _ in results]
    assert errors == sorted(errors, reverse=True)
    calls = [calls for _, calls in results]
    assert calls == sorted(calls)
    assert calls[0] < calls[2] / 3


def test_it_needs_fewer_evaluations_than_equal_steps_of_its_order(mixture, solution):
    out, calls = solve(mixture, 1e-2)
    fixed = dpm_solver_pp_2m(
        mixture.predictor(LINEAR), normal(16, 2), schedule=LINEAR, times=uniform_to_end(calls)
    )
    assert (out - solution).abs().mean() < (fixed - solution).abs().mean()


def uniform_to_end(steps: int) -> Tensor:
    return torch.linspace(1.0, float(ENDS[-1]), steps, dtype=torch.float64)


def test_an_easier_problem_takes_fewer_steps(mixture):
    mask = normal(16, 2, seed=1)
    easy = Counter(lambda x_t, t: mask)
    out = adaptive(easy, normal(16, 2), schedule=LINEAR, times=ENDS)
    _, calls = solve(mixture, 1e-2)
    assert torch.equal(out, mask)
    assert easy.calls < calls / 2


@pytest.mark.parametrize("schedule", [LINEAR, CosineSchedule()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 4), (1, 2, 3, 4), (2, 3, 2, 3, 4)])
def test_shape_and_dtype_are_kept(schedule, dtype, shape):
    out = adaptive(
        lambda x_t, t: torch.tanh(x_t * (1 - t)),
        normal(*shape).to(dtype),
        schedule=schedule,
        times=time_grid(5, schedule=schedule),
    )
    assert out.shape == shape
    assert out.dtype == dtype


def test_the_callback_sees_falling_times_and_the_result(mixture):
    seen = []
    out = adaptive(
        mixture.predictor(LINEAR),
        normal(4, 2),
        schedule=LINEAR,
        times=ENDS,
        callback=lambda i, t, x_t, x_0: seen.append((i, float(t), x_0)),
    )
    assert [i for i, *_ in seen] == list(range(len(seen)))
    times = [t for _, t, _ in seen]
    assert times == sorted(times, reverse=True)
    assert times[0] == 1.0
    assert times[-1] == 1e-2
    assert torch.equal(seen[-1][2], out)


def test_the_hardest_item_of_a_batch_decides(mixture):
    clean = mixture.predictor(LINEAR)
    together, alone = Counter(clean), Counter(clean)
    first = normal(1, 2, seed=4)
    adaptive(together, torch.cat([first, normal(15, 2)]), schedule=LINEAR, times=ENDS)
    adaptive(alone, first, schedule=LINEAR, times=ENDS)
    assert alone.calls <= together.calls


@pytest.mark.parametrize("max_steps", [3, 10])
def test_max_steps_bounds_the_evaluations(mixture, max_steps):
    clean = Counter(mixture.predictor(LINEAR))
    out = adaptive(
        clean, normal(4, 2), schedule=LINEAR, times=ENDS, tolerance=1e-9, max_steps=max_steps
    )
    assert clean.calls == max_steps
    assert out.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": ENDS[:1]}, "times: got 1; the adaptive sampler needs a start and an end"),
        ({"times": ENDS.flip(0)}, "strictly decrease"),
        ({"tolerance": 0.0}, "tolerance: got 0; it must be above 0"),
        ({"tolerance": math.nan}, "tolerance: got nan; it must be above 0"),
        ({"max_steps": 2}, "max_steps: got 2; it must be at least 3"),
    ],
)
def test_adaptive_refuses(options, message):
    with pytest.raises(SettingsError, match=message):
        adaptive(lambda x, t: x, normal(2, 2), **{"schedule": LINEAR, "times": ENDS} | options)


def test_the_controller_shrinks_after_large_and_grows_after_small_errors():
    rule = StepController()
    assert rule.factor(4.0, 0.5) == pytest.approx(0.9 / 2)
    assert rule.factor(1e9, 0.5) == rule.slowest
    assert rule.factor(0.0, 0.0) > 1
    assert rule.factor(0.0, 1.0) == rule.fastest
    # A rising error shortens the step more than a falling one of the same size.
    assert rule.factor(0.5, 0.1) < rule.factor(0.5, 0.9)


# The ladder


def ladder(qualities):
    """A run whose quality is looked up by its steps; its result is the steps as text."""
    return lambda steps: (str(steps), qualities[steps])


def test_it_stops_when_the_quality_is_reached():
    effort = climb(ladder({10: 0.8, 25: 0.92}), quality=0.9)
    assert effort.result == "25"
    assert effort.reason == "reached"
    assert effort.steps_spent == 35
    assert [rung.steps for rung in effort.rungs] == [10, 25]


def test_a_good_first_rung_is_enough():
    effort = climb(ladder({10: 0.95}), quality=0.9)
    assert (effort.result, effort.steps_spent, effort.reason) == ("10", 10, "reached")


def test_it_stops_when_more_steps_bring_nothing():
    effort = climb(ladder({10: 0.7, 25: 0.8, 50: 0.801}), quality=0.9, min_gain=0.01)
    assert effort.reason == "no gain"
    assert effort.best.steps == 50


@pytest.mark.parametrize(("start", "tried"), [(0.6, 1), (0.499, 1), (0.49, 3)])
def test_the_first_rung_must_better_what_was_there(start, tried):
    found = dict(zip((1, 2, 3), (0.5, 0.6, 0.6), strict=True))
    effort = climb(lambda n: (n, found[n]), quality=0.9, budgets=(1, 2, 3), start=start)
    assert len(effort.rungs) == tried
    assert effort.best.quality == max(rung.quality for rung in effort.rungs)
    assert effort.reason == "no gain"


def test_the_best_result_is_kept_when_more_steps_are_worse():
    effort = climb(ladder({10: 0.8, 25: 0.7}), quality=0.9)
    assert (effort.result, effort.best.quality, effort.reason) == ("10", 0.8, "no gain")


def test_it_climbs_to_the_end_while_quality_grows():
    effort = climb(ladder({n: n / 1000 for n in BUDGETS}), quality=0.9)
    assert (effort.result, effort.reason) == ("200", "exhausted")
    assert effort.steps_spent == sum(BUDGETS) == 385


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_it_climbs_any_sampler(mixture, name):
    clean, mask = mixture.predictor(LINEAR), normal(8, 2)

    def run(steps: int) -> tuple[Tensor, float]:
        generator = torch.Generator().manual_seed(0)
        times = time_grid(steps, schedule=LINEAR)
        x = SAMPLERS[name](clean, mask, schedule=LINEAR, times=times, generator=generator)
        nearest = torch.cdist(x, mixture.means).min(1).values.mean()
        return x, float(torch.exp(-nearest))

    effort = climb(run, quality=0.999, budgets=(1, 5, 10))
    assert effort.result.shape == (8, 2)
    assert effort.best.quality == max(rung.quality for rung in effort.rungs)


@pytest.mark.parametrize("budgets", [(), (0, 5), (10, 10), (25, 10)])
def test_budgets_that_do_not_increase_are_refused(budgets):
    with pytest.raises(SettingsError, match=r"budgets: got .*increasing"):
        climb(ladder({}), quality=0.9, budgets=budgets)


def test_a_quality_that_is_no_number_is_refused():
    with pytest.raises(SettingsError, match="quality: got NaN at 10 steps"):
        climb(ladder({10: math.nan}), quality=0.9)
