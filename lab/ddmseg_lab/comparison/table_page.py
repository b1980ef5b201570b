"""Pictures of the studies that are tables of rows: Dice of each row, and learning curves."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.evaluation.scores import per_patient
from ddmseg.maths.statistics import Interval, bootstrap_interval
from ddmseg.training.curve import Curve
from ddmseg_lab.comparison.plan import TABLE_FILE, TableSettings, read_table
from ddmseg_lab.comparison.record import CURVE_FILE
from ddmseg_lab.comparison.table import read_row
from ddmseg_lab.figures import BLUE, GREY, ORANGE, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KIND = "study"
WITH_CURVES = ("convergence",)
"""Studies whose question is the way of the training."""
LOSSES = ("coarse", "diffusion", "discrepancy")
LABEL_WIDTH = 62
"""Letters in a line below an axis, at most."""
TICKS = 6
"""Between ticks of an axis, at most."""


@dataclass(frozen=True)
class ShownRow:
    """A row that has been run.

    Attributes:
        title: of the row.
        dice: mean Dice of each patient.
        diffusion: whether its network has any.
        curves: learning curve of each fold that left one.
    """

    title: str
    dice: dict[str, float]
    diffusion: bool
    curves: list[Path]


def picture_names(name: str) -> list[str]:
    """Return the names of a study's pictures: Dice of the rows first."""
    names = [f"{KIND}_{name}.png"]
    return [*names, f"{KIND}_{name}_curves.png"] if name in WITH_CURVES else names


def draw_tables(results: Path, folder: Path) -> list[Path]:
    """Draw each study table under ``results / study`` that has a row; return the files.

    Raises:
        UsageError: when a record is damaged.
    """
    drawn = []
    for path in sorted(results.glob(f"{KIND}/*/{TABLE_FILE}")):
        table = read_table(path.parent)
        rows = shown_rows(table, path.parent)
        if not rows:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        figures = [dice_of_rows(rows, table.references[:1])]
        if path.parent.name in WITH_CURVES:
            figures.append(learning_curves(list(rows.values())))
        for name, figure in zip(picture_names(path.parent.name), figures, strict=True):
            drawn.append(save_figure(figure, folder / name))
    return drawn


def shown_rows(table: TableSettings, folder: Path) -> dict[str, ShownRow]:
    """Return the rows that have been run in all folds, in the table's order."""
    rows = {}
    for name in table.rows:
        found = read_row(folder, name, table.fold_names)
        if found is None:
            continue
        records, scores = found
        settings = records[0].settings
        curves = [folder / name / fold / CURVE_FILE for fold in table.fold_names]
        rows[name] = ShownRow(
            settings["row"]["title"] or name,
            per_patient(scores, "dice"),
            bool(settings["model"]["diffusion"]),
            [path for path in curves if path.is_file()],
        )
    return rows


def dice_of_rows(rows: Mapping[str, ShownRow], references: Sequence[str]) -> Figure:
    """Mean Dice of each row, and its difference from the reference on the same patients.

    The intervals on the left are wide because patients differ; what rows differ by is
    told by those on the right.
    """
    reference = next((name for name in references if name in rows), None)
    panels = 1 if reference is None else 2
    figure, axes = new_figure(4.6 * panels + 1.6, 1.4 + 0.3 * len(rows), panels=panels)
    places = list(range(len(rows), 0, -1))
    _bars(axes, places, [mean_interval(list(row.dice.values())) for row in rows.values()])
    axes.set_yticks(places, [row.title for row in rows.values()], fontsize=8)
    axes.set_xlabel("mean Dice, with 95% interval over patients", fontsize=8)
    if reference is not None:
        right, base = figure.axes[1], rows[reference].dice
        others = [
            mean_interval([row.dice[one] - base[one] for one in base if one in row.dice])
            for row in rows.values()
        ]
        _bars(right, places, others)
        right.axvline(0, color="black", linewidth=0.7)
        right.set_yticks(places, [""] * len(places))
        words = textwrap.fill(f"difference from: {rows[reference].title}", LABEL_WIDTH)
        right.set_xlabel(words, fontsize=8)
    return figure


def learning_curves(rows: Sequence[ShownRow]) -> Figure:
    """Validation Dice and losses over the steps, one line a row and fold.

    The loss of the coarse head is the one that both networks have.
    """
    figure, dice = new_figure(12.0, 4.0, panels=3)
    coarse, others = figure.axes[1:]
    for row in rows:
        colour = BLUE if row.diffusion else ORANGE
        for path in row.curves:
            curve = Curve(path)
            curve.read(up_to=sys.maxsize)
            _line(dice, curve, "sampled_dice", colour=colour)
            _line(coarse, curve, "coarse", colour=colour)
            if row.diffusion:
                _line(others, curve, "diffusion", colour=colour)
                _line(others, curve, "discrepancy", colour=GREY)
    for axes, name in zip(
        figure.axes,
        ("validation Dice", "loss of the coarse head", "diffusion (blue), discrepancy (grey)"),
        strict=True,
    ):
        axes.set_xlabel("step")
        axes.set_title(name, fontsize=9)
    for axes in (coarse, others):
        axes.set_yscale("log")
    for name, colour in (("DDM", BLUE), ("plain network", ORANGE)):
        dice.plot([], [], color=colour, label=name)
    dice.legend(fontsize=8, loc="lower right")
    return figure


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean with its interval; of one patient the mean alone, without room."""
    if len(values) < 2:
        return Interval(values[0], values[0], values[0], 1, 0.95)
    return bootstrap_interval(values)


def _bars(axes: Axes, places: Sequence[float], found: Sequence[Interval]) -> None:
    room = [[one.mean - one.low for one in found], [one.high - one.mean for one in found]]
    axes.errorbar(
        [one.mean for one in found],
        places,
        xerr=[[max(0.0, length) for length in side] for side in room],
        fmt="o",
        color=BLUE,
        markersize=4,
        elinewidth=0.9,
        capsize=2.5,
    )
    axes.locator_params(axis="x", nbins=TICKS)  # long numbers would run into each other


def _line(axes: Axes, curve: Curve, name: str, *, colour: str) -> None:
    points = [(row["step"], row[name]) for row in curve.rows if name in row]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.0, alpha=0.8)
