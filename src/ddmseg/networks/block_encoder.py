"""f^I on blocks: it sees every voxel, and computes on half the grid alone.

Each block of 2 voxels a side enters as channels and is decided at once at the exit, so that no
convolution runs on the image grid. Normalisation is by batch statistics: what the network says
of a voxel does not depend on what else is in view, and in use it is folded into the
convolutions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ddmseg.networks.block_head import SLAB, BlockHead
from ddmseg.networks.blocks import (
    Coarsen,
    ConvolutionBlock,
    Pointwise,
    Refine,
    ResidualBlock,
    channels_last,
    fold,
)
from ddmseg.networks.image_encoder import Encoding, FeatureEncoder
from ddmseg.types import Image


class BlockEncoder(FeatureEncoder):
    """A residual U-Net whose finest grid is half the image's.

    Args:
        blocks: residual blocks at each of these on the way down; one number for all.
    """

    stem_stride = 2

    def __init__(
        self,
        dims: int,
        channels: int,
        classes: int,
        *,
        widths: Sequence[int] = (32, 64, 96, 128),
        blocks: Sequence[int] | int = (1, 1, 2, 2),
        embedding: int = 8,
    ) -> None:
        super().__init__()
        counts = [blocks] * len(widths) if isinstance(blocks, int) else list(blocks)
        self.channels = channels
        self.multiple = 2 ** len(widths)
        self.block = 2**dims
        self.pyramid_widths = tuple(widths)
        self.stem_width = channels * 2**dims
        pairs = list(itertools.pairwise(widths))
        self.enter = ConvolutionBlock(dims, self.stem_width, widths[0])
        self.levels = nn.ModuleList(
            nn.Sequential(*[ResidualBlock(dims, w) for _ in range(count)])
            for w, count in zip(widths, counts, strict=True)
        )
        self.down = nn.ModuleList(Coarsen(dims, a, b) for a, b in pairs)
        self.up = nn.ModuleList(Refine(dims, b, a) for a, b in pairs)
        self.joined = nn.ModuleList(ResidualBlock(dims, a) for a, _ in pairs)
        self.embed = Pointwise(widths[0], embedding * 2**dims)
        self.head = BlockHead(dims, widths[0], self.stem_width, classes)

    def features(self, image: Image) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the folded image and the feature pyramid, the finest first."""
        stem = channels_last(fold(image))
        x = self.enter(stem)
        skips = []
        for number, level in enumerate(self.levels):
            if number:
                x = self.down[number - 1](x)
            x = level(x)
            skips.append(x)
        return stem, self._climbed(skips)

    @torch.no_grad()
    def decided(self, stem: Tensor, pyramid: tuple[Tensor, ...]) -> Encoding:
        """Return the encoding that features stand for, with probabilities in place of logits."""
        assert isinstance(self.head, BlockHead)
        said = self.head.probabilities(pyramid[0], stem)
        return replace(self.completed(stem, pyramid, logits=said), decided=True)

    @torch.no_grad()
    def foreground(self, stem: Tensor, pyramid: tuple[Tensor, ...]) -> Tensor:
        """Return the blocks of one item in which any voxel is a structure (``*half grid``).

        Slab by slab: the logits of a whole head are never there at once.
        """
        slabs = []
        for start in range(0, stem.shape[2], SLAB):
            x = torch.cat([part[:1, :, start : start + SLAB] for part in (pyramid[0], stem)], dim=1)
            said = torch.unflatten(self.head.logits(x)[0].movedim(0, -1), -1, (self.block, -1))
            slabs.append((said[..., 1:].amax(-1) > said[..., 0]).any(-1))
        return torch.cat(slabs)
