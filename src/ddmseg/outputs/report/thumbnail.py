"""One picture of a result: three planes with outlines, and the discrepancy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddmseg.outputs.report.figures import (
    PLANES,
    SPARSE,
    Slice,
    Upright,
    colour_of,
    drawn_ids,
    scale_top,
    to_steps,
)
from ddmseg.outputs.report.png import colour_scale, rgb_png, scale_opacity
from ddmseg.quality.segmentation import Segmentation

Picture = NDArray[np.uint8]

_GROUND = (10, 12, 15)
_GAP = 8
_GLYPHS = {
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "A": (".###.", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "P": ("####.", "#...#", "#...#", "####.", "#....", "#....", "#...."),
}


def report_thumbnail(segmentation: Segmentation, *, height: int = 340) -> bytes:
    """Return a PNG of the middle slices: outlines in three planes, then the discrepancy.

    ``height`` is that of each panel in pixels, at least 30; the marks name the side.
    """
    upright = Upright.of(segmentation)
    cuts = [upright.slices(plane, 1)[0] for plane in PLANES]
    pixel_mm = max(cut.size_mm[1] for cut in cuts) / height
    painted = [paint_labels(cut, pixel_mm) for cut in cuts]
    cuts, top = [*cuts, cuts[0]], scale_top(upright.discrepancy[SPARSE])
    painted.append(paint_map(cuts[0], cuts[0].discrepancy, top, pixel_mm, "glacier"))
    pairs = zip(painted, cuts, strict=True)
    return rgb_png(_row([_marked(picture, cut.plane.marks) for picture, cut in pairs]))


def paint_labels(cut: Slice, pixel_mm: float) -> Picture:
    """Return the slice in colour with a thin outline around each label."""
    fine = pixel_mm / 3  # averaged down, so that lines are smooth
    picture = np.repeat(_enlarge(cut.grey, cut.pixel_mm, fine, order=1)[..., None], 3, axis=2)
    labels = _enlarge(cut.labels, cut.pixel_mm, fine, order=0)
    for index in drawn_ids(labels):
        mask = labels == index
        line = mask & ~ndimage.binary_erosion(mask, iterations=3)
        colour = np.array(colour_of(index), dtype=np.float32)
        picture[mask] = 0.86 * picture[mask] + 0.14 * colour
        picture[line] = 0.1 * picture[line] + 0.9 * colour
    return _shrink(picture)


def paint_map(
    cut: Slice, values: NDArray[np.float32], top: float, pixel_mm: float, scale: str
) -> Picture:
    """Return the slice in colour with a map laid over it; the scale ends at ``top``."""
    fine = pixel_mm / 3
    grey = _shrink(_enlarge(cut.grey, cut.pixel_mm, fine, order=1)[..., None])
    level = _shrink(_enlarge(to_steps(values, top), cut.pixel_mm, fine, order=1)[..., None])[..., 0]
    opacity = scale_opacity()[level][..., None] / 255.0
    return np.rint((1 - opacity) * grey + opacity * colour_scale(scale)[level]).astype(np.uint8)


def _enlarge(
    picture: NDArray[Any], pixel_mm: tuple[float, float], fine_mm: float, *, order: int
) -> NDArray[Any]:
    """Resample to square pixels of ``fine_mm``, both sides multiples of three."""
    pairs = zip(picture.shape, pixel_mm, strict=True)
    size = [3 * max(1, round(n * mm / fine_mm / 3)) for n, mm in pairs]
    zoom = [new / old for new, old in zip(size, picture.shape, strict=True)]
    values = picture if order == 0 else picture.astype(np.float32)
    result: NDArray[Any] = ndimage.zoom(values, zoom, order=order, mode="nearest", grid_mode=True)
    return result


def _shrink(picture: NDArray[np.float32]) -> Picture:
    rows, columns, channels = picture.shape
    small = picture.reshape(rows // 3, 3, columns // 3, 3, channels).mean(axis=(1, 3))
    return np.asarray(np.rint(small), dtype=np.uint8)


def _marked(panel: Picture, marks: tuple[str, str]) -> Picture:
    """Write a letter at the left and at the right edge, half-way down, where there is room."""
    left, right = (np.array([[c == "#" for c in row] for row in _GLYPHS[m]]) for m in marks)
    rows, columns = left.shape
    top = (panel.shape[0] - 2 * rows) // 2
    if panel.shape[1] < 6 * columns or top < 0:
        return panel
    marked = panel.copy()
    for glyph, edge in ((left, 4), (right, panel.shape[1] - 4 - 2 * columns)):
        big = glyph.repeat(2, axis=0).repeat(2, axis=1)
        marked[top : top + 2 * rows, edge : edge + 2 * columns][big] = (214, 222, 232)
    return marked


def _row(panels: list[Picture]) -> Picture:
    height = max(panel.shape[0] for panel in panels)
    width = sum(panel.shape[1] for panel in panels) + _GAP * (len(panels) + 1)
    sheet = np.full((height + 2 * _GAP, width, 3), _GROUND, dtype=np.uint8)
    left = _GAP
    for panel in panels:
        rows, columns, _ = panel.shape
        top = _GAP + (height - rows) // 2
        sheet[top : top + rows, left : left + columns] = panel
        left += columns + _GAP
    return sheet
