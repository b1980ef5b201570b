"""What a user may pick: modes and engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ddmseg.errors import UsageError, did_you_mean
from ddmseg.inference.budget import Draw
from ddmseg.inference.engines.catalogue import KINDS, resolve

FULL_DRAW = Draw(steps=10, samples=4)
"""Of the full diffusion answer, which the others are compared with."""
FAST, AUTO, FULL = "fast", "auto", "diffusion"


@dataclass(frozen=True)
class Tier:
    """One way to segment a scan.

    Attributes:
        name: as typed after ``--tiers``.
        title: as a reader calls it.
        options: fields of ``SegmentOptions`` that differ from their defaults.
        engine: computes the image encoder.
    """

    name: str
    title: str
    options: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "torch"


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of the command line; True is a switch.

    >>> option_words({"steps": 2, "raw": True})
    ['--steps=2', '--raw']
    """
    return [f"--{n}" if value is True else f"--{n}={value}" for n, value in options.items()]


_FULL_OPTIONS = {"mode": "diffusion", "steps": FULL_DRAW.steps, "samples": FULL_DRAW.samples}
TIERS: dict[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier(FAST, "fast", {"mode": "fast"}),
        Tier(AUTO, "auto"),
        Tier(FULL, f"diffusion, {FULL_DRAW}", _FULL_OPTIONS),
        *(Tier(engine, f"fast, {engine}", {"mode": "fast"}, engine) for engine in KINDS),
    )
}
"""By name, in the order of the tables."""


def choose_tiers(names: Sequence[str], *, device: str = "cpu") -> list[Tier]:
    """Return the tiers of these names; without a name, all that can be run here.

    Args:
        names: as typed.
        device: kind of device, ``cpu`` or ``cuda``.

    Raises:
        UsageError: for an unknown tier, or one that the device does not have.
        MissingExtraError: for a named engine that is not installed.
    """
    if not names:
        return [tier for tier in TIERS.values() if _is_there(tier, device)]
    for name in names:
        if name not in TIERS:
            raise UsageError(
                f"tiers: got '{name}'{did_you_mean(name, TIERS)}; allowed are {', '.join(TIERS)}"
            )
        resolve(TIERS[name].engine, device=device)
    return [tier for tier in TIERS.values() if tier.name in names]


def _is_there(tier: Tier, device: str) -> bool:
    try:
        resolve(tier.engine, device=device)
    except UsageError:  # not installed, or not for this device
        return False
    return True
