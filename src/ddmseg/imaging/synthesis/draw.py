"""Single random numbers from a ``torch.Generator``."""

from __future__ import annotations

import torch

Range = tuple[float, float]


def draw_uniform(generator: torch.Generator, low: float, high: float) -> float:
    """Draw one number, uniform in [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator, device=generator.device).item()


def draw_chance(generator: torch.Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return draw_uniform(generator, 0.0, 1.0) < probability


def draw_integer(generator: torch.Generator, low: int, high: int) -> int:
    """Draw one whole number in low, ..., high - 1."""
    return int(torch.randint(low, high, (), generator=generator, device=generator.device).item())


def draw_choice(generator: torch.Generator, weights: dict[str, float]) -> str:
    """Draw a key with probability proportional to its weight."""
    place = draw_uniform(generator, 0.0, sum(weights.values()))
    for key, weight in weights.items():
        place -= weight
        if place < 0:
            return key
    return next(reversed(weights))
