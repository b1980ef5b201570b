"""What pictures of pages share: colours, an empty figure, and a small PNG of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Summary = Mapping[str, Any]

DPI = 110
BLUE, ORANGE, GREY = "#3366aa", "#dd7722", "#888888"


def error_bars(rows: Sequence[Summary]) -> list[list[float]] | None:
    """Lengths of the intervals below and above the mean; None when there are none."""
    if any(row["low"] is None or row["high"] is None for row in rows):
        return None
    return [
        [max(0.0, row["mean"] - row["low"]) for row in rows],
        [max(0.0, row["high"] - row["mean"]) for row in rows],
    ]


def new_figure(width: float, height: float, *, panels: int = 1) -> tuple[Figure, Axes]:
    """Return an empty figure of so many inches, and the first of its panels."""
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(width, height), layout="constrained")
    for number in range(panels):
        axes = figure.add_subplot(1, panels, number + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, figure.axes[0]


def save_figure(figure: Figure, path: Path) -> Path:
    """Save a figure as PNG and return the file."""
    # Without its name and version in the file, equal figures are equal bytes.
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    return path
