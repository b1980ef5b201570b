"""The decision on blocks: from features on half the grid to logits of all voxels of each block."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddmseg.networks.blocks import Pointwise, at_voxels, recorded, unfold
from ddmseg.types import ClassMap

Joined = Callable[[Tensor, int], Tensor]

SLAB = 2
"""Blocks along the first axis whose logits are made at once: so few that they stay in the
processor's cache."""


class BlockHead(nn.Module):
    """From features on half the grid, and the voxels of each block, to logits of these voxels."""

    def __init__(self, dims: int, channels: int, stem: int, classes: int) -> None:
        super().__init__()
        self.block = 2**dims
        self.classes = classes
        self.logits = Pointwise(channels + stem, classes * 2**dims)

    def forward(self, coarse: Tensor, stem: Tensor, voxels: Tensor | None = None) -> ClassMap:
        """Return ``b classes *grid``; items of ``coarse`` may share one ``stem``.

        With ``voxels``, places on the flattened image grid, ``b classes n``.
        """
        stem = stem.expand(len(coarse), *stem.shape[1:])
        if voxels is None and (torch.is_grad_enabled() or recorded()):
            return unfold(self.logits(torch.cat([coarse, stem], dim=1)))
        if voxels is None:
            return self._whole(coarse, stem, lambda said, _: said)
        block, place = _blocks_of(voxels, coarse.shape[2:])
        weights = torch.unflatten(self.logits.weight, 0, (self.block, -1))
        biases = torch.unflatten(self.logits.bias, 0, (self.block, -1))
        order = place.argsort(stable=True)
        counts = torch.bincount(place, minlength=self.block).tolist()
        said = [
            F.linear(_rows(block[part], coarse, stem), weight, bias)
            for part, weight, bias in zip(torch.split(order, counts), weights, biases, strict=True)
        ]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return torch.cat(said, dim=1)[:, back].movedim(-1, 1)

    def probabilities(self, coarse: Tensor, stem: Tensor, joined: Joined | None = None) -> ClassMap:
        """Return the class probabilities of all voxels (``b classes *grid``), without gradient.

        Args:
            joined: changes the logits of a slab (``b *grid classes``) that begins at that place.
        """

        def finish(said: Tensor, start: int) -> Tensor:
            return torch.softmax(said if joined is None else joined(said, start), dim=-1)

        return self._whole(coarse, stem, finish)

    def _whole(self, coarse: Tensor, stem: Tensor, finish: Joined) -> ClassMap:
        """Return what ``finish`` makes of the logits of all voxels, the classes last.

        Slab by slab, each written to its place: unfolding all at once would hold what is the
        largest array of a scan twice.
        """
        sides = coarse.shape[2:]
        dims, whole = len(sides), coarse.new_empty(0)
        order = (0, *(axis + odd * dims for axis in range(1, dims + 1) for odd in (0, 1)), -1)
        for start in range(0, sides[0], SLAB):
            there = slice(start, start + SLAB)
            x = torch.cat([coarse[:, :, there], stem[:, :, there]], dim=1)
            said = torch.unflatten(self.logits(x).movedim(1, -1), -1, (2,) * dims + (-1,))
            said = said.permute(order)
            for axis in range(1, dims + 1):
                said = said.flatten(axis, axis + 1)
            if not start:
                whole = said.new_empty((len(coarse), *(2 * n for n in sides), self.classes))
            whole[:, 2 * start : 2 * start + said.shape[1]].copy_(finish(said, 2 * start))
        return whole.movedim(-1, 1)


def _rows(blocks: Tensor, *features: Tensor) -> Tensor:
    """Return the features of flat blocks side by side, one row per block (``b n channels``)."""
    return torch.cat([at_voxels(x, blocks) for x in features], dim=1).movedim(1, -1)


def _blocks_of(voxels: Tensor, blocks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the flat block of each flat voxel, and its place within the block."""
    along = torch.unravel_index(voxels, [2 * n for n in blocks])
    return _flat([x // 2 for x in along], blocks), _flat([x % 2 for x in along], [2] * len(blocks))


def voxels_of_blocks(blocks: Tensor, grid: Sequence[int]) -> Tensor:
    """Return the flat voxels of flat blocks, those of a block side by side.

    Args:
        blocks: places on half the image grid, flattened (``n``).
    """
    along = torch.unravel_index(blocks, list(grid))
    corners = torch.cartesian_prod(*[torch.arange(2, device=blocks.device)] * len(grid)).T
    voxels = [2 * x[:, None] + corner for x, corner in zip(along, corners, strict=True)]
    return _flat(voxels, [2 * n for n in grid]).flatten()


def _flat(along: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
    """Return places on a flattened grid, of those along each of its axes."""
    place = along[0]
    for x, n in zip(along[1:], sides[1:], strict=True):
        place = place * n + x
    return place
