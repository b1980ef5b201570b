"""The Dice that a mask may be expected to have, read off its discrepancy.

With p_v = exp(-D_v / sigma_D^2) the probability that voxel v of the mask is right,
and pi_v(k) the class probabilities, for structure k with predicted voxels P_k

    hits_k    = sum over P_k of p_v
    strays_k  = sum over P_k of 1 - p_v
    missed_k  = sum outside P_k of (1 - p_v) pi_v(k) / (1 - pi_v(predicted))
    E Dice_k  ~ 2 hits_k / (|P_k| + hits_k + missed_k)

The last is a ratio of expectations, which for structures of many voxels is close
to the expectation of the ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddmseg.maths.double import double

MISSED_VOXELS = 8.0
"""A structure without a voxel counts as missed, Dice 0, when this many are expected."""


@dataclass(frozen=True)
class Expectation:
    """What the discrepancy says of each class, background included, in voxels.

    Attributes:
        size: voxels that the mask gives to the class.
        hits: how many of them are expected to be right.
        missed: voxels of the class expected elsewhere.
        soft: sum of the class's probabilities: its volume with voxels that are partly of it.
    """

    size: Float[Tensor, " k"]
    hits: Float[Tensor, " k"]
    missed: Float[Tensor, " k"]
    soft: Float[Tensor, " k"]

    @property
    def dice(self) -> Float[Tensor, " k"]:
        """Expected Dice of each class in [0, 1]; NaN where the mask holds none of it."""
        dice = 2 * self.hits / (self.size + self.hits + self.missed)
        return torch.where(self.size > 0, dice, torch.nan)

    @property
    def mean_dice(self) -> float:
        """Mean over the foreground classes that the mask holds or clearly misses.

        A class it misses counts as 0; the mean of none is 0.
        """
        counted = (self.size > 0) | (self.missed >= MISSED_VOXELS)
        dice = self.dice.nan_to_num(0.0)[1:][counted[1:]]
        return float(dice.mean()) if len(dice) else 0.0


def expectation(
    labels: Int64[Tensor, "*grid"],
    right: Float[Tensor, "*grid"],
    probabilities: Float[Tensor, k * grid],
) -> Expectation:
    """Return the expected hits and misses of a mask.

    Args:
        right: probability that each voxel of it is right, in [0, 1].
        probabilities: of the classes; say to which a wrong voxel may belong.
    """
    classes = probabilities.shape[0]
    index, p = labels.flatten(), double(right.flatten())
    rows = probabilities.movedim(0, -1).flatten(0, -2)  # no copy where the network computed them
    own = double(rows.gather(1, index[:, None])[:, 0])
    index = index.to(p.device)
    zeros = torch.zeros(classes, dtype=torch.float64, device=p.device)
    size = torch.bincount(index, minlength=classes).double()
    hits = zeros.scatter_add(0, index, p)
    mass = (1 - p) / (1 - own).clamp_min(1e-6)
    # Everything a voxel's doubt gives to any class, less what it gives to its own.
    spread, soft = double(torch.stack([mass.to(rows), torch.ones_like(rows[:, 0])]) @ rows)
    missed = (spread - zeros.scatter_add(0, index, mass * own)).clamp_min(0)
    return Expectation(size, hits, missed, soft)
