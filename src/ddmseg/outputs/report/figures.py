"""The pictures of a report: a scan put upright, cut into slices, and drawn.

Radiological convention throughout: the patient's right is on the left of the
picture, and in sagittal slices the face looks left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import UsageError
from ddmseg.imaging.grid import Grid, to_closest_ras
from ddmseg.imaging.labels import count_voxels, labelled_box, structure
from ddmseg.quality.segmentation import Segmentation

Colour = tuple[int, int, int]

MARGIN_MM = 14.0
LEAST_LUMA = 105.0
LARGEST_SIDE = 288
"""Voxels along a picture's longer side, above which blocks of voxels are averaged."""
SPARSE = (slice(None, None, 3),) * 3
"""Every third voxel along each axis, which is plenty for a percentile."""


@dataclass(frozen=True)
class Plane:
    """A way of cutting; axes count R, A, S as 0, 1, 2, marks are the left and right directions."""

    name: str
    axis: int
    across: int
    marks: tuple[str, str]
    letter: str

    def look(self, volume: NDArray[Any], index: int) -> NDArray[Any]:
        """Return one picture: columns run to L or P and rows downwards, both against R, A and S."""
        # a view; take() would first copy the whole volume, whose first axis is the fastest
        picture: NDArray[Any] = np.moveaxis(volume, self.axis, 0)[index]
        return picture[::-1, ::-1].T


PLANES = (
    Plane("axial", axis=2, across=0, marks=("R", "L"), letter="z"),
    Plane("coronal", axis=1, across=0, marks=("R", "L"), letter="y"),
    Plane("sagittal", axis=0, across=1, marks=("A", "P"), letter="x"),
)


