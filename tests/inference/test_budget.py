"""The clock of ``--budget``, on a machine whose work takes what it is told to take."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import SettingsError
from ddmseg.inference.budget import MARGIN, Deadline, budget_line
from ddmseg.inference.options import SegmentOptions

BEFORE, STEP = 1.0, 0.1
"""Seconds of all that comes before samples, and of a step of a sample."""


class Machine:
    """Does the work in the seconds expected, times how slow it is just then."""

    def __init__(self, *, slow: float = 1.0) -> None:
        self.now, self.slow = 0.0, slow

    def work(self, seconds: float) -> None:
        self.now += seconds * self.slow

    def step(self) -> None:
        self.work(STEP)

    def encoded(self, seconds: float) -> Deadline:
        """A deadline of a scan that has been encoded."""
        deadline = Deadline(seconds, clock=lambda: self.now)
        self.work(BEFORE)
        deadline.encoded()
        return deadline

    def draw(self, deadline: Deadline, steps: int, samples: int) -> int:
        """Draw samples of a set until there is no time; return how many."""
        go_on = deadline.between_samples(steps)
        for done in range(1, samples + 1):
            self.work(steps * STEP)
            if done < samples and not go_on(done):
                break
        return done


def test_samples_are_drawn_while_another_one_fits() -> None:
    # 1 s before, 0.1 s of trying, then samples of 1 s, then 1 s: with the margin 3 of 4 fit
    machine = Machine()
    deadline = machine.encoded(5.7)
    assert deadline.allows(10, machine.step)
    assert machine.draw(deadline, 10, 4) == 3
    assert deadline.no_room
    machine.work(BEFORE)
    assert machine.now < deadline.seconds


def test_with_time_enough_all_are_drawn() -> None:
    machine = Machine()
    deadline = machine.encoded(60.0)
    assert deadline.allows(10, machine.step)
    assert machine.draw(deadline, 10, 4) == 4
    assert not deadline.no_room
    assert deadline.allows(200, machine.step)
    assert not deadline.allows(1000, machine.step)
    assert deadline.no_room


def test_a_step_is_tried_once_and_only_where_it_can_matter() -> None:
    machine = Machine()
    assert not machine.encoded(2.0).allows(1, machine.step)
    assert machine.now == BEFORE  # what is left is needed to finish
    deadline = machine.encoded(60.0)
    start = machine.now
    assert deadline.allows(1, machine.step)
    assert deadline.allows(2, machine.step)
    assert machine.now == pytest.approx(start + STEP)


def test_a_machine_that_turns_slow_draws_fewer_samples() -> None:
    machine = Machine()
    deadline = machine.encoded(8.5)
    assert deadline.allows(10, machine.step)
    machine.slow = 3.0
    assert machine.draw(deadline, 10, 4) == 1  # the first sample told
    assert not deadline.allows(10, machine.step)


def test_the_longest_sample_is_what_the_next_is_expected_to_take() -> None:
    machine = Machine()
    deadline = Deadline(9.0, clock=lambda: machine.now)
    go_on = deadline.between_samples(1)
    took = iter([1.0, 2.0, 1.0])
    machine.work(next(took))
    assert go_on(1)
    machine.work(next(took))
    assert go_on(2)  # 3 of 9 s are gone, 2 s times the margin are expected
    machine.work(next(took))
    assert go_on(3)
    machine.work(2.6)
    assert not go_on(4)  # 2.4 s are left


@given(st.floats(0.1, 60), st.floats(1, 4), st.integers(1, 50), st.integers(1, 8))
def test_a_steady_machine_keeps_a_budget_that_can_be_kept(seconds, slow, steps, samples) -> None:
    machine = Machine(slow=slow)
    deadline = machine.encoded(seconds)
    if deadline.allows(steps, machine.step):
        machine.draw(deadline, steps, samples)
    machine.work(BEFORE)
    assert machine.now <= max(seconds, slow * (2 * BEFORE + STEP)) + 1e-6


def test_parts_divide_what_is_left() -> None:
    machine = Machine()
    deadline = machine.encoded(10.0)
    assert deadline.part(0.5).seconds == 4.5
    machine.work(20.0)
    assert deadline.part(1.0).seconds == 0.0


def test_what_was_spent_is_told() -> None:
    machine = Machine(slow=1.5)
    deadline = machine.encoded(3.0)
    drawn = [{"steps": 10, "samples": 2, "expected_dice": 0.7}]
    record = deadline.record(drawn, "all was run")
    assert json.loads(json.dumps(record)) == {
        **{"seconds": 3.0, "margin": MARGIN, "drawn": drawn},
        **{"stopped_because": "all was run", "spent_seconds": 1.5},
    }
    assert budget_line(record, 2.9) == "budget 3 s: 10 steps x 2 samples"
    assert not deadline.allows(100, machine.step)
    short = deadline.record([], "?")
    assert budget_line(short, 3.1) == "budget 3 s: no samples; no time for more; exceeded"


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan])
def test_a_budget_of_nothing_is_refused(wrong) -> None:
    with pytest.raises(SettingsError, match=r"budget: got .*; it must be above 0 seconds"):
        SegmentOptions(budget=wrong)
