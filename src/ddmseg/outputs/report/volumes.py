"""The tables of a report: totals, left and right side by side, and what has no side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ddmseg.imaging.labels import mirror_index
from ddmseg.outputs.pages import render_template
from ddmseg.outputs.report.figures import css_colour
from ddmseg.quality.segmentation import INTRACRANIAL, Segmentation, StructureVolume, format_ml

GRADES = ((0.85, "excellent"), (0.7, "good"), (0.5, "fair"), (-math.inf, "poor"))
"""Expected Dice from which on a structure is called so."""


def volume_tables(segmentation: Segmentation) -> str:
    """Return the tables of all that was measured."""
    rows = segmentation.volumes
    partners = {row.index: mirror_index(row.index) for row in rows}
    there = {row.index: row for row in rows}
    dice = segmentation.quality.expected_dice_by_structure

    def lowest(some: Sequence[StructureVolume]) -> float | None:
        known = (dice[row.name] for row in some if row.name in dice)
        return min(filter(math.isfinite, known), default=None)

    return render_template(
        "volumes.html",
        found=segmentation,
        head=segmentation.total(INTRACRANIAL),
        sides={one.name: one for one in segmentation.asymmetries},
        pairs=[
            (row, there[partners[row.index]])
            for row in rows
            if row.name.startswith("Left-") and partners[row.index] in there
        ],
        single=[
            row
            for row in rows
            if partners[row.index] == row.index or partners[row.index] not in there
        ],
        lowest=lowest,
        grade=grade,
        ml=format_ml,
        css_colour=css_colour,
    )


def grade(dice: float | None) -> str:
    """Return an expected Dice in a word, such as ``good``; a dash where it is not known."""
    if dice is None or not math.isfinite(dice):
        return "–"
    return next(word for least, word in GRADES if dice >= least)
