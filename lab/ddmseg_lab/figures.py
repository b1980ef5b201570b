"""What pictures of pages share: colours, an empty figure, lines with bars, and a small PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddmseg.errors import MissingExtraError
from ddmseg.maths.statistics import Interval
from ddmseg.models.checkpoint import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
BLUE, ORANGE, GREEN, RED, GREY = "#3366aa", "#dd7722", "#338855", "#bb3344", "#888888"
COLOURS = (BLUE, ORANGE, GREEN, RED, "#775599", "#996633", "#229999", GREY)


def empty_figure(width: float, height: float) -> Figure:
    """Return a figure of so many inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train") from error
    return Figure(figsize=(width, height), layout="constrained")


def new_figure(width: float, height: float, *, panels: int = 1) -> tuple[Figure, Axes]:
    """Return a figure with empty panels side by side, and the first of them."""
    figure = empty_figure(width, height)
    for number in range(panels):
        axes = figure.add_subplot(1, panels, number + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, figure.axes[0]


def save_figure(figure: Figure, path: Path) -> Path:
    """Save a figure as PNG, complete or not at all, and return the file."""
    image = io.BytesIO()
    # Without matplotlib's version in the file, equal figures are equal bytes.
    figure.savefig(image, format="png", dpi=DPI, metadata={"Software": None})
    replace_file(path, image.getvalue())
    return path


def interval_bars(found: Sequence[Interval | Mapping[str, Any] | None]) -> list[list[float]]:
    """Lengths of intervals below and above the mean or difference, 0 without limits."""
    bars = []
    for one in found:
        ends = vars(one) if isinstance(one, Interval) else one or {}
        mean = ends.get("mean", ends.get("difference"))
        low, high = ends.get("low"), ends.get("high")
        # max leaves NaN out only as its second argument.
        bars.append([0.0, 0.0] if low is None else [max(0.0, mean - low), max(0.0, high - mean)])
    return [[bar[side] for bar in bars] for side in (0, 1)]


def line_with_bars(
    axes: Axes, x: Sequence[float], found: Sequence[Interval], *, colour: str, label: str,
    style: str = "-",
) -> None:  # fmt: skip
    """Draw means with their intervals, joined by a line."""
    axes.errorbar(
        x, [one.mean for one in found], yerr=interval_bars(found), color=colour, linestyle=style,
        marker="o", markersize=4, linewidth=1.3, elinewidth=0.8, capsize=2.5, label=label,
    )  # fmt: skip


def name_ticks(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Put these names and no others along the x axis."""
    axes.set_xticks(list(places), list(names))
    axes.minorticks_off()


def name_places(axes: Axes, names: Sequence[str], fontsize: float | None = None) -> list[int]:
    """Put names along the y axis, the first on top, and return their places."""
    places = list(range(len(names), 0, -1))
    axes.set_yticks(places, names, fontsize=fontsize)
    return places
