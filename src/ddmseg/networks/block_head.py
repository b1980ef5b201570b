"""The decision on blocks: from features on half the grid to logits of all voxels of each block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddmseg.networks.blocks import Pointwise, recorded, unfold
from ddmseg.types import ClassMap

SLAB = 8
"""Blocks along the first axis whose logits are made at once, where only winners are asked for."""


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
        if voxels is None:
            return self._whole(coarse, stem)
        x = torch.cat([coarse, stem], dim=1)
        block, place = _blocks_of(voxels, coarse.shape[2:])
        rows = x.movedim(1, -1).flatten(1, -2)
        weights = torch.unflatten(self.logits.weight, 0, (self.block, -1))
        biases = torch.unflatten(self.logits.bias, 0, (self.block, -1))
        order = place.argsort(stable=True)
        counts = torch.bincount(place, minlength=self.block).tolist()
        said = [
            F.linear(rows[:, block[part]], weight, bias)
            for part, weight, bias in zip(torch.split(order, counts), weights, biases, strict=True)
        ]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return torch.cat(said, dim=1)[:, back].movedim(-1, 1)

    def _whole(self, coarse: Tensor, stem: Tensor) -> ClassMap:
        """Return the logits of all voxels.

        Without gradient slab by slab, each written to its place: unfolding all at once would
        hold what is the largest array of a scan twice.
        """
        if torch.is_grad_enabled() or recorded():
            return unfold(self.logits(torch.cat([coarse, stem], dim=1)))
        grid = [2 * n for n in coarse.shape[2:]]
        whole: Tensor | None = None
        for start in range(0, coarse.shape[2], SLAB):
            there = slice(start, start + SLAB)
            x = torch.cat([coarse[:, :, there], stem[:, :, there]], dim=1)
            said = unfold(self.logits(x)).movedim(1, -1)
            if whole is None:
                whole = said.new_empty((len(coarse), *grid, self.classes))
            whole[:, 2 * start : 2 * (start + SLAB)] = said
        assert whole is not None
        return whole.movedim(-1, 1)


def _blocks_of(voxels: Tensor, blocks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the flat block of each flat voxel, and its place within the block."""
    block, place = torch.zeros_like(voxels), torch.zeros_like(voxels)
    rest, block_size, place_size = voxels, 1, 1
    for n in reversed(blocks):
        along = rest % (2 * n)
        rest = rest // (2 * n)
        block += block_size * (along // 2)
        place += place_size * (along % 2)
        block_size, place_size = block_size * n, 2 * place_size
    return block, place


def voxels_of_blocks(blocks: Tensor, grid: Sequence[int]) -> Tensor:
    """Return the flat voxels of flat blocks, those of a block side by side.

    Args:
        blocks: places on half the image grid, flattened (``n``).
    """
    voxels = torch.zeros_like(blocks)[:, None]
    rest, size = blocks, 1
    for n in reversed(grid):
        along = 2 * (rest % n)[:, None] + torch.arange(2, device=blocks.device)
        rest = rest // n
        voxels = (size * along[:, :, None] + voxels[:, None, :]).flatten(1)
        size *= 2 * n
    return voxels.flatten()
