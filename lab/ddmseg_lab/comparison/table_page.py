"""Tables of trained rows as chapters and pages: table, picture, learning curves, sentences."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.maths.statistics import Interval, bootstrap_interval
from ddmseg.training.curve import Curve
from ddmseg_lab.comparison.plan import TABLE_FILE, TableSettings, read_table
from ddmseg_lab.comparison.table import (
    CONVERGED,
    TableRow,
    build_table,
    markdown,
    of_equal_standing,
)
from ddmseg_lab.figures import BLUE, GREY, ORANGE, interval_bars, new_figure, save_figure
from ddmseg_lab.page import INTERVALS, Claim, Section, Target, picture
from ddmseg_lab.page import table as page_table
from ddmseg_lab.statistics_text import (
    against_words,
    compare_sets,
    difference_words,
    equivalence_words,
)

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


def tables_of(results: Path, kind: str) -> Iterator[tuple[Path, TableSettings]]:
    """Yield each table below ``results / kind`` that was begun, with its folder."""
    for path in sorted(results.glob(f"{kind}/*/{TABLE_FILE}")):
        yield path.parent, read_table(path.parent)


def table_chapters(results: Path) -> list[Section]:
    """Return a page for each comparison and ablation."""
    chapters = []
    for kind in KINDS:
        for folder, table in tables_of(results, kind):
            command = f"ddmseg {kind} lab/configs/{kind}/{folder.name} --data DATA"
            rows = build_table(table, folder)
            body = [table.note.strip(), *_table_and_words(table, rows)]
            body = [part for part in (*body, *differences_text(table, rows)) if part]
            claims = list(asked_of(table, rows))
            chapters.append(Section(f"{kind}_{folder.name}", table.title, command, body, claims))
    return chapters


def asked_of(table: TableSettings, rows: Mapping[str, TableRow]) -> Iterator[Claim]:
    """Yield what a table was asked to show, of rows that have converged."""
    done = {n: r for n, r in rows.items() if r.late_rise is not None and r.late_rise <= CONVERGED}
    about = table.title.partition(":")[0]
    if table.asked_dice:
        ours = [mean_interval(row.dice.values()) for row in done.values() if row.ours]
        best = max(ours, key=lambda one: one.mean, default=None)
        target = Target(f"{about}: mean Dice of our best row", table.asked_dice)
        yield Claim(target, None if best is None else asdict(best))
    if table.asked_pair:
        first, second = table.pair(table.asked_pair)
        what = f"{about}: Dice of `{first}` less that of `{second}`"
        lost = None
        if first in done and second in done:
            lost = asdict(mean_interval(_less(done[first], done[second]).values()))
        yield Claim(Target(what, -table.asked_loss, digits=4), lost)


def study_tables(results: Path) -> dict[str, str]:
    """Return the text of a page for each study that trains and has a row, by its name."""
    pages = {}
    for folder, table in tables_of(results, KIND):
        rows = build_table(table, folder)
        if not rows:
            continue
        parts = [
            f"# Study: {folder.name}",
            f"{table.title}.",
            table.note.strip(),
            f"```\nddmseg study {folder.name} --data DATA\n```",
            *(picture(name, table.title) for name in picture_names(folder.name)),
            *_table_and_words(table, rows),
            "## What was found",
            *differences_text(table, rows),
        ]
        pages[folder.name] = "\n\n".join(part for part in parts if part) + "\n"
    return pages


def _table_and_words(table: TableSettings, rows: Mapping[str, TableRow]) -> list[str]:
    """Return the table, how to read it and what is missing from it."""
    words = (
        f"A single row: `--rows NAME`, such as `{table.rows[0]}`. {INTERVALS} Differences are of "
        "the mean Dice, patient by patient; p of a two-sided Wilcoxon test, Holm-corrected over "
        "the rows. Distances are means over the structures that the row found at all. *Late rise*: "
        "what the last third of the training brought the score of validation (a Dice, but for "
        "samples that differ), mean over the folds; "
        f"above {CONVERGED} the row has not converged. Rows that have are not tested against rows "
        "that have not."
    )
    missing = [name for name in table.rows if name not in rows]
    if missing:
        words += f" Not run yet: {', '.join(missing)}."
    return [markdown(rows, table.references), words]


def differences_text(table: TableSettings, rows: Mapping[str, TableRow]) -> Iterator[str]:
    """Yield a paragraph for each reference of a table, then its contrasts."""
    for reference in table.references:
        if reference not in rows:
            continue
        base = rows[reference].late_rise
        others = {
            row.title: row.dice
            for name, row in rows.items()
            if name != reference and of_equal_standing(base, row.late_rise)
        }
        found = compare_sets(rows[reference].dice, others)
        named = f"*{rows[reference].title}*"
        yield against_words(found, what="mean Dice", reference=named)
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
    for place, table in tables_of(results, KIND):
        rows = build_table(table, place)
        if not rows:
            continue
        figures = [dice_of_rows(rows, table.references[:1])]
        if place.name in WITH_CURVES:
            figures.append(learning_curves(list(rows.values())))
        for name, figure in zip(picture_names(place.name), figures, strict=True):
            drawn.append(save_figure(figure, folder / name))
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
    _bars(axes, places, [mean_interval(row.dice.values()) for row in rows.values()])
    axes.set_yticks(places, [row.title for row in rows.values()], fontsize=8)
    axes.set_xlabel("mean Dice, with 95% interval over patients", fontsize=8)
    if reference is not None:
        right, base = figure.axes[1], rows[reference]
        _bars(right, places, [mean_interval(_less(r, base).values()) for r in rows.values()])
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


def mean_interval(values: Iterable[float]) -> Interval:
    """Return the mean with its interval; of one patient the mean alone, without room."""
    found = list(values)
    if len(found) > 1:
        return bootstrap_interval(found)
    return Interval(found[0], found[0], found[0], 1, 0.95)


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
