"""f^S, the mask network: light, runs at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddmseg.networks.blocks import ConvolutionBlock, Pointwise, channels_last, fold, unfold
from ddmseg.types import Features, Mask


class SegmentationEncoder(nn.Module):
    """Mask to features z_S on the grid of the image embedding.

    It sees the mask alone: what it says of a voxel is compared with what the image
    says. It works on half the grid and leaves the features folded, like
    ``Encoding.embedding``.

    Args:
        dims: 2 or 3.
        channels: channels of an encoded mask.
        width: inner channels.
        embedding: channels of z_S.
    """

    def __init__(self, dims: int, channels: int, *, width: int = 16, embedding: int = 8) -> None:
        super().__init__()
        block = 2**dims
        self.voxels_in_block = block
        self.coarsen = Pointwise(channels * block, width)
        self.context = ConvolutionBlock(dims, width, width)
        self.embed = Pointwise(width + channels * block, embedding * block)

    def forward(self, mask: Mask, *, stride: int = 1) -> Tensor:
        """Return z_S folded: ``b (block d) *(half the image grid)``.

        Args:
            mask: encoded mask on the image grid, or with ``stride=2`` on half of it.
            stride: image voxels a mask voxel is wide, 1 or 2.
        """
        folded = channels_last(fold(mask) if stride == 1 else _repeat(mask, self.voxels_in_block))
        # The voxel's own code beside its surroundings: the former decides most.
        z: Tensor = self.embed(torch.cat([self.context(self.coarsen(folded)), folded], dim=1))
        return z

    def features(self, mask: Mask) -> Features:
        """Return z_S on the grid of the mask, which is the image grid."""
        return unfold(self.forward(mask))


def _repeat(mask: Tensor, times: int) -> Tensor:
    return mask.repeat(1, times, *(1,) * (mask.dim() - 2))


def folded_discrepancy(embedding_image: Tensor, embedding_mask: Tensor, dims: int) -> Tensor:
    """Return D of two folded embeddings: one channel a voxel of the 2-voxel block."""
    squared = (embedding_image - embedding_mask).square().movedim(1, -1)
    return torch.unflatten(squared, -1, (2**dims, -1)).sum(dim=-1).movedim(-1, 1)
