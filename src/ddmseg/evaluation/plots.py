"""Plots of scores as SVG: Dice of every patient by structure, and volumes after Bland and Altman.

Each dot carries the place of its patient in ``data-case``, so that the page can show one
patient everywhere at once. Colours are the page's variables: dark on screen, light on paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

import numpy as np

from ddmseg.errors import UsageError
from ddmseg.evaluation.scores import Agreement, Summary
from ddmseg.imaging.labels import structure
from ddmseg.maths.case_scores import Score
from ddmseg.outputs.report.figures import colour_of

Across = Callable[[float], float]
"""From a value to its place in the picture."""

_ROW, _TALL_ROW, _FEW = 25.0, 40.0, 8
_LEFT, _WIDE, _RIGHT = 212.0, 740.0, 196.0
_TOP = 24.0
_OTHER_IDS = 10**6
_GOLDEN = 0.618033988749895

_BOX_WIDTH, _BOX_HEIGHT = 300.0, 196.0
_EDGE = {"left": 46.0, "right": 8.0, "top": 8.0, "bottom": 34.0}


def shape(tag: str, kind: str, text: str = "", **numbers: float | str) -> str:
    """Return an SVG element of a class; numbers are places and lengths, to a tenth of a unit.

    An underscore in a name stands for a hyphen; the text is inside the element, as markup.
    """
    attributes = "".join(
        f' {name.replace("_", "-")}="{value if isinstance(value, str) else f"{value:.1f}"}"'
        for name, value in numbers.items()
    )
    return f'<{tag} class="{kind}"{attributes}>{text}</{tag}>'


def across_line(kind: str, y: float, x1: float, x2: float) -> str:
    """Return a horizontal line."""
    return shape("line", kind, x1=x1, x2=x2, y1=y, y2=y)


def down_line(kind: str, x: float, y1: float, y2: float) -> str:
    """Return a vertical line."""
    return shape("line", kind, x1=x, x2=x, y1=y1, y2=y2)


def drawing(kind: str, size: tuple[float, float], title: str, parts: Iterable[str]) -> str:
    """Return the SVG of a plot; the title is what a screen reader says."""
    return (
        f'<svg class="{kind}" viewBox="0 0 {size[0]:g} {size[1]:g}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def dice_plot(
    scores: Mapping[str, Sequence[Score]],
    summaries: Mapping[str, Summary],
    places: Mapping[str, int],
) -> str:
    """Return one row per structure: a dot per patient, a box, and the mean with its interval.

    Scores and summaries of Dice are by structure, in the order to draw; the place of each case is
    its ``data-case``.
    """
    known = [s.dice for rows in scores.values() for s in rows if math.isfinite(s.dice)]
    # the axis begins at a tenth: differences near 1 are what one looks for
    start = math.floor(min(known, default=0.0) * 10 + 1e-9) / 10
    start = min(start, 0.9)
    row = _ROW if len(scores) > _FEW else _TALL_ROW
    height = _TOP + row * len(scores) + 6

    def across(value: float) -> float:
        return _LEFT + _WIDE * (value - start) / (1 - start)

    parts = [_dice_axis(start, across, height)]
    for number, (name, rows) in enumerate(scores.items()):
        band = (_TOP + row * (number + 0.5), row)
        parts.append(_dice_row(name, rows, summaries[name], places, band, across))
    size = (_LEFT + _WIDE + _RIGHT, height)
    return drawing("plot dice-plot", size, "Dice of every patient by structure", parts)


def volume_plot(
    name: str, rows: Sequence[Score], found: Agreement, places: Mapping[str, int]
) -> str:
    """Return one Bland-Altman plot: difference of the volumes against their mean, in ml.

    A patient with the structure in neither map is left out.
    """
    measured = [s for s in rows if s.truth_ml > 0 or s.prediction_ml > 0]
    means = [(s.truth_ml + s.prediction_ml) / 2 for s in measured]
    differences = [s.prediction_ml - s.truth_ml for s in measured]
    x0, x1 = _padded(means)
    limits = [v for v in (found.low_ml, found.high_ml) if math.isfinite(v)]
    y0, y1 = _padded([*differences, *limits, 0.0])
    right, bottom = _BOX_WIDTH - _EDGE["right"], _BOX_HEIGHT - _EDGE["bottom"]

    def across(value: float) -> float:
        return _EDGE["left"] + (right - _EDGE["left"]) * (value - x0) / (x1 - x0)

    def down(value: float) -> float:
        return bottom - (bottom - _EDGE["top"]) * (value - y0) / (y1 - y0)

    parts = [_volume_axes((x0, x1), (y0, y1), across, down), _volume_lines(found, right, down)]
    parts += [
        _dot(s, places[s.case], across(x), down(y), f"{signed(y)} ml")
        for s, x, y in zip(measured, means, differences, strict=True)
    ]
    picture = drawing("plot", (_BOX_WIDTH, _BOX_HEIGHT), f"Volume differences of {name}", parts)
    return (
        f'<div class="agreement" style="--c:{colour_text(rows[0])}"><h3><i class="swatch"></i>'
        f"{escape(name)}</h3><p>{_agreement_text(found)}</p>{picture}</div>"
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
    return "#{:02x}{:02x}{:02x}".format(*colour_of(score.index + (0 if own else _OTHER_IDS)))


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


def _dice_axis(start: float, across: Across, height: float) -> str:
    parts = []
    for value in ticks(start, 1.0, 10 if start < 0.75 else 6):
        x = across(value)
        parts.append(down_line("grid", x, _TOP - 4, height - 4))
        parts.append(shape("text", "tick", f"{value:g}", x=x, y=_TOP - 10, text_anchor="middle"))
    return "".join(parts)


def _dice_row(
    name: str,
    rows: Sequence[Score],
    summary: Summary,
    places: Mapping[str, int],
    band: tuple[float, float],
    across: Across,
) -> str:
    """``band`` is the middle and the height of the row."""
    middle, row = band
    known = [s for s in rows if math.isfinite(s.dice)]
    # a fixed scatter that keeps equal values apart
    scatter = [middle + 0.46 * row * ((n * _GOLDEN) % 1 - 0.5) for n in range(len(known))]
    width = _LEFT + _WIDE + _RIGHT
    parts = [
        shape("rect", "row", x=0.0, y=middle - row / 2, width=width, height=row),
        shape("text", "row-name", escape(name), x=_LEFT - 14, y=middle + 4, text_anchor="end"),
        shape("text", "figure", interval_text(summary, 3), x=_LEFT + _WIDE + 14, y=middle + 4),
        _box([s.dice for s in known], middle, 0.62 * row, across),
        *(
            _dot(s, places[s.case], across(s.dice), y, f"Dice {s.dice:.3f}")
            for s, y in zip(known, scatter, strict=True)
        ),
        _mean_mark(summary, middle, across),
    ]
    return f'<g style="--c:{colour_text(rows[0])}">{"".join(parts)}</g>'


def _box(values: Sequence[float], middle: float, height: float, across: Across) -> str:
    """The middle half of at least four values, with the median; fewer make no box."""
    if len(values) < 4:
        return ""
    low, median, high = (across(float(v)) for v in np.percentile(values, [25, 50, 75]))
    top, width = middle - height / 2, max(high - low, 1.0)
    half = shape("rect", "half", x=low, y=top, width=width, height=height, rx=2.0)
    return half + down_line("median", median, top, top + height)


def _mean_mark(summary: Summary, middle: float, across: Across) -> str:
    interval = summary.interval
    if math.isnan(interval.mean):
        return ""
    x = across(interval.mean)
    mark = shape("circle", "mean", cx=x, cy=middle, r=3.4)
    if math.isnan(interval.low):
        return mark
    return across_line("interval", middle, across(interval.low), across(interval.high)) + mark


def interval_text(summary: Summary, digits: int) -> str:
    """Return ``0.874 (0.864 – 0.883)``, the mean alone for one patient, a dash for none."""
    interval = summary.interval
    if math.isnan(interval.mean):
        return "–"
    text = f"{interval.mean:.{digits}f}"
    if not math.isnan(interval.low):
        text += f" ({interval.low:.{digits}f} – {interval.high:.{digits}f})"
    return text


def _dot(score: Score, place: int, x: float, y: float, value: str) -> str:
    title = f"<title>{escape(score.case)}: {value}</title>"
    return shape("circle", "dot", title, data_case=str(place), cx=x, cy=y, r=3.0)


def _agreement_text(found: Agreement) -> str:
    if not found.n:
        return "in neither map of any patient"
    text = f"bias {signed(found.bias_ml)} ml"
    if math.isfinite(found.low_ml):
        text += f", limits {signed(found.low_ml)} to {signed(found.high_ml)} ml"
    return text


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a margin; around a single value a range of its size."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def _volume_axes(
    x_range: tuple[float, float], y_range: tuple[float, float], across: Across, down: Across
) -> str:
    left, right = _EDGE["left"], _BOX_WIDTH - _EDGE["right"]
    bottom = _BOX_HEIGHT - _EDGE["bottom"]
    parts = []
    for value in ticks(*y_range, 4):
        y = down(value)
        parts.append(across_line("grid" if value else "grid zero", y, left, right))
        parts.append(shape("text", "tick", signed(value), x=left - 6, y=y + 3.5, text_anchor="end"))
    low = [(across(value), bottom + 14, f"{value:g}") for value in ticks(*x_range, 5)]
    for x, y, text in (*low, ((left + right) / 2, bottom + 29, "mean of both, ml")):
        parts.append(shape("text", "tick", text, x=x, y=y, text_anchor="middle"))
    return "".join(parts)


def _volume_lines(found: Agreement, right: float, down: Across) -> str:
    if not found.n:
        return ""
    left = _EDGE["left"]
    bias = across_line("bias", down(found.bias_ml), left, right)
    if math.isnan(found.low_ml):
        return bias
    top, bottom = down(found.high_ml), down(found.low_ml)
    height = max(bottom - top, 0.5)
    return shape("rect", "limits", x=left, y=top, width=right - left, height=height) + bias
