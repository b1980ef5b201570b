"""From which expected Dice on a result passes: what its model usually reaches, less a margin.

One limit for all would find every result of one model wanting and none of another: an intact
scan gets an expected Dice of 0.88 from ``hippocampus`` and of 0.75 from ``anatomy``, which draws
32 structures at 2 mm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from ddmseg.imaging.labels import other_side
from ddmseg.models.checkpoint import Card

PASS_MARGIN = 0.05
"""A result passes down to so much below the usual expected Dice ..."""
FAIL_MARGIN = 0.20
"""... and only warns down to so much below it."""
STRUCTURE_MARGIN = 0.15
"""A single structure is named from so much below its own usual one ..."""
STRUCTURE_SPREADS = 3.5
"""... or from so many of its standard deviations, where that is more.

Small structures scatter. With 32 of them this names one in about one intact scan of twenty:
3.2 standard deviations, and a little more for a mean of a handful of scans.
"""
NAMED_FROM = 0.5
"""A structure that is usually drawn worse than this, on the mean of both sides, is not named for
being drawn badly: it would be in every other scan."""


@dataclass(frozen=True)
class Limits:
    """Limits of the expected Dice, all in [0, 1].

    Attributes:
        passes: of the whole, from which a result passes.
        fails: of the whole, below which it fails.
        structures: of single structures, by name, below which one is named.
        structure: of those that are not in ``structures``.
    """

    passes: float = 0.80
    fails: float = 0.60
    structures: Mapping[str, float] = field(default_factory=dict)
    structure: float = 0.50

    @classmethod
    def of(cls, card: Card) -> Limits:
        """Return the limits of a model; those above for one that does not say what is usual."""
        usual = card.calibration.get("usual")
        if usual is None:
            return cls()
        whole = float(usual["expected_dice"])
        return cls(
            passes=_below(whole, PASS_MARGIN),
            fails=_below(whole, FAIL_MARGIN),
            structures={
                name: _below(dice, max(STRUCTURE_MARGIN, STRUCTURE_SPREADS * spread))
                if _of_both_sides(usual["structures"], name) >= NAMED_FROM
                else 0.0
                for name, dice, spread in _with_spread(usual)
            },
        )

    def of_structure(self, name: str) -> float:
        """Return the limit of one structure."""
        return self.structures.get(name, self.structure)


def usual(expected: Sequence[float], by_structure: Iterable[Mapping[str, float]]) -> dict[str, Any]:
    """Return what a card says of the expected Dice of intact scans, its ``usual``.

    Args:
        expected: calibrated expected Dice of each scan, at least one.
        by_structure: the same of each scan's structures, by name.
    """
    single: dict[str, list[float]] = {}
    for scan in by_structure:
        for name, dice in scan.items():
            single.setdefault(name, []).append(dice)
    return {
        "expected_dice": round(fmean(expected), 4),
        "structures": {name: round(fmean(dice), 4) for name, dice in sorted(single.items())},
        "spread": {
            name: round(stdev(dice), 4) for name, dice in sorted(single.items()) if len(dice) > 1
        },
        "scans": len(expected),
    }


def _with_spread(usual: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Yield each structure with its usual Dice and standard deviation.

    A deviation of a handful of scans is drawn half way, in squares, to that of all
    structures together; 0 for a card that has none.
    """
    known: Mapping[str, float] = usual.get("spread", {})
    together = fmean(value**2 for value in known.values()) if known else 0.0
    for name, dice in usual["structures"].items():
        own = known.get(name, math.sqrt(together))
        yield name, float(dice), math.sqrt((own**2 + together) / 2)


def _of_both_sides(dice: Mapping[str, float], name: str) -> float:
    """Return the mean of a structure and its other side; a few scans tell sides apart by chance."""
    return (dice[name] + dice.get(other_side(name), dice[name])) / 2


def _below(dice: float, margin: float) -> float:
    # two digits, as the reader is told
    return round(max(0.0, dice - margin), 2)
