"""How the pictures of studies are drawn: one look, small PNG files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.errors import MissingExtraError
from ddmseg.maths.statistics import Interval
from ddmseg.models.checkpoint import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
BLUE, ORANGE, GREEN, RED, GREY = "#3366aa", "#dd7722", "#338855", "#bb3344", "#888888"
COLOURS = (BLUE, ORANGE, GREEN, RED, "#775599", "#996633", "#229999", GREY)


def save_figure(path: Path, inches: tuple[float, float], draw: Callable[[Figure], None]) -> None:
    """Draw a figure and save it as PNG, complete or not at all.

    Raises:
        MissingExtraError: without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train") from error
    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    # Without matplotlib's version in the file, equal figures are equal bytes.
    figure.savefig(image, format="png", dpi=DPI, metadata={"Software": None})
    replace_file(path, image.getvalue())


def line_with_bars(
    axes: Axes,
    x: Sequence[float],
    found: Sequence[Interval],
    *,
    colour: str,
    label: str,
    style: str = "-",
) -> None:
    """Draw means with their intervals, joined by a line."""
    # Without limits there is no bar: max leaves NaN out only as its second argument.
    bars = [
        [max(0.0, one.mean - one.low) for one in found],
        [max(0.0, one.high - one.mean) for one in found],
    ]
    axes.errorbar(
        x,
        [one.mean for one in found],
        yerr=bars,
        color=colour,
        linestyle=style,
        marker="o",
        markersize=4,
        linewidth=1.3,
        elinewidth=0.8,
        capsize=2.5,
        label=label,
    )


def name_ticks(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Put these names and no others along the x axis."""
    axes.set_xticks(list(places), list(names))
    axes.minorticks_off()
