"""Spending no more steps than a case needs: any sampler with growing budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Literal, TypeVar

from ddmseg.errors import SettingsError

BUDGETS = (10, 25, 50, 100, 200)
"""Steps of each rung of the ladder."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Effort(Generic[Result]):
    """The best result of all rungs, so that climbing never makes it worse, and why it stopped."""

    result: Result
    quality: float
    reason: Literal["reached", "no gain", "no room", "exhausted"]


def climb(
    run: Callable[[int], tuple[Result, float] | None],
    *,
    quality: float,
    budgets: Sequence[int] = BUDGETS,
    min_gain: float = 0.002,
    start: float = -math.inf,
) -> Effort[Result]:
    """Run with growing budgets until the result is good enough or stops getting better.

    Args:
        run: samples with so many steps; returns the result and its expected quality
            (higher is better, such as the expected Dice in [0, 1]); None ends the climb,
            but not on the first rung.
        quality: stop when it is reached.
        min_gain: stop when a rung brings less than this over the best before it.
        start: quality of what was there before the first rung, which it too must exceed.

    Raises:
        SettingsError: when the budgets do not increase or a quality is NaN.
    """
    steps = list(budgets)
    if not steps or steps[0] < 1 or any(b <= a for a, b in pairwise(steps)):
        raise SettingsError(f"budgets: got {steps}; give numbers of steps from 1 up, increasing")
    best: tuple[Result, float] | None = None
    reason: Literal["reached", "no gain", "no room", "exhausted"] = "exhausted"
    for budget in steps:
        outcome = run(budget)
        if outcome is None:
            reason = "no room"
            break
        result, found = outcome
        if math.isnan(found):
            raise SettingsError(
                f"quality: got NaN at {budget} steps; the run must return a number to compare"
            )
        gain = found - (start if best is None else max(start, best[1]))
        if best is None or found > best[1]:
            best = (result, found)
        if found >= quality:
            reason = "reached"
            break
        if gain < min_gain:
            reason = "no gain"
            break
    assert best is not None
    return Effort(*best, reason)
