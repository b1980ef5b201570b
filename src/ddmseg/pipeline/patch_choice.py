"""Where level 2 looks: few patches that cover what is doubtful, the most doubtful first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PAYS = 0.02
"""Expected share of wrong voxels, of those that matter in a cell, from which it is looked at."""
MARGIN = 1
"""Cells along the border of a patch that do not count as covered: it sees less around them."""

Box = tuple[slice, ...]


def choose_patches(doubt: Tensor, inside: Tensor, patch: Sequence[int], cell: int) -> list[Box]:
    """Return patches that cover the doubtful cells, each time the place with the most doubt.

    Args:
        doubt: probability of being wrong at each voxel that matters, 0 elsewhere (``i j k``).
        inside: which voxels matter.
        patch: voxels along each axis, at most those of the grid.
        cell: voxels along a cell; divides the grid and ``patch``.
    """
    wrong = _sums(doubt, cell)
    left = wrong * (wrong >= PAYS * _sums(inside, cell))
    size = [p // cell for p in patch]
    covers = [max(1, n - 2 * MARGIN) for n in size]
    volume = float(torch.tensor(covers).prod())
    chosen: list[Box] = []
    while bool((left > 0).any()):
        pooled = volume * F.avg_pool3d(left[None, None], covers, stride=1)[0, 0]
        best = torch.unravel_index(pooled.argmax(), pooled.shape)
        place = [int(index) for index in best]
        left[tuple(slice(at, at + n) for at, n in zip(place, covers, strict=True))] = 0
        box = []
        for at, n, covered, cells in zip(place, size, covers, left.shape, strict=True):
            start = min(max(0, at - (n - covered) // 2), cells - n)
            box.append(slice(start * cell, (start + n) * cell))
        chosen.append(tuple(box))
    return chosen


def _sums(values: Tensor, cell: int) -> Tensor:
    return cell**3 * F.avg_pool3d(values.float()[None, None], cell)[0, 0]
