"""f^S, the mask network: light, runs at every step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddmseg.networks.blocks import ConvolutionBlock, Pointwise, channels_last, fold
from ddmseg.types import Mask


class SegmentationEncoder(nn.Module):
    """Mask to features z_S on the grid of the image embedding.

    It sees the mask alone: what it says of a voxel is compared with what the image
    says. It works on half the grid and leaves the features folded, like
    ``Encoding.embedding``.
    """

    def __init__(self, dims: int, channels: int, *, width: int = 16, embedding: int = 8) -> None:
        super().__init__()
        block = 2**dims
        self.voxels_in_block = block
        self.width = width
        self.coarsen = Pointwise(channels * block, width)
        self.context = ConvolutionBlock(dims, width, width)
        self.embed = Pointwise(width + channels * block, embedding * block)

    def forward(self, mask: Mask, *, stride: int = 1) -> Tensor:
        """Return z_S folded: ``b (block d) *(half the image grid)``.

        With ``stride=2`` of a mask on half the image grid.
        """
        if stride == 1:
            return self._embedded(channels_last(fold(mask)), self.coarsen.weight, self.embed.weight)
        # A mask voxel fills its block: equal copies, which meet the sum of their weights.
        around, own = self._split_embedding()
        embed = torch.cat([around, self._of_blocks(own)], dim=1)
        return self._embedded(channels_last(mask), self._of_blocks(self.coarsen.weight), embed)

    def block_features(self, mask: Mask) -> Tensor:
        """Return the mean of z_S over each block: ``b d *(half the image grid)``.

        It is the mean of what :meth:`forward` says of the block's voxels, but never
        computes them.
        """
        rows = channels_last(mask).movedim(1, -1)
        coarsen = self._of_blocks(self.coarsen.weight)
        inner = F.linear(rows, coarsen, self.coarsen.bias).movedim(-1, 1)
        around, own = self._split_embedding()
        z = F.linear(rows, self._mean(self._of_blocks(own)), self._mean(self.embed.bias))
        z = z + F.linear(self.context(inner).movedim(1, -1), self._mean(around))
        return z.movedim(-1, 1)

    def _split_embedding(self) -> tuple[Tensor, Tensor]:
        return self.embed.weight[:, : self.width], self.embed.weight[:, self.width :]

    def _mean(self, weight: Tensor) -> Tensor:
        """Mean over the voxels of a block that outputs belong to."""
        return torch.unflatten(weight, 0, (self.voxels_in_block, -1)).mean(dim=0)

    def _embedded(self, mask: Tensor, coarsen: Tensor, embed: Tensor) -> Tensor:
        rows = mask.movedim(1, -1)
        inner = F.linear(rows, coarsen, self.coarsen.bias).movedim(-1, 1)
        # The voxel's own code beside its surroundings: the former decides most.
        both = torch.cat([self.context(inner).movedim(1, -1), rows], dim=-1)
        return F.linear(both, embed, self.embed.bias).movedim(-1, 1)

    def _of_blocks(self, weight: Tensor) -> Tensor:
        """Weights of one code in place of those of the block's copies of it."""
        return torch.unflatten(weight, 1, (self.voxels_in_block, -1)).sum(dim=1)


def folded_discrepancy(embedding_image: Tensor, embedding_mask: Tensor, dims: int) -> Tensor:
    """Return D of two folded embeddings: one channel a voxel of the 2-voxel block."""
    squared = (embedding_image - embedding_mask).square().movedim(1, -1)
    return torch.unflatten(squared, -1, (2**dims, -1)).sum(dim=-1).movedim(-1, 1)
