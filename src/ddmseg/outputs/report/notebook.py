"""A result in a notebook: a short page with the picture and volumes, and a figure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ddmseg.errors import optional, printable
from ddmseg.imaging.volume import grid_text
from ddmseg.messages import NOTICE
from ddmseg.outputs.report.figures import PLANES, SPARSE, Slice, Upright, scale_top
from ddmseg.outputs.report.page import VERDICTS
from ddmseg.outputs.report.panels import MAPS
from ddmseg.outputs.report.png import colour_scale
from ddmseg.outputs.report.thumbnail import paint_labels, paint_map, report_thumbnail
from ddmseg.outputs.text import render_template
from ddmseg.quality.segmentation import Segmentation, format_ml

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_PIXELS = 200
"""Height of a panel of the picture in a notebook, which stores it."""
FIGURE_PIXELS = 300
"""Height of the tallest panel of a figure."""
MOST_ROWS = 8
"""Volumes that are open; the others are folded away."""
_COLOURS = {"pass": "#1a7f37", "warn": "#9a6700", "fail": "#c62828"}


def notebook_html(segmentation: Segmentation) -> str:
    """Return a piece of HTML that needs nothing else: verdict, picture and volumes."""
    scan, quality, sums = segmentation.scan, segmentation.quality, segmentation.sums
    picture = report_thumbnail(segmentation, height=PANEL_PIXELS)
    return render_template(
        "notebook.html",
        name=printable(scan.name),
        verdict=VERDICTS[quality.verdict],
        colour=_COLOURS[quality.verdict],
        dice=quality.dice_text,
        reasons=[printable(reason) for reason in quality.reasons],
        grid=grid_text(scan.shape, scan.spacing_mm),
        structures=len(segmentation.volumes),
        picture=base64.b64encode(picture).decode(),
        rows=[*sums, *segmentation.volumes],
        shown=len(sums) or MOST_ROWS,
        notice=NOTICE,
        ml=format_ml,
        printable=printable,
    )


def result_figure(segmentation: Segmentation) -> Figure:
    """Return a figure of the middle slices: labels, uncertainty, discrepancy by three planes."""
    pyplot = optional("matplotlib.pyplot", "plot")
    upright = Upright.of(segmentation)
    cuts = [upright.slices(plane, 1)[0] for plane in PLANES]
    pixel_mm = max(cut.size_mm[1] for cut in cuts) / FIGURE_PIXELS
    figure: Figure
    figure, axes = pyplot.subplots(1 + len(MAPS), len(cuts), figsize=(9, 9), layout="constrained")
    quality, name = segmentation.quality, printable(segmentation.scan.name)
    title = f"{name}: {quality.verdict}, expected Dice {quality.dice_text}"
    figure.suptitle(title, parse_math=False)  # a $ in a name begins no formula
    for axis, cut in zip(axes[0], cuts, strict=True):
        _show(axis, cut, paint_labels(cut, pixel_mm), f"{cut.plane.name} {cut.position_text}")
    for kind, row in zip(MAPS, axes[1:], strict=True):
        _map_row(figure, row, cuts, kind, scale_top(getattr(upright, kind)[SPARSE]), pixel_mm)
    return figure


def _map_row(
    figure: Figure, row: Sequence[Axes], cuts: Sequence[Slice], kind: str, top: float, mm: float
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    for axis, cut in zip(row, cuts, strict=True):
        _show(axis, cut, paint_map(cut, getattr(cut, kind), top, mm, MAPS[kind]))
    colours = ScalarMappable(Normalize(0, top), ListedColormap(colour_scale(MAPS[kind]) / 255))
    figure.colorbar(colours, ax=list(row), label=kind, shrink=0.8)


def _show(axis: Axes, cut: Slice, picture: Any, title: str = "") -> None:
    axis.imshow(picture)
    axis.set_title(title)
    axis.set_axis_off()
    letters: dict[str, Any] = {"color": "white", "va": "center", "transform": axis.transAxes}
    for mark, place in zip(cut.plane.marks, (0.04, 0.96), strict=True):
        axis.text(place, 0.5, mark, ha="center", **letters)
