"""The box of the brain: where it lies, and what features hold of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ddmseg.networks.blocks import channels_last
from ddmseg.networks.image_encoder import Encoding

MARGIN_VOXELS = 4
"""Kept around the coarse foreground, so that the denoiser can grow it."""
LEAST_PIECE = 0.05
"""A piece of foreground smaller than this share of the largest does not widen the box."""
QUARTER = 4
"""Voxels that sides and corners of what denoisers see are multiples of: they look at a quarter
of the grid, and at nothing coarser."""
CONTEXT_VOXELS = 4
"""Around the box that is encoded with it where the box is known before."""

Box = tuple[slice, ...]


def main_pieces(inside: Tensor) -> Tensor:
    """Return a mask of blocks without the pieces that are small beside the largest.

    A few voxels painted into the neck would else make the box, and all that follows, larger.
    """
    from scipy.ndimage import label

    pieces, count = label(inside.cpu().numpy())
    if count <= 1:
        return inside
    sizes = torch.bincount(torch.from_numpy(pieces).flatten().long())
    sizes[0] = 0
    kept = sizes >= LEAST_PIECE * sizes.max()
    return kept[torch.from_numpy(pieces).long()].to(inside.device) & inside


def box_around(
    inside: Tensor, multiple: int, grid: tuple[int, ...], margin: int = MARGIN_VOXELS
) -> Box:
    """Return the box of a mask with a margin, on multiples; the whole grid of an empty one.

    Args:
        inside: mask on the image grid or a coarser one.
        margin: voxels of the image grid.
    """
    if not inside.any():
        return tuple(slice(0, n) for n in grid)
    box = []
    for axis, n in enumerate(grid):
        others = [i for i in range(len(grid)) if i != axis]
        places = inside.sum(dim=others).nonzero().flatten()
        stride = n // inside.shape[axis]
        start = max(0, int(places[0]) * stride - margin) // multiple * multiple
        stop = min(n, (int(places[-1]) + 1) * stride + margin)
        box.append(slice(start, min(n, -(-stop // multiple) * multiple)))
    return tuple(box)


def foreground_box(logits: Tensor, multiple: int, *, margin: int = MARGIN_VOXELS) -> Box:
    """Return the box of the coarse foreground with a margin, on multiples.

    The whole grid when there is no foreground.
    """
    return box_around(logits.argmax(1)[0] > 0, multiple, tuple(logits.shape[2:]), margin)


def crop_encoding(encoding: Encoding, box: Box) -> Encoding:
    """Cut all features to a box of the image grid whose sides are multiples.

    Of a level too coarse for the multiple stays what touches the box.
    """

    pyramid = enumerate(encoding.pyramid)
    return replace(
        encoding,
        stem=cut(encoding.stem, box, encoding.stem_stride),
        pyramid=tuple(cut(x, box, 2 ** (level + 1)) for level, x in pyramid),
        embedding=cut(encoding.embedding, box, 2),
        coarse=cut(encoding.coarse, box, 1),
    )


def cut(x: Tensor, box: Box, stride: int) -> Tensor:
    """Return what a box of the image grid holds of a tensor on every ``stride``-th voxel."""
    sides = [slice(side.start // stride, -(-side.stop // stride)) for side in box]
    return channels_last(x[(slice(None), slice(None), *sides)])


def surroundings(box: Box, multiple: int, grid: Sequence[int]) -> Box:
    """Return the box with context around it, on multiples, within a grid of multiples."""
    sides = []
    for side, n in zip(box, grid, strict=True):
        start = max(0, side.start - CONTEXT_VOXELS) // multiple * multiple
        stop = min(n, -(-(side.stop + CONTEXT_VOXELS) // multiple) * multiple)
        sides.append(slice(start, stop))
    return tuple(sides)


def shifted(box: Box, start: Box) -> Box:
    """Return a box as seen from another one that holds it."""
    return tuple(
        slice(side.start - other.start, side.stop - other.start)
        for side, other in zip(box, start, strict=True)
    )
