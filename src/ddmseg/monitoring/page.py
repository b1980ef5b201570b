"""The page of the monitor: has anything shifted, what, by how much, since when.

One HTML file that needs nothing else. It holds no time of its own making, so that the same
store and choice give the same page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ddmseg import __version__
from ddmseg.maths.shift import PERMUTATIONS
from ddmseg.monitoring import plots
from ddmseg.monitoring.columns import GROUPS, Column, column
from ddmseg.monitoring.compare import Comparison
from ddmseg.monitoring.selection import Part, time_of
from ddmseg.outputs.text import render_template

OPEN = 6
"""Plots of a group without shift that are open; the others are folded away."""
NAMED = 8
"""Statistics that the status line names."""
_PARTS: tuple[Part, Part] = ("reference", "window")
_RATES = (
    ("verdict", ("warn", "fail"), "Verdict warn or fail"),
    ("review", ("corrected",), "Corrected, of those reviewed"),
    ("review", ("rejected",), "Rejected, of those reviewed"),
)
"""Three rates that a department asks for first: statistic, words that count, title."""


def render_monitor(comparison: Comparison) -> str:
    """Return the page as one self-contained HTML text."""
    timeline = plots.Timeline(comparison.selection)
    # what shifted, the least likely first; then the rest in the order of the columns
    ordered = comparison.found + [
        name
        for name in (*comparison.categories, *comparison.numbers)
        if name in comparison.shifts and name not in comparison.found
    ]
    groups = {
        title: [name for name in ordered if _known(name).group == group]
        for group, title in GROUPS.items()
    }
    return render_template(
        "monitor.html",
        comparison=comparison,
        facts=dict(_fact(comparison, part) for part in _PARTS),
        rates=[(title, name, _rate(comparison, name, words)) for name, words, title in _RATES],
        groups={title: names for title, names in groups.items() if names},
        ordered=ordered,
        least=min((s.p_family for s in comparison.shifts.values()), default=math.nan),
        opened=OPEN,
        named=NAMED,
        permutations=PERMUTATIONS,
        step=timeline.step,
        version=__version__,
        known=_known,
        change=lambda name: _change_text(comparison, name),
        plot=lambda name: _plot(comparison, name, timeline),
        number=_number,
        moved=plots.moved,
        shared=plots.shared,
        shown_values=plots.shown_values,
    )


def status_line(comparison: Comparison) -> str:
    """Return the outcome in one line of plain text.

    Shifted statistics come with their change and the day of the first run after it.
    """
    count = len(comparison.found)
    if not count:
        return f"no shift found in {len(comparison.shifts)} statistics"
    named = [f"{_known(n).title} {_change_text(comparison, n)}" for n in comparison.found[:NAMED]]
    rest = f" and {count - NAMED} more" if count > NAMED else ""
    return f"{count} of {len(comparison.shifts)} statistics shifted: {'; '.join(named)}{rest}"


def _change_text(comparison: Comparison, name: str) -> str:
    """Return by how much a statistic changed, and since when where it shifted."""
    text, since = _change(comparison, name), comparison.since.get(name)
    return f"{text}, since about {since:%Y-%m-%d}" if since else text


def _change(comparison: Comparison, name: str) -> str:
    if name not in comparison.numbers:
        shares = comparison.categories[name]
        word = shares.gained
        return f"{word} {shares.reference[word]:.0%} → {shares.window[word]:.0%}"
    series, unit = comparison.numbers[name], _known(name).unit
    unit = unit if unit in ("", "°") else f" {unit}"
    before, now = _number(series.median), _number(series.window_median)
    if before == now:
        spread = "another spread" if name in comparison.found else "the same median"
        return f"{spread}, {now}{unit}"
    size = plots.moved(series.deviations)
    return f"{before} → {now}{unit}{f' ({size})' if size else ''}"


def _known(name: str) -> Column:
    found = column(name)
    assert found is not None  # only such statistics are compared
    return found


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}"


def _fact(comparison: Comparison, part: Part) -> tuple[str, str]:
    """Return how many scans a part has, and its days."""
    lines = comparison.selection.of(part)
    first, last = (f"{time_of(lines[place]):%Y-%m-%d}" for place in (0, -1))
    days = first if first == last else f"{first} – {last}"
    return f"{part.capitalize()}, {len(lines)} scans", days


def _rate(comparison: Comparison, name: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Return how many runs of reference and window have one of some words, of how many."""
    shares = comparison.categories.get(name)
    if shares is None:
        return [(0, 0), (0, 0)]
    pairs = list(zip(shares.values, comparison.selection.parts, strict=True))
    counts = [Counter(v for v, own in pairs if own == part and v) for part in _PARTS]
    return [(sum(count[word] for word in words), count.total()) for count in counts]


def _plot(comparison: Comparison, name: str, timeline: plots.Timeline) -> str:
    known, since = _known(name), comparison.since.get(name)
    if name in comparison.numbers:
        series = comparison.numbers[name]
        return plots.number_plot(known.title, series, timeline, unit=known.unit, since=since)
    shares = comparison.categories[name]
    return plots.category_plot(known.title, shares, timeline, since=since)
