"""The effort ladder."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.adaptive import BUDGETS, climb
from ddmseg.maths.samplers import SAMPLERS, time_grid
from ddmseg.maths.schedule import LinearSchedule

LINEAR = LinearSchedule()


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


class Ladder:
    """A run whose quality is looked up by its steps; its result is the steps as text."""

    def __init__(self, qualities: dict[int, float]) -> None:
        self.qualities = qualities
        self.tried: list[int] = []

    def __call__(self, steps: int) -> tuple[str, float]:
        self.tried.append(steps)
        return str(steps), self.qualities[steps]


# The ladder


def test_it_stops_when_the_quality_is_reached():
    run = Ladder({10: 0.8, 25: 0.92})
    effort = climb(run, quality=0.9)
    assert (effort.result, effort.quality, effort.reason) == ("25", 0.92, "reached")
    assert run.tried == [10, 25]


def test_a_good_first_rung_is_enough():
    run = Ladder({10: 0.95})
    effort = climb(run, quality=0.9)
    assert (effort.result, effort.reason) == ("10", "reached")
    assert run.tried == [10]


def test_it_stops_when_more_steps_bring_nothing():
    effort = climb(Ladder({10: 0.7, 25: 0.8, 50: 0.801}), quality=0.9, min_gain=0.01)
    assert (effort.result, effort.reason) == ("50", "no gain")


@pytest.mark.parametrize(("start", "tried"), [(0.6, 1), (0.499, 1), (0.49, 3)])
def test_the_first_rung_must_better_what_was_there(start, tried):
    run = Ladder({1: 0.5, 2: 0.6, 3: 0.6})
    effort = climb(run, quality=0.9, budgets=(1, 2, 3), start=start)
    assert run.tried == [1, 2, 3][:tried]
    assert effort.quality == max(run.qualities[steps] for steps in run.tried)
    assert effort.reason == "no gain"


def test_the_best_result_is_kept_when_more_steps_are_worse():
    effort = climb(Ladder({10: 0.8, 25: 0.7}), quality=0.9)
    assert (effort.result, effort.quality, effort.reason) == ("10", 0.8, "no gain")


def test_it_climbs_to_the_end_while_quality_grows():
    run = Ladder({n: n / 1000 for n in BUDGETS})
    effort = climb(run, quality=0.9)
    assert (effort.result, effort.reason) == ("200", "exhausted")
    assert tuple(run.tried) == BUDGETS


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_it_climbs_any_sampler(mixture, name):
    clean, mask = mixture.predictor(LINEAR), normal(8, 2)

    found = []

    def run(steps: int) -> tuple[Tensor, float]:
        generator = torch.Generator().manual_seed(0)
        times = time_grid(steps)
        x = SAMPLERS[name](clean, mask, schedule=LINEAR, times=times, generator=generator)
        nearest = torch.cdist(x, mixture.means).min(1).values.mean()
        found.append(float(torch.exp(-nearest)))
        return x, found[-1]

    effort = climb(run, quality=0.999, budgets=(1, 5, 10))
    assert effort.result.shape == (8, 2)
    assert effort.quality == max(found)


@pytest.mark.parametrize("budgets", [(), (0, 5), (10, 10), (25, 10)])
def test_budgets_that_do_not_increase_are_refused(budgets):
    with pytest.raises(SettingsError, match=r"budgets: got .*increasing"):
        climb(Ladder({}), quality=0.9, budgets=budgets)


def test_a_quality_that_is_no_number_is_refused():
    with pytest.raises(SettingsError, match="quality: got NaN at 10 steps"):
        climb(Ladder({10: math.nan}), quality=0.9)
