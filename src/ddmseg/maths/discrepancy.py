"""The discrepancy of an image and a mask, and its five uses.

    D_v = || z_I(v) - z_S(v) ||^2                    the map, at voxel v
    p(voxel v of the mask is right) = exp(-D_v / sigma_D^2)

D is a squared distance, hence no metric: it breaks the triangle inequality
(0, 1 and 2 on a line: 4 > 1 + 1). Its square root is one.

The temperature sigma_D is a scale of D and has nothing to do with the sigma of
the noise schedule.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.types import Features, VoxelMap


def discrepancy_map(z_image: Float[Tensor, "#b d *grid"], z_mask: Features) -> VoxelMap:
    """Return the squared L2 distance over the embedding channels, at each voxel.

    One image serves a batch of masks, samples of it.
    """
    # Summed over the last axis, which is fast where the channels lie side by side.
    return (z_image - z_mask).square().movedim(1, -1).sum(dim=-1)[:, None]


def energy(D: Tensor, *, temperature: float) -> Tensor:
    """Return D / sigma_D^2, sigma_D above 0: minus the log of the unnormalised probability."""
    if not temperature > 0:
        raise SettingsError(f"temperature: got {temperature}; it must be above 0")
    return D / temperature**2


def right_probability(D: Tensor, *, temperature: float) -> Tensor:
    """Return exp(-D / sigma_D^2) in (0, 1]: how likely each voxel of the mask is right."""
    return torch.exp(-energy(D, temperature=temperature))


def guidance(
    discrepancy_of: Callable[[Tensor], Tensor], mask: Tensor, *, temperature: float
) -> Tensor:
    """Return -grad D / sigma_D^2 with respect to the mask: what is added to the score.

    Args:
        discrepancy_of: maps a mask to its discrepancy, summed or one number an item.

    Source: energy guidance as in Zhao et al. 2022, arXiv 2207.06635, eq. 7.
    """
    with torch.enable_grad():
        mask = mask.detach().requires_grad_(True)
        total = energy(discrepancy_of(mask), temperature=temperature).sum()
        (gradient,) = torch.autograd.grad(total, mask)
    return -gradient


def ensemble_weights(D: Tensor, *, temperature: float) -> Tensor:
    """Return weights proportional to exp(-D_k / sigma_D^2) that sum to 1.

    A temperature of 0 keeps the best sample (ties share), infinity is the plain mean.
    """
    if temperature < 0:
        raise SettingsError(f"temperature: got {temperature}; it must not be negative")
    if temperature == 0:
        best = (D.min(dim=-1, keepdim=True).values == D).to(D.dtype)
        return best / best.sum(dim=-1, keepdim=True)
    # Only differences count; without this shift a large D would underflow.
    return torch.softmax(-(D - D.min(dim=-1, keepdim=True).values) / temperature**2, dim=-1)
