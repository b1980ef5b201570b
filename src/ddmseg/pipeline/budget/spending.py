"""Follows a plan against the clock and stops before it is too late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from ddmseg.errors import SettingsError
from ddmseg.pipeline.budget.costs import Costs, Draw
from ddmseg.pipeline.budget.deadline import Deadline
from ddmseg.pipeline.budget.given_up import given_up
from ddmseg.pipeline.budget.plan import MARGIN, Plan, Wish, beyond, choose

MIN_GAIN = 0.002
"""Expected Dice that a further set must bring, as ``maths.adaptive.climb`` has it."""

Result = TypeVar("Result")
GoOn = Callable[[int], bool]
"""Is asked after each sample, with their number, whether there is time for another."""
Run = Callable[[Draw, GoOn], tuple[Result, float, int]]
"""Draws samples; returns the result, its expected quality, and how many there were."""
Reason = Literal["coarse was enough", "reached", "no gain", "no room", "all was run"]


class Spending:
    """The budget of one scan while it is spent.

    Args:
        deadline: its clock runs already.
        costs: predicted for the scan by the rates of this machine.
        wish: what would be run without a budget.
        known: Dice of validation subjects by what was drawn, see ``given_up``.

    Raises:
        SettingsError: when the budget cannot be met; names the smallest that can.
    """

    def __init__(
        self,
        deadline: Deadline,
        costs: Costs,
        wish: Wish,
        known: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self.deadline = deadline
        self.slowdown = deadline.slowdown
        self._wish = wish
        self._known = known
        self._ahead = costs.without_preparing()
        self.plan = self._chosen(refuses=deadline.refuses)
        self._first = self.plan
        self._drawn: list[dict[str, Any]] = []
        self._coarse: float | None = None
        self._why: Reason = "coarse was enough"

    def encoded(self, seconds: float, costs: Costs, *, cached: bool) -> None:
        """Plan anew after encoding: how long it took tells how busy the machine is.

        Args:
            seconds: that encoding took.
            costs: predicted, now that the size of the cropped grid is known.
            cached: whether the features came from a file, which tells nothing.
        """
        if not cached and costs.encode > 0:
            self.slowdown = max(1.0, seconds / costs.encode)
        self._ahead = costs.without_encoding()
        self.plan = self._chosen(refuses=False)  # it is too late for that

    def climb(self, run: Run[Result], *, coarse: tuple[Result, float], quality: float) -> Result:
        """Draw what was planned until the result is expected to be good enough.

        Args:
            run: draws one set of samples.
            coarse: the answer without samples, and its expected quality.
            quality: that is good enough; where the coarse answer has it and will do,
                nothing is drawn.
        """
        self._coarse = coarse[1]
        will_do = self._wish.coarse_will_do
        if will_do and (coarse[1] >= quality or not self._wish.first):
            return coarse[0]
        best, best_quality = coarse if will_do else (None, float("-inf"))
        self._why = "no room" if self.plan.not_run else "all was run"
        for number, draw in enumerate(self.plan.draws):
            if number and not self._fits(self._ahead.of(draw)):
                self._why = "no room"
                break
            result, found, samples = run(draw, self._go_on(draw))
            self._drawn.append({**asdict(Draw(draw.steps, samples)), "expected_dice": found})
            gain = found - best_quality
            if gain > 0 or best is None:
                best, best_quality = result, found
            if samples < draw.samples:
                self._why = "no room"
                break
            if will_do and (found >= quality or gain < MIN_GAIN):
                self._why = "reached" if found >= quality else "no gain"
                break
        return coarse[0] if best is None else best

    def record(self) -> dict[str, Any]:
        """Return what was planned, spent and given up, ready for JSON."""
        deadline = self.deadline
        drawn = [Draw(row["steps"], row["samples"]) for row in self._drawn]
        cut_short = self._why == "no room"
        return {
            "seconds": deadline.seconds,
            "margin": MARGIN,
            "covers": "reading to writing" if deadline.writes else "everything but writing",
            "planned": [asdict(draw) for draw in self._first.draws],
            "predicted_seconds": round(self._first.predicted, 3),
            "slowdown": round(self.slowdown, 3),
            "coarse_expected_dice": self._coarse,
            "drawn": self._drawn,
            "not_run": [asdict(draw) for draw in self._not_run()],
            "stopped_because": self._why,
            "given_up": given_up(self._known, self._wish, drawn) if cut_short else None,
            "spent_seconds": round(deadline.spent, 3),
        }

    def _not_run(self) -> list[Draw]:
        """What the wish held beyond the last complete set."""
        drawn = [Draw(row["steps"], row["samples"]) for row in self._drawn]
        everything = (*self._wish.first, *self._wish.further)
        complete = [draw for draw in drawn if draw in everything]
        if drawn and not complete:  # cut short in the first set
            return [
                d for d in everything if d.steps * d.samples > drawn[0].steps * drawn[0].samples
            ]
        return list(beyond(self._wish, complete))

    def _chosen(self, *, refuses: bool) -> Plan:
        """Return what fits; where nothing does and that is no reason to stop, the least."""
        costs, spent = self._ahead.times(self.slowdown), self.deadline.spent
        try:
            return choose(costs, self.deadline.seconds, self._wish, spent=spent)
        except SettingsError:
            if refuses:
                raise
        draws = () if self._wish.coarse_will_do else self._wish.first[:1]
        ahead = sum(map(costs.of, draws), costs.fast)
        return Plan(draws, beyond(self._wish, draws), spent + ahead)

    def _fits(self, seconds: float) -> bool:
        """Say whether so much more can be done and the answer still be finished in time."""
        return (seconds + self._ahead.fast) * self.slowdown * MARGIN <= self.deadline.left

    def _go_on(self, draw: Draw) -> GoOn:
        """Return what is asked whether another sample of so many steps fits.

        Those drawn so far tell whether the machine has become slower since encoding.
        """
        sample = self._ahead.sample + draw.steps * self._ahead.step
        start = self.deadline.spent

        def go_on(done: int) -> bool:
            taken, expected = self.deadline.spent - start, self._ahead.answer + done * sample
            if expected > 0:
                self.slowdown = max(self.slowdown, taken / expected)
            return self._fits(sample)

        return go_on


def told(record: dict[str, Any]) -> str:
    """Say in a few words what a budget was spent on, and what had to be left.

    Args:
        record: of :meth:`Spending.record`.
    """
    drawn = " + ".join(str(Draw(row["steps"], row["samples"])) for row in record["drawn"])
    line = (
        f"budget {record['seconds']:g} s, planned for {record['predicted_seconds']:.1f} s: "
        f"{drawn or 'no samples'}"
    )
    if record["stopped_because"] != "no room" or not record["not_run"]:
        return line
    first, *more = record["not_run"]
    rest = f" and {len(more)} larger" if more else ""
    line += f"; not run: {Draw(first['steps'], first['samples'])}{rest}"
    lost = record["given_up"]
    if lost is None:
        return line
    return f"{line}; costs {lost['validation_dice_less']:.4f} of Dice on validation scans"
