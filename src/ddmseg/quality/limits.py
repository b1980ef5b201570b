"""From which expected Dice on a result passes: what its model usually reaches, less a margin.

One limit for all would find every result of one model wanting and none of another: an intact
scan gets an expected Dice of 0.88 from ``hippocampus`` and of 0.75 from ``anatomy``, which draws
32 structures at 2 mm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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

    From ``passes`` on the whole a result passes, below ``fails`` it fails. Single structures are
    named below theirs in ``structures``; ``structure`` is for those that are not there.
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
            structures=_structure_limits(usual["structures"], usual.get("spread", {})),
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
    found: dict[str, list[float]] = {}
    for scan in by_structure:
        for name, dice in scan.items():
            found.setdefault(name, []).append(dice)
    single = sorted(found.items())
    return {
        "expected_dice": round(fmean(expected), 4),
        "structures": {name: round(fmean(dice), 4) for name, dice in single},
        "spread": {name: round(stdev(dice), 4) for name, dice in single if len(dice) > 1},
        "scans": len(expected),
    }


def _structure_limits(usual: Mapping[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """Return the limit of each structure by its usual Dice and the known standard deviations.

    A deviation of a handful of scans is drawn half way, in squares, to that of all
    structures together; 0 for a card that has none.
    """
    together = fmean(value**2 for value in known.values()) if known else 0.0
    limits = {}
    for name, dice in usual.items():
        spread = math.sqrt((known.get(name, math.sqrt(together)) ** 2 + together) / 2)
        # a few scans tell sides apart by chance
        both_sides = (dice + usual.get(other_side(name), dice)) / 2
        margin = max(STRUCTURE_MARGIN, STRUCTURE_SPREADS * spread)
        limits[name] = _below(dice, margin) if both_sides >= NAMED_FROM else 0.0
    return limits


def _below(dice: float, margin: float) -> float:
    # two digits, as the reader is told
    return round(max(0.0, dice - margin), 2)
