"""The tables of volumes and expected Dice in a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from ddmseg.outputs.report.figures import colour_of
from ddmseg.quality.segmentation import Quality, StructureVolume

SMALL_SHARE = 0.1
"""A structure below this share of the largest goes to a table with a scale of its own."""


def volume_tables(volumes: Sequence[StructureVolume], quality: Quality) -> str:
    """Return one table a size group, each with bars on its own linear scale.

    White matter has some 500 times the volume of an accumbens; on one scale the
    small structures would have no bar to see.
    """
    if not volumes:
        return '<p class="empty">No volumes were measured.</p>'
    limit = SMALL_SHARE * max(row.volume_ml for row in volumes)
    small = [row for row in volumes if row.volume_ml < limit]
    large = [row for row in volumes if row.volume_ml >= limit]
    # two tables must be worth their headings
    groups = [large, small] if len(small) > 2 else [list(volumes)]
    titles = ["Large structures", "Small structures"] if len(groups) == 2 else ["Structures"]
    return "".join(_table(title, rows, quality) for title, rows in zip(titles, groups, strict=True))


def format_ml(volume_ml: float) -> str:
    """Return a volume with about three significant digits.

    >>> format_ml(231.4), format_ml(18.26), format_ml(0.613)
    ('231', '18.3', '0.61')
    """
    digits = 0 if volume_ml >= 100 else 1 if volume_ml >= 10 else 2
    return f"{volume_ml:.{digits}f}"


def _table(title: str, rows: Sequence[StructureVolume], quality: Quality) -> str:
    end = _round_up(max(max(row.volume_ml, row.interval_high_ml) for row in rows))
    body = "".join(_row(row, end, quality.expected_dice_by_structure.get(row.name)) for row in rows)
    return (
        f'<table class="volumes"><caption>{title}</caption><thead><tr><th scope="col">Structure'
        f'</th><th scope="col">ml</th><th scope="col">95% interval</th><th scope="col" '
        f'class="axis"><span>0</span><span>{end:g} ml</span></th><th scope="col">'
        f"exp. Dice</th></tr></thead><tbody>{body}</tbody></table>"
    )


def _row(row: StructureVolume, end: float, dice: float | None) -> str:
    colour = "#{:02x}{:02x}{:02x}".format(*colour_of(row.index))
    low, high = (100 * edge / end for edge in (row.interval_low_ml, row.interval_high_ml))
    known = dice is not None and math.isfinite(dice)
    quality = f'<i style="--share:{dice:.2f}"></i>{dice:.2f}' if known else "–"
    return (
        f'<tr style="--c:{colour}"><th scope="row"><i class="swatch"></i>{escape(row.name)}</th>'
        f"<td>{format_ml(row.volume_ml)}</td>"
        f"<td>{format_ml(row.interval_low_ml)} – {format_ml(row.interval_high_ml)}</td>"
        f'<td class="axis"><div class="bar"><i style="width:{100 * row.volume_ml / end:.2f}%"></i>'
        f'<b style="left:{low:.2f}%;width:{high - low:.2f}%"></b></div></td>'
        f'<td class="dice">{quality}</td></tr>'
    )


def _round_up(value: float) -> float:
    """Return the first 1, 1.5, 2, 3, 4, 5, 6 or 8 times a power of ten at or above ``value``."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
    return next(float(f"{step * power:.6g}") for step in steps if value <= step * power * 1.000001)
