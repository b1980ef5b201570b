"""What a user may pick: modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ddmseg.errors import UsageError, did_you_mean
from ddmseg.inference.budget import Draw

FULL_DRAW = Draw(steps=10, samples=4)
"""Of the full diffusion answer, which the others are compared with."""
FAST, AUTO, FULL = "fast", "auto", "diffusion"


@dataclass(frozen=True)
class Tier:
    """One way to segment a scan, with the ``SegmentOptions`` that differ from their defaults."""

    name: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of the command line; True is a switch.

    >>> option_words({"steps": 2, "raw": True})
    ['--steps=2', '--raw']
    """
    return [f"--{n}" if value is True else f"--{n}={value}" for n, value in options.items()]


_FULL_OPTIONS = {"mode": "diffusion", "steps": FULL_DRAW.steps, "samples": FULL_DRAW.samples}
TIERS: dict[str, Tier] = {
    FAST: Tier(FAST, "fast", {"mode": "fast"}),
    AUTO: Tier(AUTO, "auto"),
    FULL: Tier(FULL, f"diffusion, {FULL_DRAW}", _FULL_OPTIONS),
}
"""By name, in the order of the tables."""


def choose_tiers(names: Sequence[str]) -> list[Tier]:
    """Return the tiers of these names, all without a name; an unknown one is refused."""
    for name in names:
        if name not in TIERS:
            raise UsageError(
                f"tiers: got '{name}'{did_you_mean(name, TIERS)}; allowed are {', '.join(TIERS)}"
            )
    return [tier for tier in TIERS.values() if not names or tier.name in names]
