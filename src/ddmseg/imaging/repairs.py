"""What is put right in a scan before a model sees it: padding, empty slices, a tilted head.

Padding: tools fill what they have no data for with -1000, -32768, 4095 or white. Such values move
the range that intensities are scaled by, and an intact brain then lies in a sliver of it.

Empty slices come of transfers and of scanners that gave up a slice. A network takes a dark slice
for the end of the brain: 5% of them took the mean Dice of the anatomy model from 0.76 to 0.22,
where what lies between two neighbours is known well enough.

A network that saw heads upright draws a tilted one worse: at 45 degrees mean Dice fell from 0.75 to
0.57 (all in docs/decisions.md). Small angles are left, since turning costs an interpolation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from ddmseg.imaging.grid import Grid, Triple, TurnedMap, three
from ddmseg.imaging.intensity import intensity_range, lattice_sample
from ddmseg.imaging.resample import resample
from ddmseg.imaging.transforms import Step
from ddmseg.imaging.volume import FloatArray

LEAST_SHARE = 0.005  # of all voxels: fewer move nothing, since quantiles are used
LEAST_FACES = 0.05  # of the voxels on the image's six faces: padding lies outside
WHITE_FACE = 0.5
"""Of the voxels on one face, from which the largest value is padding without a gap as well."""
GAP = 0.5
"""Distance from all other values, as a share of their range. Around a brain that was cut out zero
lies up to 0.29 below the rest, and somewhere below 0 after z-scoring."""
GAP_BELOW_AIR, AIR_SHARE, AIR_BAND = 0.05, 0.15, 0.1
"""Below air, which fills such a share of the other values within a tenth of their range, there is
nothing: a smaller gap will do."""
CORE = (0.005, 0.995)  # quantiles of the other values that are their range
MOST_VALUES = 4  # values of padding that are looked for, one after the other


def fill_padding(data: FloatArray) -> tuple[FloatArray, list[Step]]:
    """Put air where a constant, extreme value lies outside the head, in a copy; a step for each.

    Zero is the signal of air: it is no padding when it is the smallest value.
    """
    steps: list[Step] = []
    sample = lattice_sample(data).numpy()
    faces = _faces(data)
    while len(steps) < MOST_VALUES and (found := _padding(sample, faces)) is not None:
        value, air = found
        places = data == value
        data = np.where(places, np.float32(air), data)
        sample = np.where(sample == value, np.float32(air), sample)
        faces = [np.where(face == value, np.float32(air), face) for face in faces]
        told = {"value": value, "air": air, "voxels": int(np.count_nonzero(places))}
        steps.append(Step("fill_padding", told))
    return data, steps


def _padding(sample: FloatArray, faces: list[FloatArray]) -> tuple[float, float] | None:
    """Return a value that is padding and what belongs there; None when there is none."""
    on_faces = np.concatenate(faces)
    for value in (float(sample.min()), float(sample.max())):
        rest = sample[sample != value]
        if len(rest) > (1 - LEAST_SHARE) * len(sample) or not len(rest):
            continue
        low, high = (float(q) for q in np.quantile(rest, CORE))
        if high <= low or (on_faces == value).mean() < LEAST_FACES:
            continue
        above = value > high
        if not above and value >= min(low, 0.0):
            continue
        white = above and max(float((face == value).mean()) for face in faces) >= WHITE_FACE
        band = (rest < low + AIR_BAND * (high - low)).mean()
        gap = GAP_BELOW_AIR if not above and band > AIR_SHARE else GAP
        if white or max(low - value, value - high) > gap * (high - low):
            near_zero = 0.0 <= low <= GAP * (high - low)
            return value, 0.0 if near_zero else low
    return None


def _faces(data: FloatArray) -> list[FloatArray]:
    """Every other voxel of each face."""
    return [
        np.moveaxis(data, axis, 0)[end, ::2, ::2].ravel() for axis in range(3) for end in (0, -1)
    ]


WIDEST_MM = 6.0  # widest gap that is filled; anatomy changes too much over a wider one
SIGNAL_SHARE = 0.05
"""Of a plane's voxels that differ from the empty ones: less on either side, and the gap lies among
the last wisps of the head, where there is nothing to fill."""
SAMPLED_EVERY = 8  # voxels in a plane between those that are looked at first


def fill_empty_slices(data: FloatArray, spacing_mm: Triple) -> tuple[FloatArray, list[Step]]:
    """Interpolate, in a copy, slices of one value between slices with a signal; a step an axis."""
    steps = []
    for axis in range(3):
        planes = np.moveaxis(data, axis, 0)
        gaps = [gap for gap in _gaps(_empty(planes)) if _is_within(planes, gap)]
        if not gaps:
            continue
        narrow = [gap for gap in gaps if len(gap) * spacing_mm[axis] <= WIDEST_MM]
        data = data.copy() if narrow else data
        planes = np.moveaxis(data, axis, 0)
        for gap in narrow:
            before, after = planes[gap.start - 1], planes[gap.stop]
            for place, index in enumerate(gap, start=1):
                share = np.float32(place / (len(gap) + 1))
                planes[index] = (1 - share) * before + share * after
        filled = [index for gap in narrow for index in gap]
        left = [index for gap in gaps if gap not in narrow for index in gap]
        steps.append(Step("fill_slices", {"axis": axis, "filled": filled, "left": left}))
    return data, steps


def _empty(planes: FloatArray) -> list[bool]:
    """Say of each slice whether it is of one value."""
    few = planes[:, ::SAMPLED_EVERY, ::SAMPLED_EVERY].reshape(len(planes), -1)
    maybe = few.min(axis=1) == few.max(axis=1)
    return [bool(m) and bool(p.min() == p.max()) for m, p in zip(maybe, planes, strict=True)]


def _gaps(empty: Sequence[bool]) -> Iterator[range]:
    """The runs of empty slices that have a signal on both sides."""
    signal = [index for index, is_empty in enumerate(empty) if not is_empty]
    gaps = (range(before + 1, after) for before, after in itertools.pairwise(signal))
    return filter(None, gaps)


def _is_within(planes: FloatArray, gap: range) -> bool:
    """Say whether the slices on both sides hold more than wisps."""
    empty = planes[gap.start].flat[0]
    return all(
        float((planes[index] != empty).mean()) >= SIGNAL_SHARE
        for index in (gap.start - 1, gap.stop)
    )


OBLIQUE_DEGREES = 12.0  # angle to the axes of the world up to which a scan is left as it lies
SHEAR_DEGREES = 1.0  # distance of voxel axes from right angles up to which they are taken for such
MOST_VOXELS = 1 << 26  # of a turned scan: voxels become larger where there would be more


def upright(
    data: FloatArray, grid: Grid, *, spacing_mm: float
) -> tuple[FloatArray, Grid, list[Step]]:
    """Turn a scan that lies askew, or straighten sheared voxels: a copy, its grid and the step.

    ``spacing_mm`` is that of the model grid, which the voxels need not be much finer than.
    """
    oblique, sheared = grid.oblique_degrees, grid.shear_degrees
    if oblique <= OBLIQUE_DEGREES and sheared <= SHEAR_DEGREES:
        return data, grid, []
    target = _around(grid, max(min(grid.spacing_mm), spacing_mm / 2))
    # beyond the scan there is what air is like in it
    air, _ = intensity_range(data)
    data = resample(data, TurnedMap.between(target, grid), target.shape, fill=air)
    told = {
        "oblique_degrees": round(oblique, 2),
        "shear_degrees": round(sheared, 2),
        "spacing_mm": target.spacing_mm[0],
        "shape": list(target.shape),
    }
    return data, target, [Step("turn", told)]


def _around(grid: Grid, spacing_mm: float) -> Grid:
    """Return the grid along R, A and S that holds all of another, centred on it."""
    faces = [(-0.5, n - 0.5) for n in grid.shape]
    corners = grid.world(np.array(list(itertools.product(*faces))))
    low, high = corners.min(axis=0), corners.max(axis=0)
    edge = max(spacing_mm, (math.prod((high - low).tolist()) / MOST_VOXELS) ** (1 / 3))
    shape = [max(2, math.ceil(length / edge - 1e-3)) for length in high - low]
    affine = np.diag([edge, edge, edge, 1.0])
    affine[:3, 3] = (low + high) / 2 - edge * (np.array(shape) - 1) / 2
    return Grid(three(shape), affine)
