"""Generators that a seed and a number fix."""

from __future__ import annotations

from torch import Generator

VALIDATION_SEED = 2**31 - 1
"""No seed of a run, so that validation draws never meet a training draw."""


def seeded(seed: int, number: int) -> Generator:
    """Return a CPU generator for one example or step of a run."""
    # Odd multipliers spread neighbours over the 32 bits of a seed that torch's generator
    # uses: seeds that differ by a multiple of 2**32 are the same.
    mixed = seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03
    return Generator().manual_seed(mixed % 2**63)
