"""Statistics over the runs as SVG: a dot per run, the reference's band, both medians.

Runs are evenly spaced in their order, because nights and holidays would press the rest
together. Each dot carries the place of its run in ``data-case``: the page shows one run
everywhere at once. Colours are the page's variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape

import numpy as np

from ddmseg.evaluation.plots import across_line, down_line, drawing, shape, signed, ticks
from ddmseg.monitoring.compare import Series, Shares
from ddmseg.monitoring.selection import Selection, time_of

MOST_DOTS = 400
"""Runs drawn; of more, every second, third ... of those before the window."""
MOST_ROWS = 5
"""Values of a category with a row of their own."""
OTHERS = "all others"
_WIDTH, _HEIGHT = 400.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 8.0, 6.0, 20.0
_SHARES = 84.0
_DAY_WIDTH = 92.0
_LETTER = 6.2

Place = Callable[[float], float]


class Timeline:
    """Where runs stand from left to right, the same in every plot."""

    def __init__(self, selection: Selection) -> None:
        before = [n for n, part in enumerate(selection.parts) if part != "window"]
        inside = [n for n, part in enumerate(selection.parts) if part == "window"]
        room = max(1, MOST_DOTS - len(inside))
        self.step = -(-len(before) // room) if before else 1
        self.drawn = [*before[:: self.step], *inside]
        self.times = [time_of(line) for line in selection.lines]
        self.parts = selection.parts
        self.first_of_window = inside[0]

    def across(self, left: float, right: float) -> Place:
        """Return the map from the place of a run to that in a plot between two edges."""
        last = max(len(self.times) - 1, 1)
        return lambda n: left + 4 + (right - left - 8) * n / last

    def place_of(self, time: datetime) -> float:
        """Return the place of the first run from a time on, half a run before it."""
        return next(n for n, own in enumerate(self.times) if own >= time) - 0.5

    def days(self, x: Place, bottom: float) -> str:
        """Days under the axis: both ends, the start of the window, and what else fits."""
        last = len(self.times) - 1
        taken: dict[float, int] = {}
        for n in (0, last, self.first_of_window, round(self.first_of_window / 2)):
            if all(abs(x(n) - other) > _DAY_WIDTH for other in taken):
                taken[x(n)] = n
        anchors = {0: "start", last: "end"}
        return "".join(
            _tick(self.times[n].date().isoformat(), at, bottom + 14, anchors.get(n, "middle"))
            for at, n in taken.items()
        )


def number_plot(
    title: str, series: Series, timeline: Timeline, *, unit: str, since: datetime | None
) -> str:
    """Return the plot of one number; ``since`` marks a change."""
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    x = timeline.across(_LEFT, right)
    low, high = _range(series)

    def y(value: float) -> float:
        return bottom - (bottom - _TOP) * (value - low) / (high - low)

    parts = [_window(timeline, x, right, bottom)]
    if math.isfinite(series.low):
        top, height = y(series.high), max(y(series.low) - y(series.high), 1.0)
        parts.append(shape("rect", "band", x=_LEFT, y=top, width=right - _LEFT, height=height))
    parts += [_value_axis(low, high, y, right), timeline.days(x, bottom)]
    edge = x(timeline.first_of_window - 0.5)
    parts.append(_level("reference-level", series.median, _LEFT, edge, y))
    parts += [
        _dot(timeline, n, x(n), y(value), f"{value:.4g}{f' {unit}' if unit else ''}")
        for n in timeline.drawn
        if math.isfinite(value := float(series.values[n]))
    ]
    parts.append(_level("window-level", series.window_median, edge, right, y))
    parts.append(_since(timeline, since, x, bottom))
    return drawing("plot", (_WIDTH, _HEIGHT), f"{title} over all runs", parts)


def category_plot(title: str, shares: Shares, timeline: Timeline, *, since: datetime | None) -> str:
    """Return the plot of one category: one row per value, its shares at the right."""
    rows = shown_values(shares)
    bottom = _HEIGHT - _BOTTOM
    height = (bottom - _TOP) / len(rows)
    longest = max((len(row) for row in rows), default=0)
    left = min(150.0, 14 + _LETTER * longest)
    x = timeline.across(left, _WIDTH - _SHARES)
    parts = [_window(timeline, x, _WIDTH - _SHARES, bottom)]
    middles = {row: _TOP + height * (place + 0.5) for place, row in enumerate(rows)}
    for row, middle in middles.items():
        before, after = (shared(side, row, rows) for side in (shares.reference, shares.window))
        text = f"{before:.0%} → {after:.0%}"
        parts += [
            across_line("grid", middle, left, _WIDTH - _SHARES),
            _tick(escape(_cut(row)), left - 8, middle + 3.5, "end"),
            shape("text", "figure", text, x=_WIDTH - 2, y=middle + 4, text_anchor="end"),
        ]
    for n in timeline.drawn:
        value = shares.values[n]
        if value is not None:
            row = value if value in middles else OTHERS
            parts.append(_dot(timeline, n, x(n), middles[row], value))
    parts += [timeline.days(x, bottom), _since(timeline, since, x, bottom)]
    return drawing("plot", (_WIDTH, _HEIGHT), f"{title} over all runs", parts)


def shown_values(shares: Shares) -> list[str]:
    """Return the values that have a row, the commonest first; the rest share the last."""
    words = list(shares.reference)
    return words if len(words) <= MOST_ROWS else [*words[: MOST_ROWS - 1], OTHERS]


def shared(side: Mapping[str, float], row: str, rows: Sequence[str]) -> float:
    """Return the share of a row: of its value, or of all that have no row."""
    if row in side:
        return side[row]
    return sum(share for word, share in side.items() if word not in rows)


def _cut(text: str) -> str:
    return text if len(text) <= 22 else f"{text[:21]}…"


def _range(series: Series) -> tuple[float, float]:
    """The middle 98% of the values with band and medians: one spike must not flatten the rest."""
    known = series.values[np.isfinite(series.values)]
    ends = [*np.percentile(known, [1, 99]), series.low, series.high, series.window_median]
    low, high = (float(f(np.array(ends)[np.isfinite(ends)])) for f in (np.min, np.max))
    inside = known[(known >= low - (high - low)) & (known <= high + (high - low))]
    low, high = min(low, float(inside.min())), max(high, float(inside.max()))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def _window(timeline: Timeline, x: Place, right: float, bottom: float) -> str:
    edge = x(timeline.first_of_window - 0.5)
    return shape("rect", "window", x=edge, y=_TOP, width=right - edge, height=bottom - _TOP)


def _value_axis(low: float, high: float, y: Place, right: float) -> str:
    return "".join(
        across_line("grid", y(value), _LEFT, right)
        + _tick(short_number(value), _LEFT - 6, y(value) + 3.5, "end")
        for value in ticks(low, high, 4)
    )


def _tick(text: str, x: float, y: float, anchor: str) -> str:
    return shape("text", "tick", text, x=x, y=y, text_anchor=anchor)


def short_number(value: float) -> str:
    """Return a number for an axis.

    >>> short_number(12500.0), short_number(-0.25), short_number(1.2e7)
    ('12500', '−0.25', '12M')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e5, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}".replace("-", "−")
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def _level(kind: str, value: float, left: float, right: float, y: Place) -> str:
    return across_line(kind, y(value), left, right) if math.isfinite(value) else ""


def _dot(timeline: Timeline, n: int, x: float, y: float, value: str) -> str:
    """One run; what lies beyond the plot is a triangle at its edge."""
    kind, place = f"dot {timeline.parts[n]}", str(n)
    title = f"<title>{timeline.times[n]:%Y-%m-%d %H:%M}: {escape(value)}</title>"
    if y < _TOP - 3:
        triangle = f"M{x - 3:.1f} {_TOP + 4:g}h6l-3 -5z"
        return shape("path", kind, title, data_case=place, d=triangle)
    return shape("circle", kind, title, data_case=place, cx=x, cy=y, r=2.4)


def _since(timeline: Timeline, since: datetime | None, x: Place, bottom: float) -> str:
    if since is None:
        return ""
    return down_line("since", max(x(timeline.place_of(since)), x(0)), _TOP, bottom)


def moved(deviations: float) -> str:
    """Return a change in standard deviations, "" where it has none.

    >>> moved(-1.234), moved(math.nan)
    ('−1.2 SD', '')
    """
    return f"{signed(round(deviations, 1), 2)} SD" if math.isfinite(deviations) else ""