@dataclass(frozen=True, eq=False)
class Slice:
    """One upright cut (row, column) that lies at ``position_mm`` along the axis it cuts across."""

    plane: Plane
    position_mm: float
    grey: NDArray[np.uint8]
    labels: NDArray[np.integer[Any]]
    uncertainty: NDArray[np.float32]
    discrepancy: NDArray[np.float32]
    beyond: NDArray[np.bool_]
    pixel_mm: tuple[float, float]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of the picture."""
        rows, columns = self.grey.shape
        return (columns * self.pixel_mm[1], rows * self.pixel_mm[0])

    @property
    def position_text(self) -> str:
        """Where it lies in words, such as ``z +12 mm``."""
        return f"{self.plane.letter} {self.position_mm:+.0f} mm".replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True, eq=False)
class Upright:
    """Scan, labels and maps in the axis order closest to RAS, cut to what is labelled."""

    scan: NDArray[np.float32]
    labels: NDArray[np.integer[Any]]
    uncertainty: NDArray[np.float32]
    discrepancy: NDArray[np.float32]
    beyond: NDArray[np.bool_]
    affine: NDArray[np.float64]
    window: tuple[float, float]

    @classmethod
    def of(cls, segmentation: Segmentation) -> Upright:
        """Turn a segmentation upright and cut it to its labels, if there are any, and a margin."""
        scan, out = segmentation.scan, segmentation.standing_out
        grid = Grid(scan.shape, scan.affine)
        index_map, shape = to_closest_ras(grid)
        upright = index_map.view
        turned = grid.seen_through(index_map, shape)
        head, labels = upright(scan.data), upright(segmentation.labels.data)
        whole = cls(
            scan=head,
            labels=labels,
            uncertainty=upright(segmentation.uncertainty),
            discrepancy=upright(segmentation.discrepancy),
            beyond=np.zeros(labels.shape, bool) if out is None else upright(out.beyond),
            affine=turned.affine,
            window=_window(head),
        )
        margins = [int(np.ceil(MARGIN_MM / spacing)) for spacing in turned.spacing_mm]
        sides = zip(labelled_box(labels), margins, labels.shape, strict=True)
        return whole.within(
            [slice(max(0, s.start - more), min(n, s.stop + more)) for s, more, n in sides]
        )

    def within(self, box: Sequence[slice]) -> Upright:
        """Return what lies in a box."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
        arrays = ("scan", "labels", "uncertainty", "discrepancy", "beyond")
        parts = {name: getattr(self, name)[tuple(box)] for name in arrays}
        return replace(self, affine=affine, **parts)

    def around(self, position_mm: Sequence[float], reach_mm: float) -> list[Slice]:
        """Return a piece of one slice per plane, through a place in RAS mm and so far around it."""
        place = np.linalg.inv(self.affine) @ [*position_mm, 1.0]
        middle = np.clip(np.rint(place[:3]).astype(int), 0, np.array(self.labels.shape) - 1)
        reach = np.ceil(reach_mm / np.linalg.norm(self.affine[:3, :3], axis=0)).astype(int)
        low = np.maximum(middle - reach, 0)
        piece = self.within([slice(a, b) for a, b in zip(low, middle + reach + 1, strict=True)])
        return [piece.cut(plane, int((middle - low)[plane.axis])) for plane in PLANES]

    def slices(self, plane: Plane, count: int) -> list[Slice]:
        """Return up to ``count`` slices, evenly spread over those that hold labels."""
        others = tuple(axis for axis in range(3) if axis != plane.axis)
        used = np.flatnonzero((self.labels != 0).any(axis=others))
        used = used if used.size else np.arange(self.labels.shape[plane.axis])
        places = np.unique((len(used) * (np.arange(count) + 0.5) / count).astype(int))
        return [self.cut(plane, index) for index in used[places].tolist()]

    def cut(self, plane: Plane, index: int) -> Slice:
        """Return one slice, turned as it is looked at."""
        spacing = np.linalg.norm(self.affine[:3, :3], axis=0)
        up = 3 - plane.axis - plane.across
        middle = np.array([(n - 1) / 2 for n in self.labels.shape])
        middle[plane.axis] = index
        position = self.affine[:3, :3] @ middle + self.affine[:3, 3]
        factor = -(-max(plane.look(self.labels, index).shape) // LARGEST_SIDE)
        middles = (slice(factor // 2, None, factor),) * 2
        return Slice(
            plane=plane,
            position_mm=float(position[plane.axis]),
            grey=_to_grey(_blocks(plane.look(self.scan, index), factor), self.window),
            labels=_fill(plane.look(self.labels, index), factor)[middles],
            uncertainty=_blocks(plane.look(self.uncertainty, index), factor),
            discrepancy=_blocks(plane.look(self.discrepancy, index), factor),
            beyond=_fill(plane.look(self.beyond, index), factor)[middles],
            pixel_mm=(factor * float(spacing[up]), factor * float(spacing[plane.across])),
        )


def drawn_ids(labels: NDArray[np.integer[Any]]) -> list[int]:
    """Return the ids that occur, in order, without the background."""
    return [index for index in count_voxels(labels) if index != 0]


def colour_of(index: int) -> Colour:
    """Return the colour of an id on black: FreeSurfer's, lightened, or a fixed hue of its own."""
    try:
        colour = np.array(structure(index).colour, dtype=float)
    except UsageError:
        # golden-angle steps keep neighbouring ids apart
        turns = index * 0.618033988749895 - np.arange(3) / 3
        colour = 70 + 90 * (1 + np.cos(2 * np.pi * turns))
    # luma of ITU-R BT.709; mixing in white raises it to the least that shows
    luma = float(colour @ np.array([0.2126, 0.7152, 0.0722]))
    white = max(0.0, (LEAST_LUMA - luma) / (255.0 - luma))
    red, green, blue = np.rint(colour + white * (255.0 - colour)).astype(int).tolist()
    return (red, green, blue)


def css_colour(index: int) -> str:
    """Return :func:`colour_of` an id as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(index))


def scale_top(values: NDArray[np.float32]) -> float:
    """Return where the colour scale of a map ends: 1, 2 or 5 times a power of ten.

    The first such number at or above the 99.5th percentile of the voxels above 0; else 1.0.
    """
    used = values[np.isfinite(values) & (values > 0)]
    if not used.size:
        return 1.0
    high = float(np.percentile(used, 99.5))
    power = 10.0 ** np.floor(np.log10(high))
    return next(float(f"{step * power:.6g}") for step in (1, 2, 5, 10) if high <= step * power)


def to_steps(values: NDArray[np.float32], top: float) -> NDArray[np.uint8]:
    """Return the step 0-255 of each value on a scale from 0 to ``top``; not a number is 0."""
    steps = np.rint(255.0 * np.clip(np.nan_to_num(values, nan=0.0) / top, 0.0, 1.0))
    return np.asarray(steps, dtype=np.uint8)


def _window(scan: NDArray[np.float32]) -> tuple[float, float]:
    """Where grey begins and ends: the 1st and 99.8th percentile of what is finite and not 0."""
    sample = scan[SPARSE]
    used = sample[np.isfinite(sample) & (sample != 0)]
    if not used.size:
        return (0.0, 1.0)
    low, high = np.percentile(used, [1.0, 99.8])
    # where 0 occurs it is air and stays black; a scan without air begins well above it
    low = min(0.0, float(low)) if (sample == 0).any() else float(low)
    return (low, max(float(high), low + 1e-6))


def _to_grey(values: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = window
    known = np.where(np.isfinite(values), values, np.float32(low))
    return to_steps(known - np.float32(low), high - low)


def _blocks(picture: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Average blocks of ``factor`` times ``factor`` pixels."""
    if factor == 1:
        return picture
    padded = _fill(picture, factor)
    rows, columns = (n // factor for n in padded.shape)
    blocks = padded.reshape(rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _fill(picture: NDArray[Any], factor: int) -> NDArray[Any]:
    """Repeat the far edges until both sides are multiples of ``factor``."""
    return np.pad(picture, [(0, -n % factor) for n in picture.shape], mode="edge")
