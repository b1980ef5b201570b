"""Tables of trained rows as chapters and pages: table, picture, learning curves, sentences."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.maths.statistics import Interval
from ddmseg.training.curve import Curve
from ddmseg_lab.comparison.plan import TABLE_FILE, TableSettings, read_table
from ddmseg_lab.comparison.table import CONVERGED, TableRow, build_table, differences_from, markdown
from ddmseg_lab.figures import BLUE, GREY, ORANGE, interval_bars, new_figure, save_figure
from ddmseg_lab.page import INTERVALS, Claim, Section, Target, picture
from ddmseg_lab.page import table as page_table
from ddmseg_lab.statistics_text import (
    against_words,
    compare_sets,
    difference_words,
    equivalence_words,
    interval,
    mean_interval,
)
from ddmseg_lab.template import render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("compare", "ablate")
"""Commands whose pages are named by the command, too; those of studies have the study's name."""
KIND = "study"
WITH_CURVES = ("convergence",)
"""Studies whose question is the way of the training."""
EQUIVALENT = 0.005
"""Difference of mean Dice that does not matter."""
LABEL_WIDTH = 62
"""Letters in a line below an axis, at most."""
TICKS = 6
"""Between ticks of an axis, at most."""


def tables_of(results: Path, kind: str) -> Iterator[tuple[str, TableSettings, dict[str, TableRow]]]:
    """Yield each table below ``results / kind`` that was begun: its name and what was run of it."""
    for path in sorted(results.glob(f"{kind}/*/{TABLE_FILE}")):
        table = read_table(path.parent)
        yield path.parent.name, table, build_table(table, path.parent)


def table_chapters(results: Path) -> list[Section]:
    """Return a page for each comparison and ablation."""
    chapters = []
    for kind in KINDS:
        for name, table, rows in tables_of(results, kind):
            command = f"ddmseg {kind} lab/configs/{kind}/{name} --data DATA"
            body = [table.note.strip(), *_table_and_words(table, rows)]
            body = [part for part in (*body, *differences_text(table, rows)) if part]
            claims = list(asked_of(table, rows))
            chapters.append(Section(f"{kind}_{name}", table.title, command, body, claims))
    return chapters


def asked_of(table: TableSettings, rows: Mapping[str, TableRow]) -> Iterator[Claim]:
    """Yield what a table was asked to show, of rows that have converged."""
    done = {n: r for n, r in rows.items() if r.late_rise is not None and r.late_rise <= CONVERGED}
    about = table.title.partition(":")[0]
    if table.asked_dice:
        ours = [mean_interval([*row.dice.values()]) for row in done.values() if row.ours]
        best = max(ours, key=lambda one: float(one["mean"]), default=None)
        yield Claim(Target(f"{about}: mean Dice of our best row", table.asked_dice), best)
    if table.asked_pair:
        first, second = table.pair(table.asked_pair)
        what = f"{about}: Dice of `{first}` less that of `{second}`"
        lost = None
        if first in done and second in done:
            lost = mean_interval([*_less(done[first], done[second]).values()])
        yield Claim(Target(what, -table.asked_loss, digits=4), lost)


def study_tables(results: Path) -> dict[str, str]:
    """Return the text of a page for each study that trains and has a row, by its name."""
    pages = {}
    for name, table, rows in tables_of(results, KIND):
        parts = [
            f"# Study: {name}",
            f"{table.title}.",
            table.note.strip(),
            f"```\nddmseg study {name} --data DATA\n```",
            *(picture(file, table.title) for file in picture_names(name)),
            *_table_and_words(table, rows),
            "## What was found",
            *differences_text(table, rows),
        ]
        if rows:
            pages[name] = "\n\n".join(filter(None, parts)) + "\n"
    return pages


def _table_and_words(table: TableSettings, rows: Mapping[str, TableRow]) -> list[str]:
    """Return the table, how to read it and what is missing from it."""
    missing = [name for name in table.rows if name not in rows]
    named = {"row": table.rows[0], "intervals": INTERVALS, "converged": CONVERGED}
    words = render("ddmseg_lab.comparison", "table_words.md", **named, missing=missing)
    return [markdown(rows, table.references), words.strip()]


