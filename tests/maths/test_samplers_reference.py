"""Each sampler step by step against diffusers, from the same noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddmseg.maths.samplers import ddim, ddpm, dpm_solver_pp_2m
from ddmseg.maths.schedule import Schedule, make_schedule

diffusers = pytest.importorskip("diffusers")

TRAINING_STEPS = 1000
STEPS = 20
SHAPE = (2, 3, 4, 5)
SCHEDULES = [make_schedule("linear"), make_schedule(shift=-2.0)]
TIMES = 1 - torch.arange(STEPS, dtype=torch.float64) / STEPS


def discrete_betas(schedule: Schedule) -> list[float]:
    """The rates of a discrete chain that passes through our schedule at i / 1000."""
    t = torch.linspace(0, 1, TRAINING_STEPS + 1, dtype=torch.float64)
    alpha_squared = schedule.alpha(t) ** 2
    alpha_squared[0] = 1.0  # diffusers starts from the clean mask, without our cut
    return (1 - alpha_squared[1:] / alpha_squared[:-1]).tolist()


def network(x_t: Tensor, t: Tensor) -> Tensor:
    """Depends on all of its input and on time, and is not small."""
    return torch.tanh(2 * x_t.flip(1) + 0.3 * x_t) * (1.2 - t) + 0.1 * t


def start() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))


def theirs(kind: str, schedule: Schedule, generator: torch.Generator) -> list[Tensor]:
    """Every x_t of diffusers, and its result."""
    settings = {"clip_sample": False} if kind != "DPMSolverMultistepScheduler" else {}
    scheduler = getattr(diffusers, kind)(
        num_train_timesteps=TRAINING_STEPS,
        trained_betas=discrete_betas(schedule),
        prediction_type="sample",
        timestep_spacing="trailing",
        **settings,
    )
    scheduler.set_timesteps(STEPS)
    x_t, path = start(), []
    for step in scheduler.timesteps:
        path.append(x_t)
        x_0 = network(x_t, (step + 1) / TRAINING_STEPS)
        x_t = scheduler.step(x_0, step, x_t, generator=generator).prev_sample
    return [*path, x_t]


def ours(sampler, schedule: Schedule, generator: torch.Generator) -> list[Tensor]:
    path = []

    def watched(x_t: Tensor, t: Tensor) -> Tensor:
        path.append(x_t)
        return network(x_t, t)

    out = sampler(watched, start(), schedule=schedule, times=TIMES, generator=generator)
    return [*path, out]


def assert_same_path(a: list[Tensor], b: list[Tensor]) -> None:
    assert len(a) == len(b) == STEPS + 1
    for x, y in zip(a, b, strict=True):
        assert torch.allclose(x, y, atol=2e-4)  # they compute in float32


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_takes_the_steps_of_diffusers(schedule):
    generator = torch.Generator()
    reference = theirs("DDIMScheduler", schedule, generator)
    assert_same_path(ours(ddim, schedule, generator), reference)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_takes_the_steps_of_diffusers(schedule):
    generators = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    reference = theirs("DDPMScheduler", schedule, generators[0])
    assert_same_path(ours(ddpm, schedule, generators[1]), reference)


# diffusers turns a tensor into an array in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_dpm_solver_takes_the_steps_of_diffusers(schedule):
    generator = torch.Generator()
    reference = theirs("DPMSolverMultistepScheduler", schedule, generator)
    assert_same_path(ours(dpm_solver_pp_2m, schedule, generator), reference)


def test_the_samplers_differ_from_each_other():
    # Otherwise the three comparisons above would show less than they seem to.
    generator = torch.Generator().manual_seed(1)
    ends = [ours(s, SCHEDULES[0], generator)[-2] for s in (ddpm, ddim, dpm_solver_pp_2m)]
    assert (ends[0] - ends[1]).abs().max() > 0.05
    assert (ends[1] - ends[2]).abs().max() > 0.05
