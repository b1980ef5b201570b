"""Resampling between grids that run askew to each other, a tile at a time.

Values between voxels are interpolated linearly. Where an output voxel is larger than those it comes
from it is the mean of several points in it, so that nothing aliases.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ddmseg.imaging.grid import Shape3, TurnedMap
from ddmseg.imaging.volume import AnyArray, DoubleArray, MaskArray

Box = tuple[slice, slice, slice]
EDGE = 0.5 + 1e-6  # how far past the outermost voxel centre a grid still reaches, in voxels


@dataclass(frozen=True, eq=False)
class TurnedTile:
    """A box of outputs, and where in the input their points lie.

    ``inside`` says which outputs lie in the input (``i j k``); True for all. ``points``, of all
    outputs, are in the source, counted from -1 to 1, last axis first.
    """

    outputs: Box
    source: Box
    inside: bool | MaskArray
    points: Tensor
    each: Shape3

    def apply(self, values: Tensor) -> Tensor:
        """Return values of the source (``i j k`` or ``c i j k``) at the outputs."""
        channels = values.reshape(-1, *values.shape[-3:])
        found = F.grid_sample(
            channels[None], self.points[None], padding_mode="border", align_corners=True
        )
        if max(self.each) > 1:
            a, b, c = self.each
            i, j, k = (side.stop - side.start for side in self.outputs)
            found = found.reshape(-1, i, a, j, b, k, c).mean(dim=(2, 4, 6))
        means: Tensor = found.reshape(*values.shape[:-3], *found.shape[-3:])
        return means


def turned_tiles(n_in: Shape3, turned: TurnedMap, shape: Shape3, edge: int) -> Iterator[TurnedTile]:
    """Cut the outputs into tiles of ``edge`` voxels and yield those that the input reaches into.

    ``turned`` goes from an index of the outputs to one of the input, which has ``n_in`` voxels.
    """
    reach = np.linalg.norm(turned.matrix[:3, :3], axis=0)
    a, b, c = (max(1, round(float(step))) for step in reach)
    starts = [range(0, n, edge) for n in shape]
    for start in itertools.product(*starts):
        i, j, k = (slice(s, min(s + edge, n)) for s, n in zip(start, shape, strict=True))
        tile = _tile(n_in, turned, (i, j, k), (a, b, c))
        if tile is not None:
            yield tile


def _tile(n_in: Shape3, turned: TurnedMap, box: Box, each: Shape3) -> TurnedTile | None:
    last = np.array(n_in, float) - 1
    centres = _along(turned, box, (1, 1, 1))
    low, high = _span(centres)
    if (high < -EDGE).any() or (low > last + EDGE).any():
        return None
    inside: Any = True
    if (low < -EDGE).any() or (high > last + EDGE).any():
        places = _sum(centres)
        inside = ((places >= -EDGE) & (places <= last + EDGE)).all(axis=-1)
    points = _along(turned, box, each)
    low, high = (np.clip(end, 0, last) for end in _span(points))
    low, high = np.floor(low), np.ceil(high)
    # a source one voxel thick has no place between -1 and 1: any will do
    scale = 2 / np.maximum(high - low, 1)
    i, j, k = (part * scale for part in points)
    scaled = _sum([part[:, ::-1].astype(np.float32) for part in (i, j, k - low * scale - 1)])
    x, y, z = (slice(int(s), int(e) + 1) for s, e in zip(low, high, strict=True))
    return TurnedTile(box, (x, y, z), inside, torch.from_numpy(scaled), each)


def _along(turned: TurnedMap, box: Box, each: Shape3) -> list[DoubleArray]:
    """Return what each axis adds to the positions in the input of evenly spread points."""
    parts = []
    for axis, (side, n) in enumerate(zip(box, each, strict=True)):
        within = (np.arange(n) + 0.5) / n - 0.5
        places = (np.arange(side.start, side.stop)[:, None] + within).ravel()
        parts.append(np.multiply.outer(places, turned.matrix[:3, axis]))
    parts[2] += turned.matrix[:3, 3]
    return parts


def _span(parts: list[DoubleArray]) -> tuple[DoubleArray, DoubleArray]:
    """Return the smallest and the largest position: an affine map has them at corners."""
    low = np.sum([part.min(axis=0) for part in parts], axis=0)
    high = np.sum([part.max(axis=0) for part in parts], axis=0)
    return low, high


def _sum(parts: Sequence[AnyArray]) -> AnyArray:
    """Return all positions (``i j k 3``)."""
    i, j, k = parts
    return np.asarray(i[:, None, None] + j[:, None] + k)
