"""What fits into a budget: chosen from predicted seconds, without a clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ddmseg.errors import SettingsError
from ddmseg.maths.adaptive import BUDGETS
from ddmseg.pipeline.budget.costs import Costs, Draw
from ddmseg.pipeline.options import SegmentOptions

MARGIN = 1.25
"""A plan must fit when everything takes so many times as long as predicted."""
FEW_STEPS = 2
"""Steps with which more samples are drawn first: they make the mean better and show how
sure it is, while a model trained on its own estimates gains little from steps."""


@dataclass(frozen=True)
class Wish:
    """What a user would have without a budget.

    Attributes:
        first: sets of samples from least to most, of which the largest that fits is drawn.
        further: sets to go on with, while the result is expected to be wanting.
        coarse_will_do: whether no sample at all is an answer, too.
    """

    first: tuple[Draw, ...]
    further: tuple[Draw, ...]
    coarse_will_do: bool


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        draws: sets of samples in order; none leaves the coarse answer.
        not_run: what the wish held beyond, from least to most.
        predicted: seconds of everything, all draws included, without margin.
    """

    draws: tuple[Draw, ...]
    not_run: tuple[Draw, ...]
    predicted: float


def wish_of(options: SegmentOptions, *, own: Draw) -> Wish:
    """Return what the options ask for.

    Args:
        options: mode, and steps and samples where the user named them.
        own: what the model's card says.
    """
    steps, samples = options.steps or own.steps, options.samples or own.samples
    if options.mode == "fast":
        return Wish((), (), True)
    first = _ladder(
        Draw(steps, samples),
        keep_steps=options.steps is not None,
        keep_samples=bool(options.samples),
    )
    if options.mode == "diffusion" or options.steps or options.samples:
        return Wish(first, (), False)
    further = tuple(Draw(n, samples) for n in BUDGETS if n > steps)
    return Wish(first, further, True)


def _ladder(most: Draw, *, keep_steps: bool, keep_samples: bool) -> tuple[Draw, ...]:
    """Return sets of samples up to the largest, each containing more than the one before."""
    few = most.steps if keep_steps else min(FEW_STEPS, most.steps)
    fewest = most.samples if keep_samples else 1
    rising = [Draw(few, n) for n in range(fewest, most.samples + 1)]
    steps = [n for n in (5, *BUDGETS) if few < n < most.steps]
    rising += [Draw(n, most.samples) for n in steps]
    return (*rising, most) if rising[-1] != most else tuple(rising)


def choose(
    costs: Costs, seconds: float, wish: Wish, *, spent: float = 0.0, margin: float = MARGIN
) -> Plan:
    """Return the largest plan whose predicted time, with the margin, is within the budget.

    More seconds never plan less.

    Args:
        costs: predicted for what is still ahead of the scan at hand.
        seconds: the budget, for all of it.
        wish: what would be run without a budget.
        spent: seconds of the budget that have passed.
        margin: at least 1; of what is ahead.

    Raises:
        SettingsError: when nothing fits; names the smallest budget that can be met.
    """
    total = costs.fast
    least = total if wish.coarse_will_do else total + costs.of(wish.first[0])
    if spent + least * margin > seconds:
        raise SettingsError(too_small(seconds, spent + least * margin))

    def fits(draw: Draw) -> bool:
        return spent + (total + costs.of(draw)) * margin <= seconds

    fitting = [draw for draw in wish.first if fits(draw)]
    draws = fitting[-1:]
    total += sum(map(costs.of, draws))
    for draw in wish.further if len(fitting) == len(wish.first) else ():
        if not fits(draw):
            break
        draws.append(draw)
        total += costs.of(draw)
    return Plan(tuple(draws), beyond(wish, draws), spent + total)


def beyond(wish: Wish, draws: Sequence[Draw]) -> tuple[Draw, ...]:
    """Return what a wish holds after the last of some draws."""
    everything = (*wish.first, *wish.further)
    return everything[everything.index(draws[-1]) + 1 :] if draws else everything


def too_small(seconds: float, smallest: float) -> str:
    """Return the line that refuses a budget, with the smallest that can be met."""
    rounded = math.ceil(smallest * 10) / 10
    return (
        f"budget: got {seconds:g} s; this scan needs at least {rounded:.1f} s here: give "
        f"--budget {rounded:.1f} or more, or a smaller scan"
    )
