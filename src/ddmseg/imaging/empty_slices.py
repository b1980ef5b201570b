"""Slices without a signal in the middle of a scan, filled from their neighbours.

They come of transfers and of scanners that gave up a slice. A network takes a dark slice
for the end of the brain: 5% of them took the mean Dice of the anatomy model from 0.76 to
0.22 (docs/decisions.md), where what lies between two neighbours is known well enough.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.grid import Triple
from ddmseg.imaging.transforms import FillSlices

WIDEST_MM = 6.0
"""Widest gap that is filled; anatomy changes too much over a wider one."""
SIGNAL_SHARE = 0.05
"""Of a plane's voxels that differ from the empty ones: less on either side, and the gap lies
among the last wisps of the head, where there is nothing to fill."""
SAMPLED_EVERY = 8
"""Voxels in a plane between those that are looked at first."""


def fill_empty_slices(
    data: NDArray[np.float32], spacing_mm: Triple
) -> tuple[NDArray[np.float32], list[FillSlices]]:
    """Interpolate slices of one value that lie between slices with a signal.

    Args:
        data: the scan, ``i j k``; it is left as it is.
        spacing_mm: of its axes.

    Returns:
        The scan, itself when nothing was to do, and a step for each axis with a gap.
    """
    steps = []
    for axis in range(3):
        planes = np.moveaxis(data, axis, 0)
        gaps = [gap for gap in _gaps(_empty(planes)) if _is_within(planes, gap)]
        if not gaps:
            continue
        narrow = [gap for gap in gaps if len(gap) * spacing_mm[axis] <= WIDEST_MM]
        if narrow:
            data = data.copy()
            for gap in narrow:
                _fill(np.moveaxis(data, axis, 0), gap)
        filled = tuple(index for gap in narrow for index in gap)
        left = tuple(index for gap in gaps if gap not in narrow for index in gap)
        steps.append(FillSlices(axis, filled, left))
    return data, steps


def _empty(planes: NDArray[np.float32]) -> list[bool]:
    """Say of each slice whether it is of one value."""
    few = planes[:, ::SAMPLED_EVERY, ::SAMPLED_EVERY].reshape(len(planes), -1)
    maybe = few.min(axis=1) == few.max(axis=1)
    return [bool(m) and bool(p.min() == p.max()) for m, p in zip(maybe, planes, strict=True)]


def _gaps(empty: Sequence[bool]) -> Iterator[range]:
    """Yield the runs of empty slices that have a signal on both sides."""
    signal = [index for index, is_empty in enumerate(empty) if not is_empty]
    for before, after in itertools.pairwise(signal):
        if after > before + 1:
            yield range(before + 1, after)


def _is_within(planes: NDArray[np.float32], gap: range) -> bool:
    """Say whether the slices on both sides hold more than wisps."""
    empty = planes[gap.start].flat[0]
    return all(
        float((planes[index] != empty).mean()) >= SIGNAL_SHARE
        for index in (gap.start - 1, gap.stop)
    )


def _fill(planes: NDArray[np.float32], gap: range) -> None:
    """Write what lies on straight lines between the slices on both sides."""
    before, after = planes[gap.start - 1], planes[gap.stop]
    for place, index in enumerate(gap, start=1):
        share = np.float32(place / (len(gap) + 1))
        planes[index] = (1 - share) * before + share * after
