"""More looks at a head than one: mirrored, and by a network that sees it at twice the spacing.

With views the coarse head decides by the mean of the logits of all looks; features and z_I are
those of its own straight look. Errors of single looks differ, so their mean has fewer.

Source: mirrored test images as in Isensee et al. 2021 (nnU-Net), doi 10.1038/s41592-020-01008-z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ddmseg.networks.block_head import BlockHead
from ddmseg.networks.blocks import block_means, channels_last
from ddmseg.networks.image_encoder import Encoding, FeatureEncoder
from ddmseg.types import Image

if TYPE_CHECKING:
    from ddmseg.networks.block_encoder import BlockEncoder

LEFT_RIGHT = 2
"""Axis of a 3-D batch that mirrors a head: the model grid runs along right, front and up."""
FAR = 0.25
"""Share of the farther of two voxels where a grid is made twice as fine, linearly."""


@dataclass(frozen=True)
class Look:
    """What a view saw, in the image's own orientation.

    Attributes:
        pyramid: of the straight look, the finest first.
        beside: the folded image; behind it, of a view that mirrors, the finest features of the
            mirrored image and this image folded.
    """

    pyramid: tuple[Tensor, ...]
    beside: Tensor


@dataclass(frozen=True)
class View:
    """A network's look at a 3-D image, and where wanted at the mirrored one.

    Attributes:
        head: to the logits of the look, or to the mean of both.
    """

    encoder: BlockEncoder
    head: BlockHead
    mirrored: bool

    @classmethod
    def of(cls, encoder: BlockEncoder, exchange: Sequence[int] = ()) -> View:
        """Make the view of an encoder.

        Args:
            exchange: class on the other side, for each class; empty mirrors nothing.
        """
        head = cast(BlockHead, encoder.head)
        return cls(encoder, _for_both(head, exchange) if exchange else head, bool(exchange))

    def look(self, image: Image) -> Look:
        """Look at an image whose sides are multiples of the encoder's."""
        self.encoder.to(image.device)
        stem, pyramid = self.encoder.features(image)
        if not self.mirrored:
            return Look(pyramid, stem)
        other, levels = self.encoder.features(image.flip(LEFT_RIGHT))
        mirrored = [x.flip(LEFT_RIGHT) for x in (levels[0], other)]
        return Look(pyramid, torch.cat([stem, *mirrored], dim=1))

    def stem(self, look: Look) -> Tensor:
        """Return the folded image alone."""
        return look.beside[:, : self.encoder.stem_width] if self.mirrored else look.beside


@dataclass(frozen=True)
class Mirrored:
    """The straight and the mirrored look of an encoder that decides on the image grid.

    Attributes:
        exchange: class on the other side, for each class.
    """

    encoder: FeatureEncoder
    exchange: Sequence[int]

    @torch.no_grad()
    def encode(self, image: Image) -> Encoding:
        """Return the encoding of a 3-D image, decided by the mean logits of both looks."""
        straight = self.encoder(image)
        stem, pyramid = self.encoder.features(image.flip(LEFT_RIGHT))
        other = self.encoder.head(pyramid[0], stem).flip(LEFT_RIGHT)[:, list(self.exchange)]
        joined = channels_last((straight.coarse + other) / 2)
        return cast(Encoding, replace(straight, coarse=joined))


@dataclass(frozen=True)
class Views:
    """All looks of an encoder on blocks.

    Attributes:
        own: of the model itself.
        wide: of a network for twice the spacing, with the same classes; None for none.
    """

    own: View
    wide: View | None = None

    def look_wide(self, image: Image) -> Look | None:
        """Look at the image on half its grid."""
        if self.wide is None:
            return None
        half = block_means(image)
        missing = [-n % self.wide.encoder.multiple for n in half.shape[2:]]
        padded = F.pad(half, [n for after in reversed(missing) for n in (0, after)])
        look = self.wide.look(padded)
        inside = (slice(None), slice(None), *(slice(0, n // 2) for n in half.shape[2:]))
        return Look((channels_last(look.pyramid[0][inside]),), channels_last(look.beside[inside]))

    def encode(self, image: Image) -> Encoding:
        """Return the encoding of a 3-D image, decided by all looks."""
        return self.encoding(self.own.look(image), self.look_wide(image))

    @torch.no_grad()
    def encoding(self, own: Look, wide: Look | None) -> Encoding:
        """Return the encoding that looks at the same box stand for, decided by all of them."""
        head, more = self.own.head.to(own.beside.device), None
        if self.wide is not None and wide is not None:
            whole = self.wide.head.to(own.beside.device)(wide.pyramid[0], wide.beside)
            more = partial(_finer, whole.movedim(1, -1))
        said = head.probabilities(own.pyramid[0], own.beside, more)
        plain = self.own.encoder.completed(self.own.stem(own), own.pyramid, logits=said)
        return replace(plain, decided=True)


def _finer(logits: Tensor, said: Tensor, start: int) -> Tensor:
    """Return the mean of a slab's logits and those on half its grid, linear between the voxels.

    Args:
        logits: on half the grid (``b *grid k``).
        said: of the slab (``b *grid k``), whose first place on the first axis is ``start``.
    """
    last = logits.shape[1] - 1
    planes = []
    for place in range(start, start + said.shape[1]):
        here, there = place // 2, place // 2 + (1 if place % 2 else -1)
        pair = (logits[:, here], logits[:, min(max(there, 0), last)])
        planes.append(torch.lerp(*pair, FAR).movedim(-1, 1))
    flat = torch.cat(planes)
    finer = F.interpolate(flat, scale_factor=2, mode="bilinear").movedim(1, -1)
    shaped = torch.unflatten(finer, 0, (len(planes), -1)).transpose(0, 1)
    return said.add_(shaped).mul_(0.5)


def _for_both(head: BlockHead, exchange: Sequence[int]) -> BlockHead:
    """Return a head of a look and the mirrored one, that gives the mean of their logits.

    A linear map: mirroring changes the order of voxels in a block, and left and right classes.
    """
    weight = torch.unflatten(head.logits.weight.detach(), 0, (2, head.block // 2, -1))
    bias = torch.unflatten(head.logits.bias.detach(), 0, (2, head.block // 2, -1))
    order = torch.tensor(exchange)
    n = head.logits.in_features
    both = BlockHead(3, n, n, head.classes).to(weight.device)
    weights = torch.cat([weight, weight.flip(0)[:, :, order]], dim=-1) / 2
    with torch.no_grad():
        both.logits.weight.copy_(weights.flatten(0, 2))
        both.logits.bias.copy_(((bias + bias.flip(0)[:, :, order]) / 2).flatten())
    return both