def differences_text(table: TableSettings, rows: Mapping[str, TableRow]) -> Iterator[str]:
    """Yield a paragraph for each reference of a table, then its contrasts."""
    for reference in table.references:
        if reference not in rows:
            continue
        tests = differences_from(reference, rows)
        named = f"*{rows[reference].title}*"
        found = {rows[name].title: one for name, one in tests.items()}
        yield against_words(found, what="mean Dice", reference=named)
        others = {rows[name].title: rows[name].dice for name in tests}
        if alike := equivalence_words(rows[reference].dice, others, margin=EQUIVALENT, name=named):
            yield alike
    yield from _contrasts(table, rows)


def _contrasts(table: TableSettings, rows: Mapping[str, TableRow]) -> Iterator[str]:
    """Compare the pairs that the table names, Holm-corrected over them."""
    pairs = [pair for pair in map(table.pair, table.contrasts) if set(pair) <= set(rows)]
    if not pairs:
        return
    differences = {
        f"{rows[one].title} − {rows[other].title}": _less(rows[one], rows[other])
        for one, other in pairs
    }
    found = compare_sets(dict.fromkeys(rows[pairs[0][0]].dice, 0.0), differences)
    yield "Pairs of rows, mean Dice of the first less that of the second on the same patients:"
    body = [[name, difference_words(one)] for name, one in found.items()]
    yield page_table(["pair", "difference"], body)


def picture_names(name: str) -> list[str]:
    """Return the names of a study's pictures: Dice of the rows first."""
    names = [f"{KIND}_{name}.png"]
    return [*names, f"{KIND}_{name}_curves.png"] if name in WITH_CURVES else names


def draw_tables(results: Path, folder: Path) -> list[Path]:
    """Draw each study that trains and has a row; return the files."""
    drawn = []
    for name, table, rows in tables_of(results, KIND):
        if not rows:
            continue
        figures = [dice_of_rows(rows, table.references[:1])]
        if name in WITH_CURVES:
            figures.append(learning_curves(list(rows.values())))
        for file, figure in zip(picture_names(name), figures, strict=True):
            drawn.append(save_figure(figure, folder / file))
    return drawn


def dice_of_rows(rows: Mapping[str, TableRow], references: Sequence[str]) -> Figure:
    """Mean Dice of each row, and its difference from the reference on the same patients.

    The intervals on the left are wide because patients differ; what rows differ by is
    told by those on the right.
    """
    reference = next((name for name in references if name in rows), None)
    panels = 1 if reference is None else 2
    figure, axes = new_figure(4.6 * panels + 1.6, 1.4 + 0.3 * len(rows), panels=panels)
    places = list(range(len(rows), 0, -1))
    _bars(axes, places, [interval([*row.dice.values()]) for row in rows.values()])
    axes.set_yticks(places, [row.title for row in rows.values()], fontsize=8)
    axes.set_xlabel("mean Dice, with 95% interval over patients", fontsize=8)
    if reference is not None:
        right, base = figure.axes[1], rows[reference]
        _bars(right, places, [interval([*_less(r, base).values()]) for r in rows.values()])
        right.axvline(0, color="black", linewidth=0.7)
        right.set_yticks(places, [""] * len(places))
        words = textwrap.fill(f"difference from: {rows[reference].title}", LABEL_WIDTH)
        right.set_xlabel(words, fontsize=8)
    return figure


def learning_curves(rows: Sequence[TableRow]) -> Figure:
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
    names = ("validation Dice", "loss of the coarse head", "diffusion (blue), discrepancy (grey)")
    for axes, name in zip(figure.axes, names, strict=True):
        axes.set_xlabel("step")
        axes.set_title(name, fontsize=9)
    for axes in (coarse, others):
        axes.set_yscale("log")
    for name, colour in (("DDM", BLUE), ("plain network", ORANGE)):
        dice.plot([], [], color=colour, label=name)
    dice.legend(fontsize=8, loc="lower right")
    return figure


def _less(row: TableRow, base: TableRow) -> dict[str, float]:
    """Dice of a row less that of another on the same patients."""
    return {patient: row.dice[patient] - dice for patient, dice in base.dice.items()}


def _bars(axes: Axes, places: Sequence[float], found: Sequence[Interval]) -> None:
    axes.errorbar(
        [one.mean for one in found], places, xerr=interval_bars(found), fmt="o", color=BLUE,
        markersize=4, elinewidth=0.9, capsize=2.5,
    )  # fmt: skip
    axes.locator_params(axis="x", nbins=TICKS)  # long numbers would run into each other


def _line(axes: Axes, curve: Curve, name: str, *, colour: str) -> None:
    points = [(row["step"], row[name]) for row in curve.rows if name in row]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.0, alpha=0.8)
