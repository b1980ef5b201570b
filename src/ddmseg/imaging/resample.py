"""Resampling between grids with exact voxel-centre alignment; separable where they are parallel.

Each output voxel is a box as wide as the wider of the two spacings; its value is the mean of the
input voxels weighted by how much of the box they fill. When the output is coarser this is area
averaging, which does not alias; when it is finer the box is one input voxel wide, which *is* linear
interpolation. The two meet without a jump at equal spacing. Grids that run askew to each other:
``turned``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.imaging.grid import IndexMap, Shape3, TurnedMap
from ddmseg.imaging.turned import EDGE, Box, TurnedTile, turned_tiles
from ddmseg.imaging.volume import AnyArray, FloatArray

AnyMap = IndexMap | TurnedMap
TILE = 32  # edge in voxels of the tiles that labels are resampled in: small enough for the cache
TIE = 1e-6  # shares closer than this are a tie, so that rounding decides nothing


@dataclass(frozen=True)
class AxisWeights:
    """Weights along one axis: outputs from ``start``, inputs from ``source_start``.

    Outputs that no row is about lie outside the input grid.
    """

    matrix: torch.Tensor
    start: int = 0
    source_start: int = 0

    def rows(self, rows: slice) -> AxisWeights:
        """Return the weights of some of the rows, for just the inputs they need."""
        matrix = self.matrix[rows]
        columns = _span(matrix.any(dim=0))
        start, source_start = self.start + rows.start, self.source_start + columns.start
        return AxisWeights(matrix[:, columns].contiguous(), start, source_start)


class ParallelTile:
    """A box of outputs, all of them inside the input, the box they need, and weights per axis."""

    inside = True

    def __init__(self, weights: Sequence[AxisWeights]) -> None:
        self.weights = weights
        i, j, k = (slice(w.start, w.start + w.matrix.shape[0]) for w in weights)
        x, y, z = (slice(w.source_start, w.source_start + w.matrix.shape[1]) for w in weights)
        self.outputs: Box = (i, j, k)
        self.source: Box = (x, y, z)

    def apply(self, values: torch.Tensor) -> torch.Tensor:
        """Contract the last three axes one after the other, those that shrink most first."""
        shapes = [w.matrix.shape for w in self.weights]
        for axis in sorted(range(3), key=lambda a: shapes[a][0] / shapes[a][1]):
            values = _contract(values, self.weights[axis].matrix, axis)
        return values


Tile = ParallelTile | TurnedTile


def axis_weights(n_in: int, n_out: int, *, scale: float, offset: float) -> AxisWeights:
    """Return the weights when output ``m`` is centred on input ``scale * m + offset``.

    Boxes that reach past the edge are cut and renormalised, so the edge voxel is held for half a
    voxel and nothing is made up beyond.

    >>> axis_weights(4, 2, scale=2.0, offset=0.5).matrix.tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    centres = scale * np.arange(n_out) + offset
    inside = _span(torch.from_numpy((centres >= -EDGE) & (centres <= n_in - 1 + EDGE)))
    centres, half = centres[inside, None], max(abs(scale), 1.0) / 2
    voxels = np.arange(n_in)[None]
    overlap = np.minimum(centres + half, voxels + 0.5) - np.maximum(centres - half, voxels - 0.5)
    # less than 1e-6 of a voxel is rounding, and would only widen the support
    weights = np.where(overlap > 1e-6, overlap, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return AxisWeights(torch.from_numpy(weights.astype(np.float32)), inside.start)


def resample(data: AnyArray, index_map: AnyMap, shape: Shape3, *, fill: float = 0.0) -> FloatArray:
    """Return ``data`` on the grid whose indices ``index_map`` takes to its own."""
    # torch knows no negative strides, which flipped views have
    source = torch.from_numpy(np.ascontiguousarray(data.transpose(index_map.axes), np.float32))
    out = np.full(shape, fill, dtype=np.float32)
    for tile in _tiles(source.shape, index_map, shape, whole=True):
        np.copyto(out[tile.outputs], tile.apply(source[tile.source]).numpy(), where=tile.inside)
    return out


def resample_labels(labels: AnyArray, index_map: AnyMap, shape: Shape3) -> AnyArray:
    """Return integer labels on the grid of ``shape``: the label that fills most of each voxel.

    The lowest id wins a tie; outside is 0. At equal spacing this is the nearest label.
    """
    source = labels.transpose(index_map.axes)
    out = np.zeros(shape, dtype=labels.dtype)
    for tile in _tiles(source.shape, index_map, shape):
        part = source[tile.source]
        ids = np.unique(part)
        shares = torch.from_numpy((part == ids[:, None, None, None]).astype(np.float32))
        np.copyto(out[tile.outputs], ids[_winner(shares, tile)], where=tile.inside)
    return out


def resample_winner(
    probabilities: torch.Tensor, index_map: AnyMap, shape: Shape3
) -> NDArray[np.int16]:
    """Return the class with the largest resampled probability, 0 outside the input.

    ``probabilities`` have axes k i j k, none below 0; class 0 is the background. A tile at a time,
    and in each only the classes that can win (:func:`_contenders`), so few are resampled.
    """
    classes = _in_output_order(probabilities, index_map)
    out = np.zeros(shape, dtype=np.int16)
    for tile in _tiles(classes.shape[1:], index_map, shape):
        part = classes[(slice(None), *tile.source)]
        codes = _contenders(part.flatten(1))
        if codes.tolist() != [0]:
            winner = codes.numpy()[_winner(part[codes], tile)]
            np.copyto(out[tile.outputs], winner, where=tile.inside, casting="same_kind")
    return out


def resample_classes(probabilities: torch.Tensor, index_map: AnyMap, shape: Shape3) -> FloatArray:
    """Return all probabilities on the new grid, classes last; outside, class 0 is 1."""
    classes = _in_output_order(probabilities, index_map)
    out = np.zeros((*shape, len(classes)), dtype=np.float32)
    out[..., 0] = 1.0
    for tile in _tiles(classes.shape[1:], index_map, shape, whole=True):
        for code, values in enumerate(classes):
            found = tile.apply(values[tile.source]).numpy()
            np.copyto(out[(*tile.outputs, code)], found, where=tile.inside)
    return out


def _in_output_order(probabilities: torch.Tensor, index_map: AnyMap) -> torch.Tensor:
    values = probabilities.detach().to("cpu", torch.float32)
    return values.permute(0, *(axis + 1 for axis in index_map.axes))


def _contenders(tile: torch.Tensor) -> torch.Tensor:
    """Classes that can be the largest somewhere between the voxels of a tile (k voxels).

    A resampled value is a weighted mean, so it lies between the smallest and the largest of its
    class in the tile. A class cannot win whose largest value is below another class's smallest, or
    below the mean over all classes.
    """
    bar = torch.maximum(tile.amin(dim=1).max(), tile.sum(dim=0).min() / len(tile))
    return torch.nonzero(tile.amax(dim=1) >= bar * (1 - 1e-5)).flatten()


def _winner(shares: torch.Tensor, tile: Tile) -> NDArray[np.intp]:
    """Index of the largest resampled share in each voxel of a tile; ties go to the first."""
    if len(shares) == 1:
        return np.zeros((), dtype=np.intp)  # the same everywhere
    best, *others = tile.apply(shares).numpy()
    winner = np.zeros(best.shape, dtype=np.intp)
    # one pass a class is five times as fast as argmax over the first axis
    for index, share in enumerate(others, start=1):
        np.copyto(winner, index, where=share > best + TIE)
        np.maximum(best, share, out=best)
    return winner


def _tiles(n_in: Any, index_map: AnyMap, shape: Shape3, *, whole: bool = False) -> Iterator[Tile]:
    """Cut the outputs into tiles with the inputs they need; one, if it may, for parallel grids."""
    if not isinstance(index_map, IndexMap):
        yield from turned_tiles(n_in, index_map, shape, TILE)
        return
    rows = zip(n_in, shape, index_map.scale, index_map.offset, strict=True)
    weights = [axis_weights(n, m, scale=scale, offset=offset) for n, m, scale, offset in rows]
    if whole:
        yield ParallelTile(weights)
        return
    parts = [[w.rows(slice(r, r + TILE)) for r in range(0, len(w.matrix), TILE)] for w in weights]
    yield from map(ParallelTile, itertools.product(*parts))


def _contract(values: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    """Multiply axis ``axis`` of the last three by the matrix, without moving axes about."""
    if axis == 2:
        return torch.matmul(values, matrix.T)
    if axis == 1:
        return torch.matmul(matrix, values)
    flat = torch.matmul(matrix, values.flatten(-2))
    return flat.reshape(*values.shape[:-3], -1, *values.shape[-2:])


def _span(flags: torch.Tensor) -> slice:
    """Slice from the first true flag to the last; empty when there is none."""
    hits = torch.nonzero(flags).flatten()
    return slice(int(hits[0]), int(hits[-1]) + 1) if len(hits) else slice(0, 0)
