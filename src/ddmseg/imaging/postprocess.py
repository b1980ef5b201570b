"""Conservative cleaning of a label map: small islands and holes, every change counted.

A piece that is small both beside its structure and in itself goes to the label around it; so does
unlabelled space that is closed in on all sides. Whatever is larger stays, for it may be anatomy or
a lesion, and is counted for the reader instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ddmseg.imaging.labels import labelled_box
from ddmseg.imaging.volume import IdArray, MaskArray

ISLAND_SHARE = 0.05
"""A piece is an island when it is smaller than this share of the structure's largest ..."""
ISLAND_ML = 0.5  # ... and smaller than this
HOLE_ML = 0.5  # closed-in background up to this size is filled
SCATTERED = frozenset({5, 24, 44, 77})
"""FreeSurfer ids that lie in pieces by nature: CSF between folds, thin temporal horns, lesions."""
_FULL = np.ones((3, 3, 3), np.uint8)
"""Voxels that share a face, an edge or a corner touch: fewer pieces, so fewer changes."""
Box = tuple[slice, ...]


@dataclass(frozen=True)
class Cleaning:
    """What cleaning did and what it left to be told.

    ``islands`` are voxels taken from each FreeSurfer id because they lay apart, ``holes``
    background voxels filled, by the id that they got; ``open_holes_ml`` is the volume of each hole
    too large for that, largest first. Not ``applied``: the labels were only looked at.
    """

    islands: dict[int, int] = field(default_factory=dict)
    holes: dict[int, int] = field(default_factory=dict)
    pieces: dict[int, int] = field(default_factory=dict)
    open_holes_ml: tuple[float, ...] = ()
    applied: bool = True

    @property
    def changed(self) -> int:
        """Voxels changed in all."""
        return sum(self.islands.values()) + sum(self.holes.values())

    def not_applied(self) -> Cleaning:
        """Return what there is to tell of the labels as they came."""
        return replace(self, islands={}, holes={}, applied=False)


def clean_labels(labels: IdArray, *, voxel_ml: float) -> tuple[IdArray, Cleaning]:
    """Return a cleaned copy of a label map (ids from 0, ``i j k``) and what was done to it."""
    from scipy.ndimage import find_objects

    islands: dict[int, int] = {}
    pieces: dict[int, int] = {}
    cleaned = labels.copy()
    # Boxes of the map as it came: cleaning one structure only adds to its neighbours.
    for index, box in enumerate(find_objects(labels), start=1):
        if box is None or index in SCATTERED:
            continue
        moved, left = _move_islands(cleaned, labels, index, box, voxel_ml)
        if moved:
            islands[index] = moved
        if left > 1:
            pieces[index] = left
    filled, open_ml = _fill_holes(cleaned, voxel_ml)
    return cleaned, Cleaning(islands, filled, pieces, open_ml)


def _move_islands(
    cleaned: IdArray, labels: IdArray, index: int, box: Box, voxel_ml: float
) -> tuple[int, int]:
    """Give a structure's islands to what surrounds them; return voxels moved, pieces left."""
    from scipy.ndimage import find_objects, label

    around = _grown(box, labels.shape)
    # Of the map as it came, so that the order of the structures does not matter.
    came, inner = labels[around], cleaned[around]
    found, count = label(came == index, _FULL)
    if count == 1:
        return 0, 1
    sizes = np.bincount(found.ravel())[1:]
    largest = int(sizes.max())
    small = (sizes < ISLAND_SHARE * largest) & (sizes * voxel_ml < ISLAND_ML)
    boxes = find_objects(found)
    for number in np.flatnonzero(small):
        near = _grown(boxes[number], came.shape)
        island = found[near] == number + 1
        inner[near][island] = _surrounding(came[near], island)
    return int(sizes[small].sum()), int(count - small.sum())


def _fill_holes(cleaned: IdArray, voxel_ml: float) -> tuple[dict[int, int], tuple[float, ...]]:
    """Fill closed-in background in place; return voxels by the id they got, and what stays."""
    from scipy.ndimage import find_objects, label

    # What lies around the labels is outside; a view, so that filling reaches the map.
    inner = cleaned[labelled_box(cleaned)]
    holes, _ = label(_closed_in(inner), _FULL)
    sizes = np.bincount(holes.ravel())[1:]
    filled: dict[int, int] = {}
    open_ml: list[float] = []
    for number, box in enumerate(find_objects(holes), start=1):
        if sizes[number - 1] * voxel_ml > HOLE_ML:
            open_ml.append(round(float(sizes[number - 1] * voxel_ml), 3))
            continue
        around = _grown(box, inner.shape)
        hole = holes[around] == number
        index = _surrounding(inner[around], hole)
        inner[around][hole] = index
        filled[index] = filled.get(index, 0) + int(sizes[number - 1])
    return filled, tuple(sorted(open_ml, reverse=True))


def _closed_in(labels: IdArray) -> MaskArray:
    """Say of each voxel whether it is background from which no path leads outside."""
    from scipy.ndimage import label

    spaces, count = label(labels == 0)
    closed = np.ones(count + 1, bool)
    closed[0] = False  # the labels themselves
    for axis in range(labels.ndim):
        for end in (0, -1):
            closed[np.moveaxis(spaces, axis, 0)[end]] = False
    inside: MaskArray = closed[spaces]
    return inside


def _surrounding(labels: IdArray, piece: MaskArray) -> int:
    """Return the commonest label that shares a face with a piece."""
    from scipy.ndimage import binary_dilation

    rim = binary_dilation(piece) & ~piece
    return int(np.bincount(labels[rim]).argmax())


def _grown(box: Box, shape: Sequence[int]) -> Box:
    """Return a box one voxel larger on every side, within the map."""
    return tuple(
        slice(max(0, b.start - 1), min(n, b.stop + 1)) for b, n in zip(box, shape, strict=True)
    )
