"""How fast a training learns at each step, and when it ends."""

from __future__ import annotations

import math

from ddmseg.models.settings import Settings
from ddmseg.training.curve import Curve

LEAST_LEGS = 3
"""Before a curve is called flat: its last third is a whole leg then."""
DECAY_SHARE = 1 / 3
"""Of a leg, its last part, in which the learning rate falls to zero."""


def learning_rate_factor(step: int, warmup: int, steps: int, leg: int = 0) -> float:
    """Return the share of the learning rate at a step: linear rise, then half a cosine.

    Source: Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5, without restarts. In legs:
    linear rise, constant, linear fall, as in Hu et al. 2024, arXiv 2404.06395, section 4.

    Args:
        step: from 0.
        warmup: steps of the rise.
        leg: steps of a leg; 0 for a training without legs.
    """
    if leg:
        step %= leg
        left = (leg - step) / max(1.0, DECAY_SHARE * leg)
        return min(1.0, (step + 1) / max(1, warmup), left)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def is_done(settings: Settings, step: int, curve: Curve) -> bool:
    """Say whether a training of these settings ends with this step."""
    training = settings.training
    if step >= training.steps:
        return True
    if not training.least_rise or step < LEAST_LEGS * training.leg_steps:
        return False
    if step % training.leg_steps:
        return False
    return curve.late_rise(step) < training.least_rise
