"""The algebra of steps, held against closed forms and against the sampler itself."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.distillation import (
    consistency_target,
    divergence,
    first_share,
    halvings,
    ode_step,
    softened,
    two_step_target,
    walk_times,
)
from ddmseg.maths.encoding import MaskEncoding
from ddmseg.maths.samplers import ddim, time_grid
from ddmseg.maths.schedule import Schedule, make_schedule

SCHEDULES = [make_schedule("cosine"), make_schedule("linear"), make_schedule("cosine", -2.0)]
VARIANCE = 0.3
"""Of Gaussian data, whose ODE is linear and solved in closed form."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def at(*times: float) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(t, dtype=torch.float64) for t in times)


def spread(t: Tensor, schedule: Schedule) -> Tensor:
    """Standard deviation of x_t for Gaussian data."""
    return (schedule.alpha(t) ** 2 * VARIANCE + schedule.sigma(t) ** 2).sqrt()


def gaussian(schedule: Schedule):
    """The perfect clean-mask predictor of Gaussian data: linear in x_t."""

    def clean(x_t: Tensor, t: Tensor) -> Tensor:
        return schedule.alpha(t) * VARIANCE / spread(t, schedule) ** 2 * x_t

    return clean


falling = st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3, unique=True).map(
    lambda times: sorted(times, reverse=True)
)


