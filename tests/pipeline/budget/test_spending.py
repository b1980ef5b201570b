"""Spending a budget against a clock that only moves when work is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import SettingsError
from ddmseg.pipeline.budget.costs import Costs, Draw
from ddmseg.pipeline.budget.deadline import Deadline
from ddmseg.pipeline.budget.head import HeadBudget
from ddmseg.pipeline.budget.plan import MARGIN, wish_of
from ddmseg.pipeline.budget.spending import Spending, told
from ddmseg.pipeline.options import SegmentOptions

OWN = Draw(10, 4)
COSTS = Costs(prepare=0.0, encode=1.0, finish=1.0, answer=0.3, sample=0.2, step=0.1)
AUTO = SegmentOptions()


class Machine:
    """Does the work in the seconds predicted, times how slow it is just then."""

    def __init__(self, *, slow: float = 1.0, costs: Costs = COSTS) -> None:
        self.now, self.slow, self.costs = 0.0, slow, costs
        self.drawn: list[Draw] = []

    def clock(self) -> float:
        return self.now

    def work(self, seconds: float) -> float:
        self.now += seconds * self.slow
        return seconds * self.slow

    def run(self, gains: dict[int, float]):
        """Draw samples; the quality is that of the number of steps."""

        def draw(wanted: Draw, go_on) -> tuple[str, float, int]:
            self.work(self.costs.answer)
            done = 0
            for done in range(1, wanted.samples + 1):
                self.work(self.costs.sample + wanted.steps * self.costs.step)
                if done < wanted.samples and not go_on(done):
                    break
            self.drawn.append(Draw(wanted.steps, done))
            return f"{wanted.steps} steps", gains.get(wanted.steps, 0.5), done

        return draw


def spend(machine: Machine, seconds: float, options: SegmentOptions = AUTO, **how):
    """Take a scan through its budget; return the answer, the record, and the spending."""
    deadline = Deadline(seconds, clock=machine.clock)
    spending = Spending(deadline, machine.costs, wish_of(options, own=OWN))
    cached = how.get("cached", False)
    spending.encoded(machine.work(0 if cached else COSTS.encode), COSTS, cached=cached)
    machine.slow = how.get("then", machine.slow)
    answer = spending.climb(
        machine.run(how.get("gains", {})), coarse=("coarse", how.get("coarse", 0.4)), quality=0.8
    )
    machine.work(COSTS.finish)
    return answer, spending.record()


def test_a_good_coarse_answer_costs_nothing_more() -> None:
    machine = Machine()
    answer, record = spend(machine, 30.0, coarse=0.85)
    assert (answer, machine.drawn) == ("coarse", [])
    assert record["stopped_because"] == "coarse was enough"
    assert record["spent_seconds"] == 2.0
    assert told(record) == "budget 30 s, planned for 18.2 s: no samples"


def test_the_climb_ends_where_the_next_set_does_not_fit() -> None:
    gains = {10: 0.5, 25: 0.6, 50: 0.7}
    answer, record = spend(Machine(), 30.0, gains=gains)
    assert answer == "25 steps"
    assert [(row["steps"], row["samples"]) for row in record["drawn"]] == [(10, 4), (25, 4)]
    assert record["stopped_because"] == "no room"
    assert record["not_run"][0] == {"steps": 50, "samples": 4}
    assert record["coarse_expected_dice"] == 0.4
    assert [row["expected_dice"] for row in record["drawn"]] == [0.5, 0.6]
    assert told(record) == (
        "budget 30 s, planned for 18.2 s: 10 steps x 4 samples + 25 steps x 4 samples; "
        "not run: 50 steps x 4 samples and 2 larger"
    )


def test_it_stops_when_good_enough_or_no_better() -> None:
    _, record = spend(Machine(), 60.0, gains={10: 0.81})
    assert (record["stopped_because"], len(record["drawn"])) == ("reached", 1)
    answer, record = spend(Machine(), 60.0, gains={10: 0.5, 25: 0.5})
    assert (answer, record["stopped_because"], len(record["drawn"])) == ("10 steps", "no gain", 2)
    answer, record = spend(Machine(), 60.0, gains={10: 0.3})
    assert (answer, record["stopped_because"]) == ("coarse", "no gain")  # samples were worse


def test_a_machine_that_turns_slow_draws_fewer_samples_and_says_so() -> None:
    machine = Machine()
    options = SegmentOptions(mode="diffusion")
    # 10 x 4 is planned; from the denoiser on all takes three times as long
    answer, record = spend(machine, 9.0, options, then=3.0)
    assert answer == "10 steps"
    assert record["planned"] == [{"steps": 10, "samples": 4}]
    (drawn,) = record["drawn"]
    assert drawn["samples"] < 4
    assert record["stopped_because"] == "no room"
    assert {"steps": 10, "samples": 4} in record["not_run"]
    assert record["slowdown"] == pytest.approx(3.0)  # the first sample told


def test_a_slow_encoder_makes_the_plan_smaller() -> None:
    _, record = spend(Machine(slow=2.0), 10.0)
    assert record["slowdown"] == 2.0
    assert record["planned"] == [{"steps": 10, "samples": 4}]
    assert record["drawn"][0]["steps"] * record["drawn"][0]["samples"] < 40
    assert record["spent_seconds"] <= 10.0


def test_features_from_the_cache_tell_nothing_of_speed_but_leave_more_time() -> None:
    machine = Machine()
    _, record = spend(machine, 9.0, cached=True, gains={10: 0.5})
    assert record["slowdown"] == 1.0
    assert machine.drawn == [Draw(10, 4)]


def test_too_late_to_refuse_gives_the_coarse_answer() -> None:
    answer, record = spend(Machine(slow=20.0), 3.0)
    assert (answer, record["drawn"]) == ("coarse", [])
    assert record["spent_seconds"] > record["seconds"]  # said as it is
    _, record = spend(Machine(slow=20.0), 3.8, SegmentOptions(mode="diffusion"))
    assert [(row["steps"], row["samples"]) for row in record["drawn"]] == [(2, 1)]


@given(
    st.floats(2.6, 200),
    st.floats(1, 4),
    st.sampled_from(["auto", "fast"]),
    st.dictionaries(st.sampled_from([2, 5, 10, 25, 50]), st.floats(0, 1)),
)
def test_a_machine_as_slow_as_it_seemed_always_keeps_the_budget(budget, slow, mode, gains) -> None:
    machine = Machine(slow=slow)
    _, record = spend(machine, budget, SegmentOptions(mode=mode), gains=gains)
    least = COSTS.fast * slow
    assert record["spent_seconds"] <= max(budget, least) + 1e-3  # as rounded


def test_it_is_refused_before_the_encoder_runs() -> None:
    machine = Machine()
    machine.now = 5.0
    deadline = Deadline(2.0, clock=machine.clock, start=4.5)
    with pytest.raises(SettingsError, match=r"got 2 s; this scan needs at least 3\.0 s"):
        Spending(deadline, COSTS, wish_of(AUTO, own=OWN))


def test_a_deadline_divides_what_is_left() -> None:
    machine = Machine()
    deadline = Deadline(10.0, clock=machine.clock, writes=True)
    machine.now = 2.0
    assert (deadline.spent, deadline.left) == (2.0, 8.0)
    part = deadline.part(0.5, reserve=2.0)
    assert (part.seconds, part.left, part.writes, part.refuses) == (3.0, 3.0, False, False)
    machine.now = 20.0
    assert deadline.part(1.0, reserve=0.0).seconds == 0.0


SIDE = Costs(prepare=0.1, encode=0.3, finish=0.1, answer=0.1, sample=0.05, step=0.05)


def head(machine: Machine, seconds: float, options: SegmentOptions = AUTO) -> HeadBudget:
    deadline = Deadline(seconds, clock=machine.clock, writes=True)
    return HeadBudget(deadline, COSTS, SIDE, wish_of(options, own=OWN), writing=0.8)


def test_both_sides_of_a_head_share_one_budget() -> None:
    machine = Machine(costs=SIDE)
    # locating 2.0, two sides of 0.5 without samples
    with pytest.raises(SettingsError, match=r"needs at least 3\.8 s"):
        head(machine, 3.0)
    budget = head(machine, 8.0)
    machine.work(COSTS.encode + 0.2)
    records = []
    for left in (2, 1):
        spending = Spending(budget.part(left), SIDE, wish_of(AUTO, own=OWN))
        machine.work(SIDE.prepare)
        spending.encoded(machine.work(SIDE.encode), SIDE, cached=False)
        spending.climb(machine.run({}), coarse=("coarse", 0.1), quality=0.8)
        machine.work(SIDE.finish)
        records.append(spending.record())
    record = budget.record(records)
    machine.work(0.8)
    assert machine.now <= 8.0
    assert all(draw.samples > 0 for draw in machine.drawn)
    assert len(machine.drawn) == 2
    assert record["seconds"] == 8.0
    assert record["covers"] == "reading to writing"
    assert record["predicted_seconds"] * MARGIN <= 8.0
    assert told(record).startswith("budget 8 s, planned for ")
