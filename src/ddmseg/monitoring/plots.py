"""Statistics over the runs as SVG: a dot per run, the reference's band, both medians.

Runs are evenly spaced in their order, because nights and holidays would press the rest
together. Each dot carries the place of its run in ``data-case``: the page shows one run
everywhere at once. Colours are the page's variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np

from ddmseg.evaluation.plots import signed, ticks
from ddmseg.monitoring.compare import Series, Shares
from ddmseg.monitoring.selection import Selection, time_of
from ddmseg.outputs.text import render_template

MOST_DOTS = 400
"""Runs drawn; of more, every second, third ... of those before the window."""
MOST_ROWS = 5
"""Values of a category with a row of their own."""
OTHERS = "all others"
_WIDTH, _HEIGHT = 400.0, 150.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 8.0, 6.0, 130.0
_SHARES = 84.0
_DAY_WIDTH = 92.0
_LETTER = 6.2
_FRAME = {"width": _WIDTH, "height": _HEIGHT, "top": _TOP, "bottom": _BOTTOM}

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

    def days(self, x: Place) -> Iterator[tuple[float, str, str]]:
        """Yield place, day and anchor of days: both ends, start of the window, what else fits."""
        last = len(self.times) - 1
        taken: list[float] = []
        for n in (0, last, self.first_of_window, round(self.first_of_window / 2)):
            if all(abs(x(n) - other) > _DAY_WIDTH for other in taken):
                taken.append(x(n))
                anchor = {0: "start", last: "end"}.get(n, "middle")
                yield x(n), self.times[n].date().isoformat(), anchor


def number_plot(
    title: str, series: Series, timeline: Timeline, *, unit: str, since: datetime | None
) -> str:
    """Return the plot of one number; ``since`` marks a change."""
    low, high = _range(series)
    return render_template(
        "timeline.html",
        **{**_FRAME, "left": _LEFT, "right": _WIDTH - _RIGHT},
        **{"title": title, "timeline": timeline, "since": since, "series": series, "unit": unit},
        ticks=ticks(low, high, 4),
        y=lambda value: _BOTTOM - (_BOTTOM - _TOP) * (float(value) - low) / (high - low),
        short_number=short_number,
    )


def category_plot(title: str, shares: Shares, timeline: Timeline, *, since: datetime | None) -> str:
    """Return the plot of one category: one row per value, its shares at the right."""
    words = shown_values(shares)
    height = (_BOTTOM - _TOP) / len(words)
    sides = (shares.reference, shares.window)
    rows = {
        word: (_TOP + height * (place + 0.5), *(shared(side, word, words) for side in sides))
        for place, word in enumerate(words)
    }
    left = min(150.0, 14 + _LETTER * max(map(len, words), default=0))
    return render_template(
        "timeline.html",
        **{**_FRAME, "left": left, "right": _WIDTH - _SHARES},
        **{"title": title, "timeline": timeline, "since": since, "series": None},
        **{"shares": shares, "rows": rows, "others": OTHERS},
    )


def shown_values(shares: Shares) -> list[str]:
    """Return the values that have a row, the commonest first; the rest share the last."""
    words = list(shares.reference)
    return words if len(words) <= MOST_ROWS else [*words[: MOST_ROWS - 1], OTHERS]


def shared(side: Mapping[str, float], row: str, rows: Sequence[str]) -> float:
    """Return the share of a row: of its value, or of all that have no row."""
    if row in side:
        return side[row]
    return sum(share for word, share in side.items() if word not in rows)


def _range(series: Series) -> tuple[float, float]:
    """The middle 98% of the values with band and medians: one spike must not flatten the rest."""
    known = series.values[np.isfinite(series.values)]
    ends = np.array([*np.percentile(known, [1, 99]), series.low, series.high, series.window_median])
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    inside = known[(known >= low - (high - low)) & (known <= high + (high - low))]
    low, high = min(low, float(inside.min())), max(high, float(inside.max()))
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin, high + margin


def short_number(value: float) -> str:
    """Return a number for an axis.

    >>> short_number(12500.0), short_number(-0.25), short_number(1.2e7)
    ('12500', '−0.25', '12M')
    """
    for least, size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / size:.4g}{letter}".replace("-", "−")
    return f"{value:.6g}".replace("-", "−")


def moved(deviations: float) -> str:
    """Return a change in standard deviations, "" where it has none.

    >>> moved(-1.234), moved(math.nan)
    ('−1.2 SD', '')
    """
    return f"{signed(round(deviations, 1), 2)} SD" if math.isfinite(deviations) else ""
