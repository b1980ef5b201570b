"""Encode a large image tile by tile, as it was seen in training, and blend the features.

Group normalisation measures what is in view. An encoder trained on patches meets other
statistics on a whole head; tiles of about the training size give it the view it knows, and
bound the memory that encoding needs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.blocks import channels_last
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.types import Image

TOLERATED = 1.25
"""A grid this much larger than the training patch is still encoded whole."""
GROWTH = 1.2
"""A tile's edge may be this much longer than the patch's, where fewer tiles do then."""
OVERLAP = 0.25
"""Least share that neighbouring tiles have in common."""
FAINTEST = 0.01
"""Weight of a tile's corner against its middle, at least."""


def encode_tiled(
    model: DiscrepancyDiffusionSegmenter,
    image: Image,
    patch: Sequence[int],
    *,
    at_once: int = 1,
) -> Encoding:
    """Return the encoding of one image, blended from overlapping tiles.

    An encoder on blocks does not depend on what is in view, and sees the image at once.

    Args:
        image: one item whose grid is a multiple of ``model.multiple``.
        patch: voxels of the training patches.
    """
    grid = tuple(image.shape[2:])
    if isinstance(model.image_encoder, BlockEncoder) or fits_whole(grid, patch):
        return model.encode(image)
    size = tile_size(grid, patch, multiple=model.multiple)
    weight = bell(size, image)
    sums: list[Tensor] = []
    totals: dict[int, Tensor] = {}
    boxes = list(tiles(grid, size, model.multiple))
    for group in (boxes[i : i + at_once] for i in range(0, len(boxes), at_once)):
        views = torch.cat([image[(slice(None), slice(None), *tile)] for tile in group])
        parts = _parts(model.encode(views))
        if not sums:
            sums = [_empty(part, grid, factor) for part, factor in parts]
            totals = {factor: image.new_zeros([n // factor for n in grid]) for _, factor in parts}
        shares = {factor: _pooled(weight, factor) for factor in totals}
        for number, tile in enumerate(group):
            for total, (part, factor) in zip(sums, parts, strict=True):
                place = (slice(None), slice(None), *_shrunk(tile, factor))
                total[place] += part[number : number + 1] * shares[factor]
            for factor, share in shares.items():
                totals[factor][_shrunk(tile, factor)] += share
    factors = [factor for _, factor in parts]
    blended = [total.div_(totals[f]) for total, f in zip(sums, factors, strict=True)]
    return Encoding(blended[0], tuple(blended[3:]), blended[1], blended[2])


def fits_whole(grid: Sequence[int], patch: Sequence[int]) -> bool:
    """Say whether a grid is encoded in one piece."""
    return all(n <= TOLERATED * p for n, p in zip(grid, patch, strict=True))


def tile_shapes(
    grid: Sequence[int], patch: Sequence[int], *, multiple: int
) -> list[tuple[int, ...]]:
    """Return the shape of each piece that :func:`encode_tiled` would encode."""
    if fits_whole(grid, patch):
        return [tuple(grid)]
    size = tile_size(grid, patch, multiple=multiple)
    return [size for _ in tiles(tuple(grid), size, multiple)]


def tile_size(grid: Sequence[int], patch: Sequence[int], *, multiple: int) -> tuple[int, ...]:
    """Return the edges of tiles that cover a grid with the fewest voxels.

    They are those of the training patch, or longer by up to ``GROWTH``: a grid that just misses
    two tiles would else cost three.
    """

    edges = [_best_side(n, p, multiple) for n, p in zip(grid, patch, strict=True)]
    return tuple(edges)


def _best_side(n: int, p: int, multiple: int) -> int:
    sides = [min(n, side) for side in range(p, int(GROWTH * p) + 1, multiple)]
    return min(sides, key=lambda side: side * _count(n, side))


def _parts(encoding: Encoding) -> list[tuple[Tensor, int]]:
    """Everything that is blended, with the factor its grid is coarser by."""
    levels = [(x, 2 ** (level + 1)) for level, x in enumerate(encoding.pyramid)]
    return [(encoding.stem, 1), (encoding.embedding, 2), (encoding.coarse, 1), *levels]


def _empty(part: Tensor, grid: tuple[int, ...], factor: int) -> Tensor:
    shape = (1, *[n // factor for n in grid], part.shape[1])  # as it lies in memory: no copy
    return channels_last(part.new_zeros(shape).movedim(-1, 1))


def bell(size: tuple[int, ...], like: Tensor) -> Tensor:
    """Weights of a tile: a Gaussian whose width is an eighth of the tile."""
    weight = torch.ones((), dtype=like.dtype, device=like.device)
    for n in size:
        x = (torch.arange(n, dtype=like.dtype, device=like.device) - (n - 1) / 2) / (n / 8)
        weight = weight[..., None] * torch.exp(-0.5 * x**2)
    return weight.clamp_min(FAINTEST)


def _pooled(weight: Tensor, factor: int) -> Tensor:
    pool = F.avg_pool3d if weight.dim() == 3 else F.avg_pool2d
    return weight if factor == 1 else pool(weight[None, None], factor)[0, 0]


def tiles(
    grid: tuple[int, ...], size: tuple[int, ...], multiple: int
) -> Iterator[tuple[slice, ...]]:
    """Evenly spread tiles that cover the grid and start on multiples."""
    starts = []
    for n, side in zip(grid, size, strict=True):
        count = _count(n, side)
        ideal = torch.linspace(0, n - side, count).tolist() if count > 1 else [0.0]
        starts.append(sorted({int(x / multiple) * multiple for x in ideal}))
    for corner in itertools.product(*starts):
        yield tuple(slice(a, a + side) for a, side in zip(corner, size, strict=True))


def _count(n: int, side: int) -> int:
    """Tiles along an axis of n voxels."""
    return math.ceil((n - side) / (side * (1 - OVERLAP))) + 1


def _shrunk(tile: tuple[slice, ...], factor: int) -> tuple[slice, ...]:
    return tuple(slice(side.start // factor, side.stop // factor) for side in tile)
