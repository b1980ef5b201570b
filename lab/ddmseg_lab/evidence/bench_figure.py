"""How seconds and memory grow with what is made larger, as one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddmseg_lab.bench.scaling import SERIES
from ddmseg_lab.evidence.figures import BLUE, GREY, ORANGE, Summary, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {
    "seconds": (BLUE, "seconds"),
    "denoise_seconds": (GREY, "of denoising"),
    "peak_memory_gb": (ORANGE, "peak GB"),
}


def scaling_figure(found: Summary) -> Figure:
    """Draw a panel for each series: medians, and the fitted power laws.

    Args:
        found: the summary of ``ddmseg bench``, with at least one series.
    """
    series = found["scaling"]
    figure, _ = new_figure(2.6 * len(series), 3.2, panels=len(series))
    for axes, (name, one) in zip(figure.axes, series.items(), strict=True):
        for figure_name, (colour, words) in LINES.items():
            _draw(axes, one, figure_name, colour, words)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(SERIES.get(name, name))
        sizes = [point["at"] for point in one["points"]]
        axes.set_xticks(sizes, [_short(size) for size in sizes])
        axes.tick_params(labelsize=7, which="both")
        axes.tick_params(axis="x", which="minor", labelbottom=False)
    figure.axes[0].legend(fontsize=7)
    return figure


def _short(size: int) -> str:
    """Return a size as it fits below an axis: millions as such."""
    return f"{size / 1e6:.2g} M" if size >= 100_000 else str(size)


def _draw(axes: Axes, one: Summary, name: str, colour: str, words: str) -> None:
    known = [(p["at"], p[name]["median"]) for p in one["points"] if name in p]
    known = [(at, value) for at, value in known if value > 0]  # what has a logarithm
    if not known:
        return
    sizes, values = zip(*known, strict=True)
    axes.plot(sizes, values, "o", color=colour, markersize=4, label=words)
    fit = one["exponents"].get(name)
    if fit is not None and fit["exponent"] is not None:
        fitted = [fit["factor"] * size ** fit["exponent"] for size in sizes]
        axes.plot(sizes, fitted, color=colour, linewidth=1)
