"""Plots of scores as SVG: Dice of every patient by structure, and volumes after Bland and Altman.

Each dot carries the place of its patient in ``data-case``, so that the page can show one
patient everywhere at once. Colours are the page's variables: dark on screen, light on paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ddmseg.errors import UsageError
from ddmseg.evaluation.scores import Agreement, Summary
from ddmseg.imaging.labels import structure
from ddmseg.maths.case_scores import Score
from ddmseg.outputs.report.figures import css_colour
from ddmseg.outputs.text import render_template

Across = Callable[[float], float]
"""From a value to its place in the picture."""

_ROW, _TALL_ROW, _FEW = 25.0, 40.0, 8
_LEFT, _WIDE, _RIGHT = 212.0, 740.0, 196.0
_TOP = 24.0
_OTHER_IDS = 10**6
_GOLDEN = 0.618033988749895

_BOX_WIDTH, _BOX_HEIGHT = 300.0, 196.0
_EDGE = {"left": 46.0, "right": 8.0, "top": 8.0, "bottom": 34.0}


@dataclass(frozen=True)
class _Row:
    """A structure of the plot of Dice; places are in the picture, quartiles of four or more."""

    name: str
    colour: str
    summary: Summary
    middle: float
    dots: list[tuple[Score, float]]
    quartiles: list[float]


def dice_plot(
    scores: Mapping[str, Sequence[Score]],
    summaries: Mapping[str, Summary],
    places: Mapping[str, int],
) -> str:
    """Return one row per structure, in order: a dot per patient, a box, the mean's interval."""
    known = [s.dice for rows in scores.values() for s in rows if math.isfinite(s.dice)]
    # the axis begins at a tenth: differences near 1 are what one looks for
    start = min(math.floor(min(known, default=0.0) * 10 + 1e-9) / 10, 0.9)
    row = _ROW if len(scores) > _FEW else _TALL_ROW

    def across(value: float) -> float:
        return _LEFT + _WIDE * (value - start) / (1 - start)

    rows = [
        _row(name, own, summaries[name], _TOP + row * (number + 0.5), row, across)
        for number, (name, own) in enumerate(scores.items())
    ]
    return render_template(
        "dice_plot.html",
        **{"left": _LEFT, "wide": _WIDE, "right": _RIGHT, "top": _TOP},
        height=_TOP + row * len(scores) + 6,
        row=row,
        rows=rows,
        ticks=ticks(start, 1.0, 10 if start < 0.75 else 6),
        across=across,
        places=places,
        interval_text=interval_text,
    )


def _row(
    name: str, rows: Sequence[Score], summary: Summary, middle: float, row: float, across: Across
) -> _Row:
    known = [s for s in rows if math.isfinite(s.dice)]
    # a fixed scatter that keeps equal values apart
    dots = [(s, middle + 0.46 * row * ((n * _GOLDEN) % 1 - 0.5)) for n, s in enumerate(known)]
    quartiles: list[float] = []
    if len(known) >= 4:
        found = np.percentile([s.dice for s in known], [25, 50, 75])
        quartiles = [across(float(value)) for value in found]
    return _Row(name, colour_text(rows[0]), summary, middle, dots, quartiles)


def volume_plot(
    name: str, rows: Sequence[Score], found: Agreement, places: Mapping[str, int]
) -> str:
    """Return one Bland-Altman plot: difference of the volumes against their mean, in ml.

    A patient with the structure in neither map is left out.
    """
    dots = [
        (s, (s.truth_ml + s.prediction_ml) / 2, s.prediction_ml - s.truth_ml)
        for s in rows
        if s.truth_ml > 0 or s.prediction_ml > 0
    ]
    x0, x1 = _padded([mean for _, mean, _ in dots])
    limits = [v for v in (found.low_ml, found.high_ml) if math.isfinite(v)]
    y0, y1 = _padded([*(difference for *_, difference in dots), *limits, 0.0])
    left, right = _EDGE["left"], _BOX_WIDTH - _EDGE["right"]
    top, bottom = _EDGE["top"], _BOX_HEIGHT - _EDGE["bottom"]
    return render_template(
        "volume_plot.html",
        **{"left": left, "right": right, "bottom": bottom},
        **{"width": _BOX_WIDTH, "height": _BOX_HEIGHT, "name": name},
        colour=colour_text(rows[0]),
        found=found,
        dots=dots,
        x_ticks=ticks(x0, x1, 5),
        y_ticks=ticks(y0, y1, 4),
        across=lambda value: left + (right - left) * (value - x0) / (x1 - x0),
        down=lambda value: bottom - (bottom - top) * (value - y0) / (y1 - y0),
        places=places,
        signed=signed,
    )


def colour_text(score: Score) -> str:
    """Return FreeSurfer's colour of a structure, or a hue of its own for another protocol's id.

    >>> colour_text(Score("a", "Left-Hippocampus", 17, *[0.5] * 7))
    '#dcd814'
    """
    try:
        own = structure(score.index).name == score.structure
    except UsageError:
        own = False
    # high ids have no colour in FreeSurfer's table
    return css_colour(score.index + (0 if own else _OTHER_IDS))


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return at most ``count`` + 1 round numbers from ``low`` to ``high``: steps of 1, 2 or 5.

    >>> ticks(0.0, 10.0, 5), ticks(-0.03, 0.05, 4)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [-0.02, 0.0, 0.02, 0.04])
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def signed(value: float, digits: int = 3) -> str:
    """Return a number with its sign and a real minus.

    >>> signed(-0.12345), signed(2.0), signed(0.0)
    ('−0.123', '+2', '0')
    """
    text = f"{value:+.{digits}g}".replace("-", "\N{MINUS SIGN}")
    return text if value else "0"


def interval_text(summary: Summary, digits: int) -> str:
    """Return ``0.874 (0.864 – 0.883)``, the mean alone for one patient, a dash for none."""
    interval = summary.interval
    if math.isnan(interval.mean):
        return "–"
    text = f"{interval.mean:.{digits}f}"
    if not math.isnan(interval.low):
        text += f" ({interval.low:.{digits}f} – {interval.high:.{digits}f})"
    return text


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a margin; around a single value a range of its size."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin
