"""Resampling between grids that run askew to each other, a tile at a time.

Values between voxels are interpolated linearly. Where an output voxel is larger than those
it comes from it is the mean of several points in it, so that nothing aliases.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.imaging.grid import Shape3, TurnedMap

Box = tuple[slice, slice, slice]

EDGE = 0.5 + 1e-6
"""How far past the outermost voxel centre a grid still reaches, in voxels."""


@dataclass(frozen=True, eq=False)
class TurnedTile:
    """A box of outputs, and where in the input their points lie.

    Attributes:
        outputs: the box.
        source: box of the input that the points need.
        inside: which outputs lie in the input (``i j k``).
        points: in the source, of all outputs, counted from -1 to 1, last axis first.
        each: points of an output along each axis.
    """

    outputs: Box
    source: Box
    inside: NDArray[np.bool_]
    points: Tensor
    each: Shape3

    def apply(self, values: Tensor) -> Tensor:
        """Return values of the source (``i j k`` or ``c i j k``) at the outputs."""
        channels = values.reshape(-1, *values.shape[-3:])
        found = F.grid_sample(
            channels[None], self.points[None], padding_mode="border", align_corners=True
        )
        i, j, k = self.inside.shape
        a, b, c = self.each
        means: Tensor = found.reshape(-1, i, a, j, b, k, c).mean(dim=(2, 4, 6))
        return means.reshape(*values.shape[:-3], i, j, k)


def turned_tiles(n_in: Shape3, turned: TurnedMap, shape: Shape3, edge: int) -> Iterator[TurnedTile]:
    """Cut the outputs into tiles and yield those that the input reaches into.

    Args:
        n_in: voxels of the input.
        turned: from an index of the outputs to one of the input.
        shape: of the outputs.
        edge: of a tile, in voxels.
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
    centres = _positions(turned, [np.arange(side.start, side.stop, dtype=float) for side in box])
    last = np.array(n_in) - 1
    inside = ((centres >= -EDGE) & (centres <= last + EDGE)).all(axis=-1)
    if not inside.any():
        return None
    points = centres
    if max(each) > 1:
        points = _positions(turned, [_within(s, n) for s, n in zip(box, each, strict=True)])
    points = np.clip(points, 0, last)
    low = np.floor(points.min(axis=(0, 1, 2))).astype(int)
    high = np.ceil(points.max(axis=(0, 1, 2))).astype(int)
    # a source one voxel thick has no place between -1 and 1: any will do
    scaled = 2 * (points - low) / np.maximum(high - low, 1) - 1
    i, j, k = (slice(int(s), int(e) + 1) for s, e in zip(low, high, strict=True))
    order = np.ascontiguousarray(scaled[..., ::-1], dtype=np.float32)
    return TurnedTile(box, (i, j, k), inside, torch.from_numpy(order), each)


def _within(side: slice, each: int) -> NDArray[np.float64]:
    """Positions of evenly spread points in each voxel of a side."""
    shifts = (np.arange(each) + 0.5) / each - 0.5
    return np.asarray((np.arange(side.start, side.stop)[:, None] + shifts).ravel())


def _positions(turned: TurnedMap, along: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Where the outputs at these positions along their axes lie in the input (``i j k 3``)."""
    matrix = turned.matrix
    i, j, k = (np.multiply.outer(places, matrix[:3, axis]) for axis, places in enumerate(along))
    return np.asarray(i[:, None, None] + j[:, None] + k + matrix[:3, 3])
