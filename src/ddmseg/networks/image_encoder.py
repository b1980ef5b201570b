"""f^I, the image network: heavy, runs once a scan.

It leaves a feature pyramid, the embedding z_I and coarse logits, which are an
ordinary segmentation at no extra cost.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddmseg.networks.block_head import BlockHead
from ddmseg.networks.blocks import (
    Coarsen,
    ConvolutionBlock,
    Pointwise,
    Refine,
    ResidualBlock,
    at_voxels,
    channels_last,
    class_probabilities,
    log_probabilities,
)
from ddmseg.networks.normalisation import Normalisation
from ddmseg.types import ClassMap, Image


@dataclass(frozen=True)
class Encoding:
    """What f^I leaves behind for any number of denoising steps.

    Attributes:
        stem: features for the last, fine decision, on the image grid or a coarser one.
        embedding: z_I, folded: the channels of each 2-voxel block side by side on
            half the grid.
        coarse: what the coarse head says, on the image grid: logits, or the probabilities
            that they stand for. A whole head of 33 classes has room for one of them.
        decided: whether these are probabilities.
    """

    stem: Tensor
    pyramid: tuple[Tensor, ...]
    embedding: Tensor
    coarse: ClassMap
    decided: bool = False

    @property
    def coarse_logits(self) -> ClassMap:
        """Logits of the coarse head."""
        return log_probabilities(self.coarse) if self.decided else self.coarse

    @property
    def coarse_probabilities(self) -> ClassMap:
        """Class probabilities of the coarse head."""
        return self.coarse if self.decided else class_probabilities(self.coarse)

    @property
    def stem_stride(self) -> int:
        """Image voxels between two places of the stem."""
        return int(self.coarse.shape[2] // self.stem.shape[2])

    @property
    def block_features(self) -> Tensor:
        """Mean of z_I over 2-voxel blocks (``b d *half the grid``)."""
        rows = self.embedding.movedim(1, -1)
        voxels = 2 ** (self.embedding.dim() - 2)
        return torch.unflatten(rows, -1, (voxels, -1)).mean(dim=-2).movedim(-1, 1)


class FineHead(nn.Module):
    """From half the grid to logits on the image grid, with the stem's help."""

    def __init__(self, dims: int, channels: int, stem: int, classes: int, blocks: int = 0) -> None:
        super().__init__()
        self.refine = Refine(dims, channels, stem)
        self.norm = Normalisation(stem)
        self.blocks = nn.Sequential(*[ConvolutionBlock(dims, stem, stem) for _ in range(blocks)])
        self.logits = Pointwise(stem, classes)

    def forward(self, coarse: Tensor, stem: Tensor, voxels: Tensor | None = None) -> ClassMap:
        """Return ``b classes *grid``, or ``b classes n`` of flat voxels; items may share a stem."""
        fine = self.blocks(F.leaky_relu(self.norm(self.refine(coarse) + stem), 0.01))
        logits: ClassMap = self.logits(fine if voxels is None else at_voxels(fine, voxels))
        return logits


class FeatureEncoder(nn.Module, ABC):
    """What every f^I has: a head and a map to z_I on top of its features.

    Attributes:
        multiple: the image grid must be a multiple of this on each axis.
        stem_stride: image voxels between two places of the stem.
    """

    channels: int
    multiple: int
    pyramid_widths: tuple[int, ...]
    stem_width: int
    stem_stride: int
    up: nn.ModuleList
    joined: nn.ModuleList
    embed: Pointwise
    head: FineHead | BlockHead

    @abstractmethod
    def features(self, image: Image) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the stem and the feature pyramid, the finest first."""

    def _climbed(self, skips: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the feature pyramid of what each level left on the way down."""
        pyramid = [skips.pop()]
        for up, joined in zip(reversed(self.up), reversed(self.joined), strict=True):
            pyramid.append(joined(up(pyramid[-1]) + skips.pop()))
        return tuple(reversed(pyramid))

    def fine_head(self, dims: int, channels: int, classes: int) -> FineHead | BlockHead:
        """Make another head, from so many channels on half the grid to logits of voxels."""
        return type(self.head)(dims, channels, self.stem_width, classes)

    def forward(self, image: Image) -> Encoding:
        """Encode an image whose grid is a multiple of ``multiple`` on each axis."""
        return self.completed(*self.features(image))

    def completed(
        self, stem: Tensor, pyramid: tuple[Tensor, ...], *, logits: ClassMap | None = None
    ) -> Encoding:
        """Return the encoding that features stand for: z_I and coarse logits are made of them.

        Args:
            logits: of the coarse head, where they are known.
        """
        return Encoding(
            stem=stem,
            pyramid=pyramid,
            embedding=self.embed(pyramid[0]),
            coarse=self.head(pyramid[0], stem) if logits is None else logits,
        )

    def with_share(self, encoding: Encoding, share: float) -> Encoding:
        """Return the same encoding, of whose features only a share passes gradients on.

        z_I is mapped anew, so that the map itself learns from the whole gradient.

        Args:
            share: of the gradient, in [0, 1].
        """
        if share == 1:
            return encoding

        def shared(x: Tensor) -> Tensor:
            return share * x + (1 - share) * x.detach() if share else x.detach()

        pyramid = tuple(shared(x) for x in encoding.pyramid)
        embedding = self.embed(pyramid[0])
        return replace(encoding, stem=shared(encoding.stem), pyramid=pyramid, embedding=embedding)


class ImageEncoder(FeatureEncoder):
    """A residual U-Net whose heavy part works on half the grid.

    Args:
        widths: channels at the image grid, at half of it, at a quarter, ...
    """

    stem_stride = 1

    def __init__(
        self,
        dims: int,
        channels: int,
        classes: int,
        *,
        widths: Sequence[int] = (16, 32, 64, 128),
        blocks: int = 1,
        embedding: int = 8,
        fine_blocks: int = 0,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.multiple = 2 ** (len(widths) - 1)
        self.pyramid_widths = tuple(widths[1:])
        self.stem_width = widths[0]
        self.stem = ConvolutionBlock(dims, channels, widths[0])
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(Coarsen(dims, a, b) for a, b in pairs)
        self.levels = nn.ModuleList(
            nn.Sequential(*[ResidualBlock(dims, w) for _ in range(blocks)]) for w in widths[1:]
        )
        self.up = nn.ModuleList(Refine(dims, b, a) for a, b in pairs[1:])
        self.joined = nn.ModuleList(ResidualBlock(dims, a) for a, _ in pairs[1:])
        self.embed = Pointwise(widths[1], embedding * 2**dims)
        self.head = FineHead(dims, widths[1], widths[0], classes, fine_blocks)

    def features(self, image: Image) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return features on the image grid and the feature pyramid, the finest first."""
        stem = self.stem(channels_last(image))
        skips = []
        x = stem
        for down, level in zip(self.down, self.levels, strict=True):
            x = down(x)
            x = level(x)
            skips.append(x)
        return stem, self._climbed(skips)
