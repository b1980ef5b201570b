"""Grids of voxels and the index maps between them: pure geometry, no files.

An index is the position of a voxel centre, so voxel 0 reaches from -0.5 to 0.5. Two grids whose
axes are parallel are joined by an :class:`IndexMap`: a permutation, a scale and an offset for each
axis. Such maps compose, so a chain of reorienting, cropping, resampling and padding is undone in a
single step. Grids that are turned or sheared to each other are joined by a :class:`TurnedMap`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ddmseg.imaging.volume import AnyArray, DoubleArray, Placed, check_affine

Shape3 = tuple[int, int, int]
Triple = tuple[float, float, float]
_AXIS_NAMES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class IndexMap:
    """Where an index of one grid (``from``) lies on a parallel grid (``to``).

    ``to[axes[a]] = scale[a] * from[a] + offset[a]`` for each axis ``a``; a negative scale is a
    flip.

    >>> flip = IndexMap((0, 1, 2), (-1.0, 1.0, 1.0), (9.0, 0.0, 0.0))
    >>> flip.then(flip) == IndexMap.identity()
    True
    """

    axes: Shape3
    scale: Triple
    offset: Triple

    @classmethod
    def identity(cls) -> IndexMap:
        """Return the map of a grid onto itself."""
        return cls.shift((0, 0, 0))

    @classmethod
    def shift(cls, offset: Iterable[float]) -> IndexMap:
        """Return the map that adds an offset to an index."""
        return cls((0, 1, 2), (1.0, 1.0, 1.0), triple(offset))

    @property
    def matrix(self) -> DoubleArray:
        """Homogeneous 4x4 matrix that takes a ``from`` index to a ``to`` index."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1.0
        for axis, target in enumerate(self.axes):
            matrix[target, axis] = self.scale[axis]
            matrix[target, 3] = self.offset[axis]
        return matrix

    def view(self, array: AnyArray) -> AnyArray:
        """Return a view of an array of the grid ``to``, axes permuted and flipped as here."""
        i, j, k = (slice(None, None, -1 if scale < 0 else None) for scale in self.scale)
        return array.transpose(self.axes)[i, j, k]

    def then(self, after: IndexMap) -> IndexMap:
        """Return the map that applies this one first and ``after`` second."""
        axes, scale, offset = [], [], []
        for axis, middle in enumerate(self.axes):
            axes.append(after.axes[middle])
            scale.append(after.scale[middle] * self.scale[axis])
            offset.append(after.scale[middle] * self.offset[axis] + after.offset[middle])
        return IndexMap(three(axes), triple(scale), triple(offset))

    def inverse(self) -> IndexMap:
        """Return the map back, from ``to`` to ``from``."""
        axes, scale, offset = [0] * 3, [0.0] * 3, [0.0] * 3
        for axis, target in enumerate(self.axes):
            axes[target] = axis
            scale[target] = 1.0 / self.scale[axis]
            # 0.0 - x, because -0.0 would print as such
            offset[target] = 0.0 - self.offset[axis] / self.scale[axis]
        return IndexMap(three(axes), triple(scale), triple(offset))


@dataclass(frozen=True, eq=False)
class TurnedMap:
    """Where an index of one grid (``from``) lies on another (``to``) that runs askew to it.

    ``to = matrix @ from``, homogeneous.
    """

    matrix: DoubleArray

    @classmethod
    def between(cls, source: Grid, target: Grid) -> TurnedMap:
        """Return the map from the indices of one grid to those of another."""
        return cls(np.linalg.solve(target.affine, source.affine).astype(np.float64))

    @property
    def axes(self) -> Shape3:
        """The order in which a source is looked at: its own."""
        return (0, 1, 2)


