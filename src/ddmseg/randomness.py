"""Generators that a seed and a number fix, and single numbers drawn from one."""

from __future__ import annotations

import torch
from torch import Generator

Range = tuple[float, float]

VALIDATION_SEED = 2**31 - 1
"""No seed of a run, so that validation draws never meet a training draw."""


def seeded(seed: int, number: int) -> Generator:
    """Return a CPU generator for one example or step of a run."""
    # Odd multipliers spread neighbours over the 32 bits of a seed that torch's generator
    # uses: seeds that differ by a multiple of 2**32 are the same.
    mixed = seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03
    return Generator().manual_seed(mixed % 2**63)


def draw_uniform(generator: Generator, low: float, high: float) -> float:
    """Draw one number, uniform in [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator, device=generator.device).item()


def draw_chance(generator: Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return draw_uniform(generator, 0.0, 1.0) < probability


def draw_integer(generator: Generator, low: int, high: int) -> int:
    """Draw one whole number in low, ..., high - 1."""
    return int(torch.randint(low, high, (), generator=generator, device=generator.device).item())


def draw_choice(generator: Generator, weights: dict[str, float]) -> str:
    """Draw a key with probability proportional to its weight."""
    place = draw_uniform(generator, 0.0, sum(weights.values()))
    for key, weight in weights.items():
        place -= weight
        if place < 0:
            return key
    return next(reversed(weights))
