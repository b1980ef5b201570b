"""The page of one result: pictures, volumes, verdict and how it was made.

One HTML file that needs nothing else: styles, script and pictures are inside.
It holds no time but the day of the scan, so that the same segmentation gives the same page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ddmseg.imaging.grid import Grid
from ddmseg.imaging.labels import mirror_index
from ddmseg.outputs.report.figures import css_colour
from ddmseg.outputs.report.panels import MAPS, draw_panels, gradient
from ddmseg.outputs.text import render_template
from ddmseg.quality.reasons import SUBJECTS, subject
from ddmseg.quality.segmentation import INTRACRANIAL, Segmentation, StructureVolume, format_ml
from ddmseg.quality.standing_out import StandingRegion


class VerdictWords(NamedTuple):
    """What a page says of a verdict."""

    mark: str
    word: str
    advice: str


VERDICTS = {
    "pass": VerdictWords("✓", "Pass", "No check found anything to object to."),
    "warn": VerdictWords("!", "Warn", "Look at the pictures before you use these numbers."),
    "fail": VerdictWords("✕", "Fail", "Do not use these numbers."),
}
_MAP_TEXTS = {
    "uncertainty": "Entropy of the averaged class probabilities, from 0 (certain) to 1.",
    "discrepancy": "Where image and labels do not fit each other: high means doubtful.",
}

GRADES = ((0.85, "excellent"), (0.7, "good"), (0.5, "fair"), (-math.inf, "poor"))
"""Expected Dice from which on a structure is called so."""


def render_report(segmentation: Segmentation) -> str:
    """Return the page of a segmentation as one self-contained HTML text."""
    quality, out = segmentation.quality, segmentation.standing_out
    flat = dict(_flatten(segmentation.receipt))
    # what differs between equal runs is left out: they give equal pages
    receipt = {k: flat[k] for k in flat if "seconds" not in k and k != "features_from_cache"}
    told = {kind: [one for one in quality.reasons if subject(one) == kind] for kind in SUBJECTS}
    return render_template(
        "report.html",
        title=segmentation.scan.name,
        facts=_facts(segmentation, receipt),
        quality=quality,
        verdict=VERDICTS[quality.verdict],
        reasons={kind: own for kind, own in told.items() if own},
        panels=draw_panels(segmentation),
        names={row.index: row.name for row in segmentation.volumes},
        regions=None if out is None else out.regions,
        volumes=volume_tables(segmentation),
        receipt=list(receipt.items()),
        maps=list(MAPS),
        map_texts=_MAP_TEXTS,
        gradient=gradient,
        css_colour=css_colour,
        place_words=_place_words,
    )


def _facts(segmentation: Segmentation, receipt: Mapping[str, Any]) -> dict[str, str]:
    scan, quality = segmentation.scan, segmentation.quality
    spent = f"{quality.steps} steps × {quality.samples} samples" if quality.steps else "coarse head"
    return {
        "Taken": scan.date,
        "Grid": " × ".join(str(n) for n in scan.shape),
        "Voxel": " × ".join(f"{mm:.3g}" for mm in scan.spacing_mm) + " mm",
        "Axes": Grid(scan.shape, scan.affine).orientation,
        "Model": _named(receipt, "model"),
        "Mode": _named(receipt, "mode"),
        "Sampling": spent,
        "Seed": _named(receipt, "seed"),
    }


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


def _named(receipt: Mapping[str, Any], word: str) -> str:
    """Find a fact of the receipt wherever it is filed: ``model``, ``model.name``, ``x.model``."""
    filed = (k for k in receipt if k in (word, f"{word}.name") or k.endswith(f".{word}"))
    return str(receipt.get(next(filed, ""), ""))


def _place_words(region: StandingRegion) -> str:
    ends = zip(region.position_mm, ("RL", "AP", "SI"), strict=True)
    where = ", ".join(f"{end[value < 0]} {abs(value):.0f}" for value, end in ends)
    why = f"labels in doubt, {region.expected_error_ml:.2f} ml of them expected to be wrong"
    if region.by == "intensity":
        why = "does not look like this structure"
    return f"{region.volume_ml:.2f} ml at {where} mm: {why}"


def _flatten(value: object, key: str = "") -> Iterator[tuple[str, Any]]:
    """Turn nested mappings and lists into rows of dotted key and value."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
        for place, inner in enumerate(value):
            yield from _flatten(inner, f"{key}.{place}")
    else:
        yield key, value
