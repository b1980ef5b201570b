"""Small auto-encoders and the two maps that ensembles of them make of an image.

One ensemble (1) has learnt to redraw all slices, the other (2) only those that are called
normal. With mu_1 and mu_2 the means of their drawings at a voxel:

    inter = mean over contrasts of |mu_1 - mu_2|
    intra = root mean square deviation of the members of (2) from mu_2

Both are large where an image holds what normal slices do not.

Source: Fan, Cai and Niranjan 2024, arXiv 2405.04974; the two discrepancies are those of
Cai et al. 2022, arXiv 2206.03935. The network is ours: theirs squeezes an image of one
size through a vector, this one squeezes each block of voxels and takes any size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddmseg.networks.blocks import CONVOLUTIONS, Coarsen, Pointwise, Refine, channels_last
from ddmseg.types import Features, Image

MEMBERS = 3
"""Of each ensemble, as in the code of Cai et al."""


class AutoEncoder(nn.Module):
    """An image through a few numbers a block and back, in 2-D or 3-D.

    There is no normalisation over the grid, so that a drawing depends on what lies near
    a voxel and not on how much air is in view.

    Args:
        widths: channels at half of the grid, a quarter, ...
        code: numbers that are kept of each block of ``multiple`` voxels a side.
    """

    def __init__(
        self, dims: int, contrasts: int, *, widths: Sequence[int] = (8, 16, 32), code: int = 4
    ) -> None:
        super().__init__()
        self.multiple: int = 2 ** len(widths)
        down = list(itertools.pairwise((contrasts, *widths)))
        up = list(itertools.pairwise((*reversed(widths), contrasts)))
        self.down = nn.ModuleList(Coarsen(dims, a, b) for a, b in down)
        self.seen = nn.ModuleList(CONVOLUTIONS[dims](b, b, 3, padding=1) for _, b in down)
        self.squeeze = Pointwise(widths[-1], code)
        self.unsqueeze = Pointwise(code, widths[-1])
        self.drawn = nn.ModuleList(CONVOLUTIONS[dims](a, a, 3, padding=1) for a, _ in up)
        self.up = nn.ModuleList(Refine(dims, a, b) for a, b in up)

    def forward(self, image: Image) -> Image:
        """Redraw an image whose grid is a multiple of ``multiple`` on each axis."""
        x: Tensor = channels_last(image)
        for down, seen in zip(self.down, self.seen, strict=True):
            x = F.leaky_relu(down(x), 0.1)
            x = x + F.leaky_relu(seen(x), 0.1)
        x = self.unsqueeze(self.squeeze(x))
        for drawn, up in zip(self.drawn, self.up, strict=True):
            x = up(x + F.leaky_relu(drawn(x), 0.1))
        return x


class DiscrepancyMaps(nn.Module):
    """Both ensembles of at least 2 members each; a call makes the maps of an image."""

    scale: Tensor

    def __init__(
        self,
        dims: int,
        contrasts: int,
        *,
        members: int = MEMBERS,
        widths: Sequence[int] = (8, 16, 32),
        code: int = 4,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.of_all, self.of_normal = (
            nn.ModuleList(
                AutoEncoder(dims, contrasts, widths=widths, code=code) for _ in range(members)
            )
            for _ in range(2)
        )
        self.multiple: int = 2 ** len(widths)
        self.register_buffer("scale", torch.ones(2))

    def forward(self, image: Image) -> Features:
        """Return the inter map and the intra map as channels, divided by ``scale``."""
        mu_1 = torch.stack([member(image) for member in self.of_all]).mean(0)
        drawn = torch.stack([member(image) for member in self.of_normal])
        mu_2 = drawn.mean(0)
        inter = (mu_1 - mu_2).abs().mean(1, keepdim=True)
        intra = (drawn - mu_2).square().mean(0).mean(1, keepdim=True).sqrt()
        maps = torch.cat([inter, intra], dim=1)
        return maps / self.scale.reshape(1, 2, *(1,) * self.dims)
