"""Pictures of the page of results; each is drawn from a summary and saved as a small PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Summary = Mapping[str, Any]

DPI = 110
BLUE, ORANGE, GREY = "#3366aa", "#dd7722", "#888888"
STEPS = (1, 5, 10, 50)
KINDS = {"coarse": ORANGE, "sampled": BLUE, "corrupted": GREY}


def draw_all(summaries: Mapping[str, Summary | None], folder: Path) -> list[Path]:
    """Draw what there are summaries of; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    if (found := summaries.get("hippocampus")) is not None:
        drawn.append(save_figure(dice_by_steps(found), folder / "dice_by_steps.png"))
    if (found := summaries.get("anatomy")) is not None:
        drawn.append(save_figure(anatomy_dice(found), folder / "anatomy_dice.png"))
    for model in ("hippocampus", "anatomy"):
        if (found := summaries.get(f"discrepancy_{model}")) is not None:
            drawn.append(save_figure(expected_dice(found), folder / f"expected_dice_{model}.png"))
    if (found := summaries.get("bench")) is not None and found["scaling"]:
        from ddmseg_lab.evidence.bench_figure import scaling_figure

        drawn.append(save_figure(scaling_figure(found), folder / "bench_scaling.png"))
    return drawn


def dice_by_steps(found: Summary) -> Figure:
    """Mean Dice against sampling steps, with the coarse head and the plain network.

    Bars are intervals of the difference from one step on the same crops: patients differ
    far more among each other than methods do.
    """
    figure, axes = new_figure(6.4, 4.4)
    methods = found["methods"]
    for pattern, tests, colour, name in (
        ("ddm_{}x4", "joined_against_one_step", BLUE, "4 samples, joined with the coarse head"),
        ("sample_{}", "single_against_one_step", ORANGE, "one sample alone"),
    ):
        named = [pattern.format(n) for n in STEPS]
        dice = [methods[method]["dice"]["mean"] for method in named]
        bars = [_difference_bar(found[tests].get(method)) for method in named]
        axes.errorbar(
            STEPS, dice, yerr=list(zip(*bars, strict=True)), color=colour, marker="o",
            markersize=4, capsize=3, label=name,
        )  # fmt: skip
    for method, style, name in (
        ("fast", "--", "coarse head"),
        ("plain", ":", "plain network, equal training"),
    ):
        if method in methods:
            value = methods[method]["dice"]["mean"]
            axes.axhline(value, color=GREY, linestyle=style, label=name)
    axes.set_xscale("log")
    axes.set_xticks(STEPS, [str(n) for n in STEPS])
    axes.minorticks_off()
    axes.set_xlabel("sampling steps")
    axes.set_ylabel("mean Dice of both structures")
    axes.set_title("bars: 95% interval of the difference from one step", fontsize=8)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return figure


def _difference_bar(test: Summary | None) -> tuple[float, float]:
    """How far the interval of a difference reaches below and above it."""
    if test is None or test["low"] is None:
        return 0.0, 0.0
    mean = test["difference"]
    return max(0.0, mean - test["low"]), max(0.0, test["high"] - mean)


def anatomy_dice(found: Summary) -> Figure:
    """Dice of each structure on the test scans, in both modes."""
    modes = found["splits"]["test"]
    names = list(modes["diffusion"]["structures"])
    figure, axes = new_figure(6.8, 8.0)
    for offset, mode, colour in ((0.2, "diffusion", BLUE), (-0.2, "fast", ORANGE)):
        rows = [modes[mode]["structures"][name] for name in names]
        places = [len(names) - i + offset for i in range(len(names))]
        axes.barh(
            places, [row["mean"] or 0.0 for row in rows], height=0.38, color=colour, label=mode,
            xerr=_bars(rows), error_kw={"elinewidth": 0.8},
        )  # fmt: skip
    axes.set_yticks([len(names) - i for i in range(len(names))], names, fontsize=8)
    axes.set_ylim(0.3, len(names) + 0.7)
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice, with 95% interval")
    axes.legend(fontsize=8, loc="lower left")
    return figure


def expected_dice(found: Summary) -> Figure:
    """Calibrated expected Dice against true Dice, one dot a mask."""
    sets = found["sets"]
    figure, _ = new_figure(4.4 * len(sets), 4.4, panels=len(sets))
    for axes, (name, one) in zip(figure.axes, sets.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.7)
        for kind, colour in KINDS.items():
            dots = [point for point in one["points"] if point[0] == kind]
            x, y = [dot[1] for dot in dots], [dot[2] for dot in dots]
            axes.scatter(x, y, s=9, color=colour, alpha=0.7, label=kind)
        axes.set_xlabel("expected Dice, calibrated")
        axes.set_ylabel("true Dice")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        r = one["pearson_r"]["mean"]
        axes.set_title(f"{name}, r = {r:.3f}" if r is not None else name, fontsize=10)
        axes.legend(fontsize=8)
    return figure


def _bars(rows: list[Summary]) -> list[list[float]] | None:
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
