"""f^I on blocks: it sees every voxel, and computes on half the grid alone.

Each block of 2 voxels a side enters as channels and is decided at once at the exit, so that no
convolution runs on the image grid. Normalisation is by batch statistics: what the network says
of a voxel does not depend on what else is in view, and in use it is folded into the
convolutions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ddmseg.networks.blocks import (
    Coarsen,
    ConvolutionBlock,
    Pointwise,
    Refine,
    ResidualBlock,
    channels_last,
    fold,
    unfold,
)
from ddmseg.networks.image_encoder import FeatureEncoder
from ddmseg.networks.normalisation import use_batch_statistics
from ddmseg.types import ClassMap, Image

SLAB = 8
"""Blocks along the first axis whose logits are made at once, where only winners are asked for."""


class BlockHead(nn.Module):
    """From features on half the grid, and the voxels of each block, to logits of these voxels."""

    def __init__(self, dims: int, channels: int, stem: int, classes: int) -> None:
        super().__init__()
        self.dims = dims
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
        weights = self.logits.weight.unflatten(0, (2**self.dims, -1))
        biases = self.logits.bias.unflatten(0, (2**self.dims, -1))
        order = place.argsort(stable=True)
        counts = torch.bincount(place, minlength=2**self.dims).tolist()
        said = [
            nn.functional.linear(rows[:, block[part]], weight, bias)
            for part, weight, bias in zip(order.split(counts), weights, biases, strict=True)
        ]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return torch.cat(said, dim=1)[:, back].movedim(-1, 1)

    def _whole(self, coarse: Tensor, stem: Tensor) -> ClassMap:
        """Return the logits of all voxels.

        Without gradient slab by slab, each written to its place: unfolding all at once would
        hold what is the largest array of a scan twice.
        """
        if torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling():
            return unfold(self.logits(torch.cat([coarse, stem], dim=1)))
        grid = [2 * n for n in coarse.shape[2:]]
        classes = self.logits.out_features // 2**self.dims
        whole: Tensor | None = None
        for start in range(0, coarse.shape[2], SLAB):
            there = slice(start, start + SLAB)
            x = torch.cat([coarse[:, :, there], stem[:, :, there]], dim=1)
            said = unfold(self.logits(x)).movedim(1, -1)
            if whole is None:
                whole = said.new_empty((len(coarse), *grid, classes))
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
        grid: sides of the half grid.
    """
    voxels = torch.zeros_like(blocks)[:, None]
    rest, size = blocks, 1
    for n in reversed(grid):
        along = 2 * (rest % n)[:, None] + torch.arange(2, device=blocks.device)
        rest = rest // n
        voxels = (size * along[:, :, None] + voxels[:, None, :]).flatten(1)
        size *= 2 * n
    return voxels.flatten()


class BlockEncoder(FeatureEncoder):
    """A residual U-Net whose finest grid is half the image's.

    Args:
        dims: 2 or 3.
        contrasts: channels of the image.
        classes: labels, background included.
        widths: channels at half the image grid, at a quarter, ...
        blocks: residual blocks at each of these on the way down; one number for all.
        embedding: channels of z_I.
    """

    stem_stride = 2

    def __init__(
        self,
        dims: int,
        contrasts: int,
        classes: int,
        *,
        widths: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] | int = (1, 1, 2, 2),
        embedding: int = 8,
    ) -> None:
        super().__init__()
        counts = [blocks] * len(widths) if isinstance(blocks, int) else list(blocks)
        self.multiple = 2 ** len(widths)
        self.pyramid_widths = tuple(widths)
        self.stem_width = contrasts * 2**dims
        pairs = list(itertools.pairwise(widths))
        self.enter = ConvolutionBlock(dims, self.stem_width, widths[0])
        self.levels = nn.ModuleList(
            nn.ModuleList(ResidualBlock(dims, w) for _ in range(count))
            for w, count in zip(widths, counts, strict=True)
        )
        self.down = nn.ModuleList(Coarsen(dims, a, b) for a, b in pairs)
        self.up = nn.ModuleList(Refine(dims, b, a) for a, b in pairs)
        self.joined = nn.ModuleList(ResidualBlock(dims, a) for a, _ in pairs)
        self.embed = Pointwise(widths[0], embedding * 2**dims)
        self.head: BlockHead = BlockHead(dims, widths[0], self.stem_width, classes)
        use_batch_statistics(self, dims)

    def features(self, image: Image) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the folded image and the feature pyramid, the finest first."""
        stem = channels_last(fold(image))
        x = self.enter(stem)
        skips = []
        for number, level in enumerate(self.levels):
            if number:
                x = self.down[number - 1](x)
            for block in cast(nn.ModuleList, level):
                x = block(x)
            skips.append(x)
        pyramid = [skips.pop()]
        for up, joined in zip(reversed(self.up), reversed(self.joined), strict=True):
            pyramid.append(joined(up(pyramid[-1]) + skips.pop()))
        return stem, tuple(reversed(pyramid))

    @torch.no_grad()
    def foreground(self, stem: Tensor, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Return the blocks of one item in which any voxel is a structure (``*half grid``).

        Slab by slab: the logits of a whole head are never there at once.

        Args:
            stem: of :meth:`features`.
            pyramid: of :meth:`features`.
        """
        slabs = []
        for start in range(0, stem.shape[2], SLAB):
            x = torch.cat([part[:1, :, start : start + SLAB] for part in (pyramid[0], stem)], dim=1)
            said = self.head.logits(x)[0].movedim(0, -1).unflatten(-1, (2**self.head.dims, -1))
            slabs.append((said[..., 1:].amax(-1) > said[..., 0]).any(-1))
        return torch.cat(slabs)

    def fine_head(self, dims: int, channels: int, classes: int) -> BlockHead:
        """Make a head that decides the voxels of each block."""
        return BlockHead(dims, channels, self.stem_width, classes)
