"""Planning within a budget: never above it, and never less for more."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import SettingsError
from ddmseg.pipeline.budget.costs import Costs, Draw, Rates, Size
from ddmseg.pipeline.budget.plan import MARGIN, Plan, Wish, choose, wish_of
from ddmseg.pipeline.options import SegmentOptions

OWN = Draw(10, 4)
COSTS = Costs(prepare=0.2, encode=1.0, finish=1.8, answer=0.3, sample=0.2, step=0.1)

seconds = st.floats(0, 100)
costs = st.builds(Costs, *[st.floats(0, 3)] * 6)
options = st.builds(
    SegmentOptions,
    mode=st.sampled_from(["auto", "fast", "diffusion"]),
    steps=st.none() | st.integers(1, 60),
    samples=st.none() | st.integers(1, 8),
)


def planned(costs: Costs, budget: float, wish: Wish, spent: float = 0.0) -> Plan | None:
    try:
        return choose(costs, budget, wish, spent=spent)
    except SettingsError:
        return None


def work(plan: Plan | None) -> int:
    return -1 if plan is None else sum(draw.steps * draw.samples for draw in plan.draws)


@given(costs, seconds, options, st.floats(0, 10))
def test_a_plan_with_its_margin_is_never_above_the_budget(costs, budget, options, spent) -> None:
    plan = planned(costs, budget, wish_of(options, own=OWN), spent)
    if plan is not None:
        by_hand = costs.fast + sum(costs.of(draw) for draw in plan.draws)
        assert plan.predicted == pytest.approx(spent + by_hand)
        assert spent + MARGIN * by_hand <= budget + 1e-9


@given(costs, seconds, st.floats(0, 50), options)
def test_more_seconds_never_plan_less(costs, budget, more, options) -> None:
    wish = wish_of(options, own=OWN)
    less, rich = planned(costs, budget, wish), planned(costs, budget + more, wish)
    assert work(rich) >= work(less)
    if less is not None:
        assert rich is not None
        assert len(rich.not_run) <= len(less.not_run)


@given(costs, options)
def test_a_refusal_names_a_budget_that_can_be_met(costs, options) -> None:
    wish = wish_of(options, own=OWN)
    try:
        choose(costs, 1e-6, wish)
    except SettingsError as error:
        smallest = float(str(error).split("--budget ")[1].split()[0])
        assert choose(costs, smallest, wish).predicted * MARGIN <= smallest + 1e-9
        if smallest > 0.2:  # and by a tenth of a second the smallest
            with pytest.raises(SettingsError):
                choose(costs, smallest - 0.1001, wish)


@given(options)
def test_a_wish_rises_and_ends_with_what_was_asked_for(options) -> None:
    wish = wish_of(options, own=OWN)
    if options.mode == "fast":
        assert wish == Wish((), (), True)
        return
    most = Draw(options.steps or OWN.steps, options.samples or OWN.samples)
    assert wish.first[-1] == most
    everything = [*wish.first, *wish.further]
    for a, b in itertools.pairwise(everything):
        assert a != b
        assert a.steps <= b.steps
        assert a.samples <= b.samples
    if options.steps:
        assert {draw.steps for draw in wish.first} == {options.steps}
    if options.samples:
        assert {draw.samples for draw in wish.first} == {options.samples}


def test_plans_by_hand() -> None:
    # fast 3 s; 2 steps: 0.3 + n (0.2 + 0.2); 5 x 4: 0.3 + 4 x 0.7; 10 x 4: 0.3 + 4 x 1.2
    auto = wish_of(SegmentOptions(), own=OWN)
    assert [str(draw) for draw in auto.first] == [
        *("2 steps x 1 sample", "2 steps x 2 samples", "2 steps x 3 samples"),
        *("2 steps x 4 samples", "5 steps x 4 samples", "10 steps x 4 samples"),
    ]
    assert [draw.steps for draw in auto.further] == [25, 50, 100, 200]
    for budget, draws in (
        (3.0 * MARGIN, ()),
        (3.7 * MARGIN, (Draw(2, 1),)),
        (6.1 * MARGIN, (Draw(5, 4),)),
        (8.1 * MARGIN, (Draw(10, 4),)),
        (8.1 * MARGIN + 11.1 * MARGIN, (Draw(10, 4), Draw(25, 4))),
        (math.inf, (Draw(10, 4), *auto.further)),
    ):
        plan = choose(COSTS, budget + 1e-9, auto)
        assert plan.draws == draws
        assert [*plan.draws, *plan.not_run][-5:] == [Draw(10, 4), *auto.further][-5:]


def test_a_budget_that_cannot_be_met_is_refused_with_the_smallest_that_can() -> None:
    with pytest.raises(SettingsError) as refused:
        choose(COSTS, 2.0, wish_of(SegmentOptions(), own=OWN))
    assert str(refused.value) == (
        "budget: got 2 s; this scan needs at least 3.8 s here: give --budget 3.8 or more, "
        "or a smaller scan"
    )
    # diffusion that was asked for by name is not replaced by the coarse answer
    with pytest.raises(SettingsError, match=r"at least 4\.7 s"):
        choose(COSTS, 4.0, wish_of(SegmentOptions(mode="diffusion"), own=OWN))


def test_rates_times_sizes_are_costs() -> None:
    rates = Rates(*(n / 1000 for n in (1, 2, 3, 4, 5, 6, 7)), fixed=0.5, probe=0.1)
    costs = rates.costs(Size(scan=1000, tiles=100, grid=10), writes=True)
    found = [costs.prepare, costs.encode, costs.finish, costs.answer, costs.sample, costs.step]
    assert found == pytest.approx([1.0, 0.2, 7.5, 0.05, 0.06, 0.07])
    assert rates.costs(Size(1000, 100, 10), writes=False).finish == pytest.approx(3.5)
    assert costs.of(Draw(10, 2)) == pytest.approx(0.05 + 2 * (0.06 + 0.7))
    assert (costs + costs).fast == pytest.approx(costs.times(2).fast)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan])
def test_a_budget_of_nothing_is_refused(wrong) -> None:
    with pytest.raises(SettingsError, match=r"budget: got .*; it must be above 0 seconds"):
        SegmentOptions(budget=wrong)