# One step for two


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@given(times=falling)
def test_one_step_with_the_target_lands_where_two_steps_do(schedule, times):
    t, m, s = at(*times)
    x_t, first, second = normal(3, 4, 4)
    middle = ode_step(x_t, first, t, m, schedule=schedule)
    landed = ode_step(middle, second, m, s, schedule=schedule)
    share = first_share(t, m, s, schedule=schedule)
    assert 0 <= share <= 1
    target = two_step_target(first, second, share=share)
    torch.testing.assert_close(
        ode_step(x_t, target, t, s, schedule=schedule), landed, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_it_is_the_target_of_the_paper(schedule):
    t, m, s = at(0.8, 0.5, 0.3)
    z_t, first, second = normal(3, 4, 4)
    z_s = ode_step(ode_step(z_t, first, t, m, schedule=schedule), second, m, s, schedule=schedule)
    ratio = schedule.sigma(s) / schedule.sigma(t)
    paper = (z_s - ratio * z_t) / (schedule.alpha(s) - ratio * schedule.alpha(t))
    share = first_share(t, m, s, schedule=schedule)
    torch.testing.assert_close(two_step_target(first, second, share=share), paper)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_exact_steps_of_a_linear_ode_give_an_exact_target(schedule):
    t, m, s = at(0.9, 0.6, 0.2)
    x_t = normal(16)

    def exact_clean(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The clean mask whose step from t lands on the solution of the ODE at s."""
        ratio = schedule.sigma(s) / schedule.sigma(t)
        goal = x * spread(s, schedule) / spread(t, schedule)
        return (goal - ratio * x) / (schedule.alpha(s) - ratio * schedule.alpha(t))

    first = exact_clean(x_t, t, m)
    x_m = ode_step(x_t, first, t, m, schedule=schedule)
    second = exact_clean(x_m, m, s)
    target = two_step_target(first, second, share=first_share(t, m, s, schedule=schedule))
    solution = x_t * spread(s, schedule) / spread(t, schedule)
    torch.testing.assert_close(ode_step(x_t, target, t, s, schedule=schedule), solution)


def test_a_walk_ends_in_its_last_clean_mask():
    t, m, end = at(0.5, 0.25, 0.0)
    x_t, first, second = normal(3, 4, 4)
    schedule = make_schedule()
    assert torch.equal(ode_step(x_t, first, t, end, schedule=schedule), first)
    assert first_share(t, m, end, schedule=schedule) == 0.0
    assert torch.equal(two_step_target(first, second, share=0.0), second)


def test_the_end_is_the_limit_of_late_times():
    schedule = make_schedule()
    t, m, near = at(0.5, 0.25, 1e-4)
    assert first_share(t, m, near, schedule=schedule) == pytest.approx(0.0, abs=1e-3)


def test_steps_without_length_have_a_target_too():
    # The cosine's log-SNR is cut just below time 1.
    t, m, s = at(1.0, 1 - 1e-7, 1 - 2e-7)
    assert first_share(t, m, s, schedule=make_schedule()) == 0.0


def test_the_target_of_masks_is_the_mask_of_the_target_of_probabilities():
    encoding = MaskEncoding(33)  # analog bits: fewer channels than classes
    first, second = torch.softmax(3 * normal(2, 1, 33, 4, 4), dim=2)
    p = two_step_target(first, second, share=0.3)
    torch.testing.assert_close(p.sum(1), torch.ones(1, 4, 4, dtype=torch.float64))
    masks = [encoding.of_probabilities(each) for each in (first, second)]
    torch.testing.assert_close(encoding.of_probabilities(p), two_step_target(*masks, share=0.3))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_perfect_students_of_students_end_where_the_first_teacher_does(schedule):
    teacher = gaussian(schedule)
    x_T = normal(16)
    grid = time_grid(8)
    goal = ddim(teacher, x_T, schedule=schedule, times=grid)
    student = teacher
    for steps in halvings(8, 1):
        student = taught(student, walk_times(2 * steps), schedule)
    torch.testing.assert_close(ddim(student, x_T, schedule=schedule, times=grid[:1]), goal)


def taught(teacher, times: Tensor, schedule: Schedule):
    """A student that says at every other time what progressive distillation asks of it."""

    def clean(x_t: Tensor, t: Tensor) -> Tensor:
        n = int((times - t).abs().argmin())
        here, m, s = times[n : n + 3]
        first = teacher(x_t, here)
        second = teacher(ode_step(x_t, first, here, m, schedule=schedule), m)
        return two_step_target(first, second, share=first_share(here, m, s, schedule=schedule))

    return clean


# Consistency


def test_at_time_0_the_target_is_the_clean_mask_and_no_network_is_asked():
    def later() -> Tensor:
        raise AssertionError("asked of a mask without noise")

    clean = normal(4)
    assert consistency_target(later, clean, torch.tensor(0.0)) is clean


def test_at_any_other_time_it_is_what_is_said_there():
    said, arrived = normal(2, 4)
    assert consistency_target(lambda: said, arrived, torch.tensor(1e-3)) is said


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_student_consistent_at_every_time_ends_where_its_teacher_does(schedule):
    teacher = gaussian(schedule)
    times = walk_times(6)
    x_T = normal(16)

    def student(x_t: Tensor, n: int) -> Tensor:
        """Says at the n-th time what consistency asks of it."""
        arrived = teacher(x_t, times[n])
        x_s = ode_step(x_t, arrived, times[n], times[n + 1], schedule=schedule)
        return consistency_target(lambda: student(x_s, n + 1), arrived, times[n + 1])

    goal = ddim(teacher, x_T, schedule=schedule, times=times[:-1])
    torch.testing.assert_close(student(x_T, 0), goal)


# Times


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_half_as_many_steps_take_every_other_time(schedule, steps):
    times = walk_times(2 * steps)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    torch.testing.assert_close(times[::2], walk_times(steps))
    torch.testing.assert_close(times[:-1], time_grid(2 * steps))


@pytest.mark.parametrize(
    ("teacher", "student", "expected"), [(8, 1, [4, 2, 1]), (2, 1, [1]), (12, 3, [6, 3])]
)
def test_halvings(teacher, student, expected):
    assert halvings(teacher, student) == expected


@pytest.mark.parametrize(("teacher", "student"), [(10, 1), (1, 1), (2, 4), (8, 3)])
def test_steps_that_cannot_be_halved_are_refused(teacher, student):
    allowed = f"one of {2 * student}, {4 * student}, {8 * student}, {16 * student}, ..."
    with pytest.raises(SettingsError, match=f"teacher_steps: got {teacher}; .*{allowed}"):
        halvings(teacher, student)


# Soft labels


@given(temperature=st.floats(0.25, 8))
def test_softening_is_a_softmax_of_divided_logits(temperature):
    logits = normal(2, 5, 3)
    expected = torch.softmax(logits / temperature, dim=1)
    found = softened(torch.softmax(logits, dim=1), temperature=temperature)
    torch.testing.assert_close(found, expected)


def test_certain_probabilities_can_be_softened():
    p = torch.tensor([[[1.0], [0.0], [0.0]]])
    found = softened(p, temperature=2.0)
    assert found.isfinite().all()
    assert found[0, 0, 0] > 0.99
    assert softened(p, temperature=1.0) is p


def test_divergence_is_cross_entropy_less_entropy():
    logits = normal(2, 5, 3, seed=1)
    p = torch.softmax(normal(2, 5, 3), dim=1)
    expected = F.cross_entropy(logits, p) + (p * p.log()).sum(1).mean()
    found = divergence(logits, p)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@given(seed=st.integers(0, 2**31), temperature=st.floats(0.5, 5))
def test_divergence_is_0_for_the_teacher_and_above_for_others(seed, temperature):
    logits = normal(1, 4, 6, seed=seed)
    p = torch.softmax(logits / temperature, dim=1)
    assert divergence(logits, p, temperature=temperature).item() == pytest.approx(0, abs=1e-5)
    other = logits + normal(1, 4, 6, seed=seed + 1)
    assert divergence(other, p, temperature=temperature) > 0


def test_its_gradient_is_student_less_teacher_at_any_temperature():
    teacher = normal(1, 4, 6)
    for temperature in (1.0, 3.0):
        logits = normal(1, 4, 6, seed=1).requires_grad_()
        p = torch.softmax(teacher / temperature, dim=1)
        divergence(logits, p, temperature=temperature).backward()
        q = torch.softmax(logits.detach() / temperature, dim=1)
        torch.testing.assert_close(logits.grad, temperature * (q - p) / 6, rtol=1e-4, atol=1e-6)


def test_classes_that_the_teacher_rules_out_are_no_trouble():
    p = torch.tensor([[[1.0], [0.0]]])
    logits = torch.tensor([[[0.0], [0.0]]])
    assert divergence(logits, p).item() == pytest.approx(math.log(2))
