"""The tables of a report: totals, left and right side by side, and what has no side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from ddmseg.imaging.labels import mirror_index
from ddmseg.outputs.report.figures import colour_of
from ddmseg.quality.segmentation import (
    INTRACRANIAL,
    Asymmetry,
    Segmentation,
    StructureVolume,
    format_ml,
)

GRADES = ((0.85, "excellent"), (0.7, "good"), (0.5, "fair"), (-math.inf, "poor"))
"""Expected Dice from which on a structure is called so."""


def volume_tables(segmentation: Segmentation) -> str:
    """Return the tables of all that was measured."""
    if not segmentation.volumes:
        return '<p class="empty">No volumes were measured.</p>'
    columns = (_sides(segmentation), _totals(segmentation) + _middle(segmentation))
    return "".join(f"<div>{column}</div>" for column in columns if column)


def grade(dice: float | None) -> str:
    """Return an expected Dice in a word, such as ``good``; a dash where it is not known."""
    if dice is None or not math.isfinite(dice):
        return "–"
    return next(word for least, word in GRADES if dice >= least)


def _totals(segmentation: Segmentation) -> str:
    """What structures add up to; both sides of one stand in the next table."""
    head = segmentation.total(INTRACRANIAL)
    rows = [
        f"<tr>{_name(row)}{_volume(row)}<td>{_share(row, head)}</td></tr>"
        for row in segmentation.sums
    ]
    rows += [
        f'<tr><th scope="row">{escape(_words(name))}</th><td colspan="2">not measured: '
        f"{escape(why)}</td></tr>"
        for name, why in segmentation.not_measured.items()
    ]
    return _table("Totals", ("", "ml", "of intracranial"), rows)


def _sides(segmentation: Segmentation) -> str:
    """Both sides of each structure, with what stands out in the last columns."""
    by_index = {row.index: row for row in segmentation.volumes}
    sides = {one.name: one for one in segmentation.asymmetries}
    dice = segmentation.quality.expected_dice_by_structure
    rows = []
    for left in segmentation.volumes:
        right = by_index.get(mirror_index(left.index))
        if not left.name.startswith("Left-") or right is None:
            continue
        known = [dice[row.name] for row in (left, right) if row.name in dice]
        rows.append(
            f"<tr>{_name(left, left.name.removeprefix('Left-'))}{_volume(left)}{_volume(right)}"
            f"{_asymmetry(sides.get(left.name.removeprefix('Left-')))}{_dice(known)}</tr>"
        )
    return _table("Left and right", ("", "left ml", "right ml", "L − R", "expected"), rows)


def _middle(segmentation: Segmentation) -> str:
    """What has no partner on the other side among the structures."""
    there = {row.index for row in segmentation.volumes}
    names = {row.name for row in segmentation.volumes}
    sides = {one.name: one for one in segmentation.asymmetries if one.name in names}
    dice = segmentation.quality.expected_dice_by_structure
    rows = [
        f"<tr>{_name(row)}{_volume(row)}{_asymmetry(sides.get(row.name)) if sides else ''}"
        f"{_dice([dice[row.name]] if row.name in dice else [])}</tr>"
        for row in segmentation.volumes
        if mirror_index(row.index) == row.index or mirror_index(row.index) not in there
    ]
    between = ("L − R",) if sides else ()
    return _table("Other structures", ("", "ml", *between, "expected"), rows)


def _table(title: str, head: Sequence[str], rows: Sequence[str]) -> str:
    if not rows:
        return ""
    cells = "".join(f'<th scope="col">{word}</th>' for word in head)
    return (
        f'<table class="volumes"><caption>{title}</caption><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _words(name: str) -> str:
    return name.replace("-", " ")


def _name(row: StructureVolume, name: str = "") -> str:
    swatch = ""
    if row.index:
        colour = "#{:02x}{:02x}{:02x}".format(*colour_of(row.index))
        swatch = f'<i class="swatch" style="--c:{colour}"></i>'
    return f'<th scope="row">{swatch}{escape(_words(name or row.name))}</th>'


def _volume(row: StructureVolume) -> str:
    low, high = format_ml(row.interval_low_ml), format_ml(row.interval_high_ml)
    return f"<td>{format_ml(row.volume_ml)}<small>{low} – {high}</small></td>"


def _share(row: StructureVolume, head: StructureVolume | None) -> str:
    return f"{100 * row.volume_ml / head.volume_ml:.1f}%" if head and head.volume_ml else "–"


def _asymmetry(one: Asymmetry | None) -> str:
    """A difference is set off where its interval leaves 0 out."""
    if one is None:
        return "<td>–</td>"
    stands_out = one.interval_low > 0 or one.interval_high < 0
    shown = f"{one.percent:+.0f}%".replace("-", "−")
    return f"<td>{f'<b>{shown}</b>' if stands_out else shown}</td>"


def _dice(known: Sequence[float]) -> str:
    """The lower one of a pair."""
    finite = [value for value in known if math.isfinite(value)]
    lowest = min(finite) if finite else None
    number = "" if lowest is None else f"<small>Dice {lowest:.2f}</small>"
    return f'<td class="{grade(lowest).replace("–", "unknown")}">{grade(lowest)}{number}</td>'
