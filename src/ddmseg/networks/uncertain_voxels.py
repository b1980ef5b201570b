"""The voxels that samples decide: those at which the coarse head is not sure."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddmseg.networks.blocks import at_voxels
from ddmseg.types import ClassMap

SURE = 0.95
"""Probability of the coarse head from which on no sample is asked. A sample of the demo head
decided at no voxel otherwise from 0.9 on (docs/performance.md)."""


@dataclass(frozen=True)
class UncertainVoxels:
    """Places on the image grid, and what stands at all others.

    Attributes:
        voxels: places on the flattened grid (``n``).
        coarse: class probabilities of the coarse head (``1 k *grid``).
        labels: its winners (``1 *grid``).
    """

    voxels: Tensor
    coarse: ClassMap
    labels: Tensor

    @classmethod
    def of(cls, p: ClassMap) -> UncertainVoxels:
        """Find them."""
        top, labels = p.max(dim=1)
        return cls((top < SURE).flatten().nonzero().flatten(), p, winners(labels, p.shape[1]))

    def probabilities(self, p: Tensor, *, in_place: bool = False) -> ClassMap:
        """Return class probabilities on the whole grid, of those at the voxels (``1 k n``).

        Args:
            in_place: write them over the coarse head's, which nobody needs any more.
        """
        whole = self.coarse if in_place else self.coarse.clone()
        rows = whole.movedim(1, -1).view(-1, whole.shape[1])  # a view, or an error: never a copy
        rows[self.voxels] = p[0].T
        return whole

    def whole_labels(self, labels: Tensor) -> Tensor:
        """Return labels on the whole grid, of those at the voxels (``1 n``)."""
        whole = self.labels.clone()
        whole.view(-1)[self.voxels] = labels[0].to(whole.dtype)
        return whole

    @property
    def sure_volumes(self) -> Tensor:
        """Expected voxels of each class at all other places (``k``)."""
        axes = tuple(range(2, self.coarse.dim()))
        return (self.coarse.sum(axes) - self.of_coarse.sum(2))[0]

    @property
    def of_coarse(self) -> Tensor:
        """What the coarse head says of the voxels (``1 k n``)."""
        return at_voxels(self.coarse, self.voxels)


def winners(labels: Tensor, classes: int) -> Tensor:
    """Return class indices in a byte each where that holds them."""
    return labels.to(torch.uint8 if classes <= 256 else torch.int16)
