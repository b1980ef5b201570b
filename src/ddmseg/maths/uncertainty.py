"""How much doubt there is, and whether it points at error.

Source: Gal 2016, thesis, section 3.3 (entropy).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.double import double
from ddmseg.types import ClassMap, VoxelMap


def entropy(probabilities: ClassMap) -> VoxelMap:
    """Return the entropy at each voxel in units of log K, K >= 2: 0 is certain, 1 is no idea."""
    classes = probabilities.shape[1]
    if classes < 2:
        raise SettingsError(f"probabilities: got {classes} class; entropy needs at least 2")
    # Not torch.special.entr, which takes five times as long.
    logs = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
    H: Tensor = -(probabilities * logs).sum(dim=1, keepdim=True)
    return (H / math.log(classes)).clamp(0, 1)


def auroc(score: Tensor, positive: Tensor) -> float:
    """Return the probability that a positive scores above a negative, ties counting half.

    NaN when either kind is missing. Positive are those that should be high, such as wrong voxels.

    Raises:
        SettingsError: when the shapes differ or a score is NaN.

    Source: Mann and Whitney 1947, by mid-ranks.
    """
    score, positive = flat_pair(score, positive)
    _, group, counts = torch.unique(score, return_inverse=True, return_counts=True)
    hits = torch.zeros_like(counts).index_add_(0, group, positive.long())
    misses = counts - hits
    total_hits, total_misses = int(hits.sum()), int(misses.sum())
    if total_hits == 0 or total_misses == 0:
        return math.nan
    below = misses.cumsum(0) - misses  # negatives with a lower score
    won = double(hits) @ (double(below) + double(misses) / 2)
    return float(won) / total_hits / total_misses


def flat_pair(values: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return both flat, or refuse other shapes and NaN."""
    if values.shape != others.shape:
        raise SettingsError(
            f"scores: got shapes {tuple(values.shape)} and {tuple(others.shape)}; "
            "both must be the same"
        )
    if bool(values.isnan().any()):
        raise SettingsError("scores: got NaN, which has no rank; leave those elements out first")
    return values.detach().flatten(), others.detach().flatten()
