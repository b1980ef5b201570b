"""The page of the monitor: has anything shifted, what, by how much, since when.

One HTML file that needs nothing else. It holds no time of its own making, so that the same
store and choice give the same page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from string import Template

from ddmseg import __version__
from ddmseg.maths.shift import PERMUTATIONS, Shift
from ddmseg.monitoring.columns import GROUPS, Column, Group, column
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
from ddmseg.outputs.report.page import fact_list, folded, template_text

OPEN = 6
"""Plots of a group without shift that are open; the others are folded away."""
NAMED = 8
"""Statistics that the status line names."""


def render_monitor(comparison: Comparison) -> str:
    """Return the page as one self-contained HTML text; what comes from outside is escaped."""
    return Template(template_text("monitor.html")).substitute(
        title=escape(comparison.selection.model),
        style=template_text("report.css", "evaluation.css", "monitor.css"),
        script=template_text("evaluation.js"),
        facts=_facts(comparison),
        status=_status(comparison),
        notes=_notes(comparison.notes),
        tiles=_tiles(comparison),
        groups="".join(_group(comparison, group) for group in GROUPS),
        table=_table(comparison),
        untested=_untested(comparison),
        version=escape(__version__),
        permutations=PERMUTATIONS,
        thinned=_thinned(comparison),
    )


def status_line(comparison: Comparison) -> str:
    """Return the outcome in one line of plain text.

    Shifted statistics come with their change and the day of the first run after it.
    """
    count = len(comparison.found)
    if not count:
        return f"no shift found in {len(comparison.shifts)} statistics"
    named = [f"{_title(n)} {change_text(comparison, n)}" for n in comparison.found[:NAMED]]
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
    series = comparison.numbers[name]
    before, now = _number(series.median), _number(series.window_median)
    if before == now:
        spread = "another spread" if name in comparison.found else "the same median"
        return f"{spread}, {now}{_with_unit(name)}"
    size = moved(series.deviations)
    return f"{before} → {now}{_with_unit(name)}{f' ({size})' if size else ''}"


def _with_unit(name: str) -> str:
    unit = _known(name).unit
    return unit if unit in ("", "°") else f" {unit}"


def _known(name: str) -> Column:
    found = column(name)
    assert found is not None  # only such statistics are compared
    return found


def _title(name: str) -> str:
    return _known(name).title


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}"


def _days(comparison: Comparison, part: Part) -> str:
    lines = comparison.selection.of(part)
    first, last = (f"{time_of(lines[place]):%Y-%m-%d}" for place in (0, -1))
    return first if first == last else f"{first} – {last}"


def _facts(comparison: Comparison) -> str:
    selection = comparison.selection
    facts = {
        f"Reference, {len(selection.of('reference'))} scans": _days(comparison, "reference"),
        f"Window, {len(selection.of('window'))} scans": _days(comparison, "window"),
    }
    return fact_list(facts)


def _status(comparison: Comparison) -> str:
    tested = len(comparison.shifts)
    if not comparison.found:
        least = min((s.p_family for s in comparison.shifts.values()), default=math.nan)
        sentence = (
            f"None of {tested} statistics differs from the reference by more than chance: "
            f"smallest p over all of them {least:.2g}."
            if tested
            else "No statistic could be tested; the list at the end says why."
        )
        return (
            '<section class="status verdict pass"><div class="badge"><span>✓</span>No shift found'
            f"</div><p>{sentence} A small shift can still be there: see how to read this.</p>"
            "</section>"
        )
    items = [
        f"<li><b>{escape(_title(name))}</b> {escape(change_text(comparison, name))} "
        f"<small>p = {comparison.shifts[name].p_family:.2g}</small></li>"
        for name in comparison.found
    ]
    return (
        '<section class="status verdict fail"><div class="badge"><span>!</span>'
        f"Shift in {len(items)} of {tested} statistics</div>"
        f"<div>{folded(items, NAMED, 'more', ('<ul>', '</ul>'))}</div></section>"
    )


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        '<section class="card lines warn"><h2>Know before you read on</h2>'
        f"<ul>{items}</ul></section>"
    )


def _tiles(comparison: Comparison) -> str:
    """Three rates that a department asks for first, in reference and window."""
    verdicts = ("verdict", ("warn", "fail"), "Verdict warn or fail")
    edited = ("review", ("corrected",), "Corrected, of those reviewed")
    rejected = ("review", ("rejected",), "Rejected, of those reviewed")
    return "".join(_tile(comparison, *tile) for tile in (verdicts, edited, rejected))


def _tile(comparison: Comparison, name: str, words: Sequence[str], title: str) -> str:
    counts = {part: _count(comparison, name, words, part) for part in ("reference", "window")}
    if not all(total for _, total in counts.values()):
        why = "no review known: --reviews adds them" if name == "review" else "no run has it"
        return f'<div class="tile"><small>{title}</small><b>–</b><span>{why}</span></div>'
    (before, of_before), (now, of_now) = counts.values()
    return (
        f'<div class="tile"><small>{title}</small><b>{now / of_now:.0%}</b><span>{now} of '
        f"{of_now}; reference {before / of_before:.0%} ({before} of {of_before})</span></div>"
    )


def _count(comparison: Comparison, name: str, words: Sequence[str], part: str) -> tuple[int, int]:
    shares = comparison.categories.get(name)
    if shares is None:
        return 0, 0
    parts = comparison.selection.parts
    counts = Counter(v for v, own in zip(shares.values, parts, strict=True) if own == part and v)
    return sum(counts[word] for word in words), counts.total()


def _group(comparison: Comparison, group: Group) -> str:
    """The plots of one group: what shifted first, what cannot be tested left out."""
    names = [n for n in _ordered(comparison) if _known(n).group == group]
    if not names:
        return ""
    timeline = Timeline(comparison.selection)
    plots = [_plot(comparison, name, timeline) for name in names]
    shown = max(OPEN, sum(name in comparison.found for name in names))
    runs = folded(plots, shown, "more without shift", ('<div class="runs">', "</div>"))
    return f'<section class="card"><h2>{GROUPS[group]}</h2>{runs}</section>'


def _ordered(comparison: Comparison) -> Iterator[str]:
    """What shifted, the least likely first; then the rest in the order of the columns."""
    yield from comparison.found
    tested = comparison.shifts
    for name in (*comparison.categories, *comparison.numbers):
        if name in tested and name not in comparison.found:
            yield name


def _plot(comparison: Comparison, name: str, timeline: Timeline) -> str:
    known, since = _known(name), comparison.since.get(name)
    if name in comparison.numbers:
        series = comparison.numbers[name]
        svg = number_plot(known.title, series, timeline, unit=known.unit, since=since)
    else:
        svg = category_plot(known.title, comparison.categories[name], timeline, since=since)
    text = change_text(comparison, name)
    return (
        f'<figure class="run{" shifted" if since else ""}"><h3>{escape(known.title)}'
        f"</h3><p>{escape(text)}</p>{svg}</figure>"
    )


def _table(comparison: Comparison) -> str:
    heads = (
        *("Statistic", "n reference", "n window", "Reference", "Window", "Change", "KS"),
        *("PSI (limit)", "p", "p over all", "q"),
    )
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    rows = "".join(_row(comparison, name) for name in _ordered(comparison))
    return (
        f'<table class="scores shifts"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _row(comparison: Comparison, name: str) -> str:
    shift, known = comparison.shifts[name], _known(name)
    if name in comparison.numbers:
        series = comparison.numbers[name]
        band = f"{_number(series.low)} – {_number(series.high)}"
        before = f"{_number(series.median)} <small>{band}</small>"
        now, change = _number(series.window_median), moved(series.deviations)
    else:
        shares = comparison.categories[name]
        rows = shown_values(shares)
        before, now = (
            "<br>".join(f"{escape(word)} {shared(side, word, rows):.0%}" for word in rows)
            for side in (shares.reference, shares.window)
        )
        change = ""
    unit = f", {known.unit}" if known.unit else ""
    cells = (before, now, change, _share(shift.ks), _index(shift))
    chances = "".join(f"<td>{p:.2g}</td>" for p in (shift.p, shift.p_family, shift.q))
    return (
        f'<tr{" class=shifted" if name in comparison.found else ""}><th scope="row">'
        f"{escape(known.title)}{unit}</th><td>{shift.n_reference}</td><td>{shift.n_window}</td>"
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}{chances}</tr>"
    )


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _index(shift: Shift) -> str:
    if math.isnan(shift.psi):
        return "–"
    return f"{shift.psi:.2f} <small>{shift.psi_limit:.2f}</small>"


def _untested(comparison: Comparison) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(_title(name))}</th><td>{escape(why)}</td></tr>'
        for name, why in comparison.untested.items()
    )
    if not rows:
        return ""
    return (
        f'<details class="card"><summary>Not tested: {len(comparison.untested)}</summary>'
        f'<table class="receipt"><tbody>{rows}</tbody></table></details>'
    )


def _thinned(comparison: Comparison) -> str:
    step = Timeline(comparison.selection).step
    return f" Before the window one run of {step} is drawn; all count." if step > 1 else ""
