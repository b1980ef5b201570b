"""One budget for a head of which two crops are segmented one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from ddmseg.pipeline.budget.costs import Costs
from ddmseg.pipeline.budget.deadline import Deadline
from ddmseg.pipeline.budget.plan import MARGIN, Wish, choose


class HeadBudget:
    """Divides what is left evenly among the parts still to do.

    Args:
        deadline: of the head.
        locating: predicted for finding the parts on the whole head, and for writing it.
        side: predicted for each of the two parts.
        wish: what would be run on each without a budget.
        writing: seconds of ``locating.finish`` that come after all parts.

    Raises:
        SettingsError: when the budget cannot be met; names the smallest that can.
    """

    def __init__(
        self, deadline: Deadline, locating: Costs, side: Costs, wish: Wish, *, writing: float
    ) -> None:
        self._deadline = deadline
        self._writing = writing
        alone = replace(locating.without_preparing(), answer=0.0, sample=0.0, step=0.0)
        costs = (alone + side + side).times(deadline.slowdown)
        self.plan = choose(costs, deadline.seconds, wish, spent=deadline.spent)

    def part(self, parts_left: int) -> Deadline:
        """Return the deadline of the next part, which begins now."""
        reserve = self._writing * self._deadline.slowdown * MARGIN
        return self._deadline.part(1 / parts_left, reserve=reserve)

    def record(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return what was planned and spent on the head, as ``Spending.record`` has it.

        Args:
            parts: the records of the parts.
        """
        fullest = max(parts, key=lambda part: len(part["not_run"]))
        return {
            **fullest,
            "seconds": self._deadline.seconds,
            "covers": "reading to writing" if self._deadline.writes else "everything but writing",
            "planned": [asdict(draw) for draw in self.plan.draws],
            "predicted_seconds": round(self.plan.predicted, 3),
            "slowdown": max(part["slowdown"] for part in parts),
            "spent_seconds": round(self._deadline.spent, 3),
        }
