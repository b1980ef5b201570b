"""Spending no more steps than a case needs.

Two controllers, which combine with any sampler or replace it:

* ``climb`` runs any sampler with growing budgets and stops when the result is expected
  to be good, or when more steps stop helping;
* ``adaptive`` is itself a sampler that chooses its own times: each step is taken with
  a first-order and a second-order rule, and their difference sets the next step's length.

Letters as in ``samplers``: a step goes from t to s, ``h`` long in half log-SNR.

Sources: Hairer, Norsett and Wanner 1993, II.4 (error control, PI controller);
Lu et al. 2022, arXiv 2211.01095 (exponential integrator in the clean mask);
Zhao et al. 2023, arXiv 2302.04867 (a corrector that costs no evaluation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.samplers import CleanPredictor, Jump, StepObserver, check_times, log_snr_to_time
from ddmseg.maths.schedule import Schedule

BUDGETS = (10, 25, 50, 100, 200)
"""Steps of each rung of the ladder."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Rung:
    """One run on the ladder: steps spent and the quality expected of its result."""

    steps: int
    quality: float


@dataclass(frozen=True)
class Effort(Generic[Result]):
    """What ``climb`` found.

    Attributes:
        result: the best result of all rungs, so that climbing never makes it worse.
        best: the rung it came from.
        rungs: every rung climbed, in order.
        reason: why it stopped: quality reached, no gain, no time, or ladder at its end.
    """

    result: Result
    best: Rung
    rungs: tuple[Rung, ...]
    reason: Literal["reached", "no gain", "no room", "exhausted"]

    @property
    def steps_spent(self) -> int:
        """Steps of all rungs together."""
        return sum(rung.steps for rung in self.rungs)


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
        budgets: steps of each rung, increasing.
        min_gain: stop when a rung brings less than this over the best before it.
        start: quality of what was there before the first rung, which it too must exceed.

    Raises:
        SettingsError: when the budgets do not increase or a quality is NaN.
    """
    steps = list(budgets)
    if not steps or steps[0] < 1 or any(b <= a for a, b in pairwise(steps)):
        raise SettingsError(f"budgets: got {steps}; give numbers of steps from 1 up, increasing")
    rungs: list[Rung] = []
    best: tuple[Result, Rung] | None = None
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
        rungs.append(Rung(budget, found))
        gain = found - (start if best is None else max(start, best[1].quality))
        if best is None or found > best[1].quality:
            best = (result, rungs[-1])
        if found >= quality:
            reason = "reached"
            break
        if gain < min_gain:
            reason = "no gain"
            break
    assert best is not None
    return Effort(best[0], best[1], tuple(rungs), reason)


@dataclass(frozen=True)
class StepController:
    """PI controller: from the errors of this step and the last to the next length.

    ``error`` is in units of the tolerance: up to 1 the step stands.  The exponents are
    Hairer's for an error estimate of order 2; ``slowest`` and ``fastest`` bound the
    change of one step to the next.

    Source: Hairer, Norsett and Wanner 1993, II.4 and (for PI) Gustafsson 1991.
    """

    safety: float = 0.9
    proportional: float = 0.4 / 2
    integral: float = 0.7 / 2
    slowest: float = 0.2
    fastest: float = 3.0

    def factor(self, error: float, last_error: float) -> float:
        """Return the ratio of the next step's length to this one's."""
        error, last_error = max(error, 1e-8), max(last_error, 1e-8)
        if error > 1:  # refused: the history says nothing about the shorter try
            return max(self.slowest, self.safety / math.sqrt(error))
        damping = math.pow(last_error, self.proportional)
        wanted = self.safety * damping / math.pow(error, self.integral)
        return min(self.fastest, max(self.slowest, wanted))


def adaptive(
    clean: CleanPredictor,
    x_T: Tensor,
    *,
    schedule: Schedule,
    times: Tensor,
    generator: torch.Generator | None = None,
    callback: StepObserver | None = None,
    tolerance: float = 1e-2,
    max_steps: int = 200,
    controller: StepController | None = None,
) -> Tensor:
    """Solve the sampling ODE with steps as long as the tolerance allows.

    A DDIM step predicts x_s; the network's answer there corrects it to second order and
    serves the next step too, so an accepted step costs one evaluation.  The error is the
    root mean square of the correction over an item, relative to ``tolerance (1 + |x|)``;
    the worst item of the batch decides.

    Args:
        clean: as for every sampler.
        x_T: noise at ``times[0]``; the first axis is the batch.
        schedule: as for every sampler.
        times: only the first (start) and the last (end) are used; the end must be
            below the start.
        generator: not used: the solver is deterministic.
        callback: sees each accepted step; the last call holds the result.
        tolerance: error allowed for one step, above 0.
        max_steps: evaluations after which the rest is done in one stride.
        controller: rule for the lengths; the default suits masks.

    Raises:
        SettingsError: when an argument is out of its range.
    """
    times = check_times(times)
    _check_adaptive(times, tolerance, max_steps)
    rule = controller or StepController()
    t, end = times[0], times[-1]
    level, end_level = (float(schedule.log_snr(u)) / 2 for u in (t, end))
    length = (end_level - level) / 10  # the controller mends a bad first guess in a step or two
    x_t, x_0 = x_T, clean(x_T, t.to(x_T))
    accepted, evaluations, last_error = 0, 1, 1.0
    _tell(callback, accepted, t, x_t, x_0)
    while level < end_level:
        hurried = evaluations + 2 >= max_steps  # one for this step, one for the answer
        goal = end_level if hurried else min(level + length, end_level)
        s = end if goal >= end_level else log_snr_to_time(_scalar(2 * goal), schedule=schedule)
        jump = Jump.between(t, s, schedule)
        predicted = jump.along(x_t, x_0)
        x_0_s = clean(predicted, s.to(x_T))
        evaluations += 1
        corrected = predicted + _correction(jump, x_0, x_0_s)
        error = _relative_error(corrected - predicted, corrected, tolerance)
        if error <= 1 or hurried:
            t, level, x_t, x_0 = s, goal, corrected, x_0_s
            accepted += 1
            if level >= end_level:  # answer at the corrected end, not the predicted one
                x_0 = clean(x_t, t.to(x_T))
            _tell(callback, accepted, t, x_t, x_0)
        length *= rule.factor(error, last_error)
        last_error = min(error, 1.0)
    return x_0


def _check_adaptive(times: Tensor, tolerance: float, max_steps: int) -> None:
    if len(times) < 2:
        raise SettingsError("times: got 1; the adaptive sampler needs a start and an end")
    if not tolerance > 0:
        raise SettingsError(f"tolerance: got {tolerance:g}; it must be above 0")
    if max_steps < 3:
        raise SettingsError(f"max_steps: got {max_steps}; it must be at least 3")


def _tell(callback: StepObserver | None, step: int, t: Tensor, x_t: Tensor, x_0: Tensor) -> None:
    if callback is not None:
        callback(step, t.to(x_t), x_t, x_0)


def _correction(jump: Jump, x_0: Tensor, x_0_s: Tensor) -> Tensor:
    """What a clean mask that changes linearly in log-SNR adds to the DDIM step.

    Integrating alpha_s exp(u - h) (x_0_s - x_0) u / h over u in [0, h] gives
    alpha_s (h - 1 + exp(-h)) / h times the change.
    """
    weight = jump.alpha_s * (1 + torch.expm1(-jump.h) / jump.h)
    return weight * (x_0_s - x_0)


def _relative_error(difference: Tensor, x: Tensor, tolerance: float) -> float:
    """Root mean square over each item relative to its tolerance; the worst item's."""
    ratio = (difference / (tolerance * (1 + x.abs()))).flatten(1)
    return float(ratio.square().mean(1).sqrt().max())


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