@dataclass(frozen=True, eq=False)
class Grid(Placed):
    """A box of voxels in space: ``shape`` along i j k, ``affine`` index to RAS mm."""

    shape: Shape3
    affine: DoubleArray

    def __post_init__(self) -> None:
        """Check the affine and freeze a copy of it."""
        affine = check_affine(self.affine, "grid").copy()
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", three(self.shape))

    @property
    def oblique_degrees(self) -> float:
        """Largest angle between a voxel axis and the axis of the world nearest to it."""
        axes, _ = _nearest_axes(self.affine)
        cosines = np.abs(_directions(self.affine)[range(3), axes])
        return float(np.degrees(np.arccos(np.minimum(cosines, 1.0))).max())

    @property
    def shear_degrees(self) -> float:
        """Largest difference from 90 degrees between two voxel axes."""
        d = _directions(self.affine)
        sines = np.abs([d[:, 0] @ d[:, 1], d[:, 0] @ d[:, 2], d[:, 1] @ d[:, 2]])
        return float(np.degrees(np.arcsin(np.minimum(sines, 1.0))).max())

    @property
    def orientation(self) -> str:
        """Letters of the directions in which i, j and k grow, such as ``"RAS"``."""
        axes, signs = _nearest_axes(self.affine)
        letters = {axis: _AXIS_NAMES[w][signs[w] > 0] for w, axis in enumerate(axes)}
        return "".join(letters[axis] for axis in range(3))

    def world(self, index: DoubleArray) -> DoubleArray:
        """Return the RAS position in mm of indices with the axes last."""
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    def seen_through(self, index_map: IndexMap, shape: Shape3) -> Grid:
        """Return the grid of ``shape`` whose indices ``index_map`` takes to this one."""
        return Grid(shape, self.affine @ index_map.matrix)

    def same_as(self, other: Grid, *, tolerance_mm: float = 1e-3) -> bool:
        """Say whether both grids have the same shape and place, to ``tolerance_mm``."""
        if self.shape != other.shape:
            return False
        corners = np.array(list(itertools.product(*[(0, n - 1) for n in self.shape])), float)
        gap = np.abs(self.world(corners) - other.world(corners)).max()
        return bool(gap <= tolerance_mm)


def covering(
    shape: Shape3, spacing_mm: Triple, other_mm: float, *, sliver: float
) -> tuple[IndexMap, Shape3]:
    """Return the map to a grid from one of cubes about the same centre that covers it.

    Cubes of ``other_mm``; the last one is left out where less than ``sliver`` of it is needed.
    """
    ratios = [other_mm / spacing for spacing in spacing_mm]
    counts = [max(1, math.ceil(n / r - sliver)) for n, r in zip(shape, ratios, strict=True)]
    rows = zip(shape, ratios, counts, strict=True)
    offsets = [(n - 1) / 2 - r * (m - 1) / 2 for n, r, m in rows]
    return IndexMap((0, 1, 2), triple(ratios), triple(offsets)), three(counts)


def to_closest_ras(grid: Grid) -> tuple[IndexMap, Shape3]:
    """Return the map from the closest RAS axis order to ``grid``, and its shape.

    Only permutes and flips, so an oblique scan keeps its own oblique axes.
    """
    axes, signs = _nearest_axes(grid.affine)
    shape = three([grid.shape[axis] for axis in axes])
    offset = [0.0 if sign > 0 else n - 1.0 for sign, n in zip(signs, shape, strict=True)]
    return IndexMap(axes, triple(signs), triple(offset)), shape


def _nearest_axes(affine: DoubleArray) -> tuple[Shape3, Triple]:
    """Voxel axis nearest to R, A and S, and the sign with which it runs there.

    The permutation with the largest sum of cosines is best overall, where picking axis by axis
    depends on which goes first.
    """
    cosines = _directions(affine)
    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: round(sum(abs(cosines[w, a]) for w, a in enumerate(axes)), 9),
    )
    signs = [1.0 if cosines[world, axis] >= 0 else -1.0 for world, axis in enumerate(order)]
    return three(order), triple(signs)


def _directions(affine: DoubleArray) -> DoubleArray:
    """Unit vectors of the voxel axes, one a column."""
    return np.asarray(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))


def three(values: Iterable[float]) -> Shape3:
    """Return three whole numbers as a tuple."""
    i, j, k = (int(v) for v in values)
    return (i, j, k)


def triple(values: Iterable[float]) -> Triple:
    """Return three real numbers as a tuple."""
    i, j, k = (float(v) for v in values)
    return (i, j, k)
