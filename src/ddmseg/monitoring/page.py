"""The page of the monitor: has anything shifted, what, by how much, since when.

One HTML file that needs nothing else. It holds no time of its own making, so that the same
store and choice give the same page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from ddmseg import __version__
from ddmseg.maths.shift import PERMUTATIONS
from ddmseg.monitoring.columns import GROUPS, Column, column
from ddmseg.monitoring.compare import Comparison
from ddmseg.monitoring.plots import (
    Timeline,
    category_plot,
    moved,
    number_plot,
    shared,
    shown_values,
)
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
    timeline = Timeline(comparison.selection)
    groups = {title: _in_group(comparison, group) for group, title in GROUPS.items()}
    return render_template(
        "monitor.html",
        comparison=comparison,
        facts={_part_title(comparison, part): _days(comparison, part) for part in _PARTS},
        rates=[(title, name, _rate(comparison, name, words)) for name, words, title in _RATES],
        groups={title: names for title, names in groups.items() if names},
        ordered=list(_ordered(comparison)),
        least=min((s.p_family for s in comparison.shifts.values()), default=math.nan),
        opened=OPEN,
        named=NAMED,
        permutations=PERMUTATIONS,
        step=timeline.step,
        version=__version__,
        known=_known,
        change=lambda name: change_text(comparison, name),
        plot=lambda name: _plot(comparison, name, timeline),
        number=_number,
        moved=moved,
        shared=shared,
        shown_values=shown_values,
    )


def status_line(comparison: Comparison) -> str:
    """Return the outcome in one line of plain text.

    Shifted statistics come with their change and the day of the first run after it.
    """
    count = len(comparison.found)
    if not count:
        return f"no shift found in {len(comparison.shifts)} statistics"
    named = [f"{_known(n).title} {change_text(comparison, n)}" for n in comparison.found[:NAMED]]
    rest = f" and {count - NAMED} more" if count > NAMED else ""
    return f"{count} of {len(comparison.shifts)} statistics shifted: {'; '.join(named)}{rest}"


def change_text(comparison: Comparison, name: str) -> str:
    """Return by how much a statistic changed, and since when where it shifted."""
    text = _change(comparison, name)
    since = comparison.since.get(name)
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
    size = moved(series.deviations)
    return f"{before} → {now}{unit}{f' ({size})' if size else ''}"


def _known(name: str) -> Column:
    found = column(name)
    assert found is not None  # only such statistics are compared
    return found


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}"


def _part_title(comparison: Comparison, part: Part) -> str:
    return f"{part.capitalize()}, {len(comparison.selection.of(part))} scans"


def _days(comparison: Comparison, part: Part) -> str:
    lines = comparison.selection.of(part)
    first, last = (f"{time_of(lines[place]):%Y-%m-%d}" for place in (0, -1))
    return first if first == last else f"{first} – {last}"


def _rate(comparison: Comparison, name: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Return how many runs of reference and window have one of some words, of how many."""
    shares = comparison.categories.get(name)
    if shares is None:
        return [(0, 0), (0, 0)]
    pairs = list(zip(shares.values, comparison.selection.parts, strict=True))
    counts = [Counter(v for v, own in pairs if own == part and v) for part in _PARTS]
    return [(sum(count[word] for word in words), count.total()) for count in counts]


def _in_group(comparison: Comparison, group: str) -> list[str]:
    """The statistics of a group: what shifted first, what cannot be tested left out."""
    return [name for name in _ordered(comparison) if _known(name).group == group]


def _ordered(comparison: Comparison) -> Iterator[str]:
    """What shifted, the least likely first; then the rest in the order of the columns."""
    yield from comparison.found
    for name in (*comparison.categories, *comparison.numbers):
        if name in comparison.shifts and name not in comparison.found:
            yield name


def _plot(comparison: Comparison, name: str, timeline: Timeline) -> str:
    known, since = _known(name), comparison.since.get(name)
    if name in comparison.numbers:
        series = comparison.numbers[name]
        return number_plot(known.title, series, timeline, unit=known.unit, since=since)
    return category_plot(known.title, comparison.categories[name], timeline, since=since)
