"""The page of a group: distributions with outliers, verdicts, left and right, missing subjects.

One HTML file that needs nothing else, but for the reports that it leads to. It holds no time
of its own making: the same results give the same page.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ddmseg import __version__
from ddmseg.cohort.group import EMPTY, Group
from ddmseg.outputs.report.page import fact_list, template_text

LIMIT = 3.5
"""Deviations above which a scan is called out. Source: Iglewicz and Hoaglin 1993."""
LEAST = 10
"""Scans without which nothing can be called out."""
DOTS, FIRST = 20, 200
"""Outliers drawn on each side of a row, and scans in the first table."""
_BINS = 48
_WIDTH, _LEFT, _RIGHT, _ROW = 340.0, 40.0, 8.0, 30.0

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One measurement of all scans, NaN where a scan has none, and each one's distance."""

    label: str
    values: Values
    distances: Values


def render_group(
    group: Group, folder: Path, missing: Mapping[str, str], notes: Sequence[str]
) -> str:
    """Return the page as one HTML text; what comes from outside is escaped.

    Args:
        group: of at least one scan.
        folder: of the page, from which its links lead.
        missing: subjects, sessions and scans without a row, with the reason.
        notes: what is to be known before reading on.
    """
    links = [_link(row.report, folder) for row in group.rows]
    names = [row.scan for row in group.rows]
    structures = _structures(group)
    plots = "".join(_plot(name, rows, names, links) for name, rows in structures.items())
    first, more = _first(group, structures, links)
    return Template(template_text("group.html")).substitute(
        scans=len(names),
        style=template_text("report.css", "evaluation.css", "group.css"),
        facts=_facts(group),
        notes=_notes(notes),
        tiles=_tiles(group, missing),
        missing=_missing(missing),
        limit=LIMIT,
        dots=DOTS,
        first=first,
        more=more,
        plots=plots,
        sides=_sides(structures),
        reasons=_counts("Reason", Counter(code for row in group.rows for code in row.codes)),
        version=escape(__version__),
    )


def mixtures(group: Group) -> list[str]:
    """Return a line for each thing that the scans of a group should have in common and have not."""
    lines = []
    for name, told in (("ddmseg", "versions"), ("weights_sha256", "weights")):
        counts = Counter(row.about[name] for row in group.rows)
        if len(counts) > 1:
            listed = ", ".join(
                f"{count} of {value[:12]}" for value, count in sorted(counts.items())
            )
            lines.append(f"results of different {told} stand side by side: {listed}")
    return lines


def distances(values: Values) -> Values:
    """Return how many deviations each value lies from the median; 0 where that says nothing.

    >>> distances(np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 40])).round(1)[-1]
    np.float64(9.3)
    """
    known = values[np.isfinite(values)]
    if len(known) < LEAST:
        return np.zeros_like(values)
    middle = np.median(known)
    deviation = 1.4826 * np.median(np.abs(known - middle))
    if deviation == 0:
        return np.zeros_like(values)
    far: Values = np.nan_to_num((values - middle) / deviation)
    return far


def _link(report: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(report, folder)).as_posix())


def _structures(group: Group) -> dict[str, list[Measured]]:
    """Return the volumes by structure: both sides and their difference, or the one there is."""
    columns = [name for name in group.columns if name.endswith("_ml")]
    volumes = {name.removesuffix("_ml"): _column(group, name) for name in columns}
    found: dict[str, list[Measured]] = {}
    for name, values in volumes.items():
        side, dash, base = name.partition("-")
        if dash and side in ("Left", "Right") and {f"Left-{base}", f"Right-{base}"} <= set(volumes):
            if side == "Left":
                left, right = values, volumes[f"Right-{base}"]
                rows = {"L": left, "R": right, "L−R": asymmetry(left, right)}
                found[base] = [Measured(k, v, distances(v)) for k, v in rows.items()]
        elif f"Left-{name}" not in volumes:  # both sides together say nothing new
            found[name] = [Measured("", values, distances(values))]
    return found


def _column(group: Group, name: str) -> Values:
    cells = (row.values.get(name, EMPTY) for row in group.rows)
    return np.array([math.nan if cell == EMPTY else float(cell) for cell in cells])


def asymmetry(left: Values, right: Values) -> Values:
    """Return the difference of both sides in percent of their mean; NaN without a volume.

    >>> asymmetry(np.array([3.0, 0.0]), np.array([1.0, 0.0]))
    array([100.,  nan])
    """
    total = left + right
    return np.divide(200 * (left - right), total, out=np.full_like(total, np.nan), where=total > 0)


def _plot(name: str, rows: Sequence[Measured], names: Sequence[str], links: Sequence[str]) -> str:
    body, top = [], 0.0
    volumes = [row.values[np.isfinite(row.values)] for row in rows if row.label != "L−R"]
    known = np.concatenate(volumes)
    if not len(known):
        return ""
    for row in rows:
        own = known if row.label != "L−R" else row.values[np.isfinite(row.values)]
        if len(own):
            body.append(_plot_row(row, _span(own), top, names, links))
            top += _ROW + 12
    return (
        f'<div class="agreement"><h3>{escape(name)}</h3><svg class="plot" role="img" '
        f'aria-label="{escape(name)}" viewBox="0 0 {_WIDTH:g} {top + 2:g}">'
        f"{''.join(body)}</svg></div>"
    )


def _span(values: Values) -> tuple[float, float]:
    """Return what a row shows: all, or 8 deviations about the median where some lie beyond."""
    middle = np.median(values)
    deviation = 8 * 1.4826 * np.median(np.abs(values - middle)) or math.inf
    return (
        float(max(values.min(), middle - deviation)),
        float(min(values.max(), middle + deviation)),
    )


def _plot_row(
    row: Measured,
    span: tuple[float, float],
    top: float,
    names: Sequence[str],
    links: Sequence[str],
) -> str:
    low, high = span
    width = max(high - low, 1e-9)
    unit = "%" if row.label == "L−R" else " ml"

    def across(value: float) -> float:
        inside = min(max(value, low), high)  # what lies further stands at the edge
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (inside - low) / width

    known = row.values[np.isfinite(row.values)]
    base, middle = top + _ROW - 6, top + _ROW - 12
    p5, q1, median, q3, p95 = (across(v) for v in np.percentile(known, [5, 25, 50, 75, 95]))
    counts, edges = np.histogram(known, bins=_BINS, range=(low, low + width))
    heights = (_ROW - 8) * counts / max(counts.max(), 1)
    corners = " ".join(
        f"{across(x):.1f},{base - h:.1f}"
        for x, h in zip((edges[:-1] + edges[1:]) / 2, heights, strict=True)
    )
    dots = "".join(_dot(row, n, across, middle, names, links, unit) for n in _outliers(row))
    return (
        f'<text x="2" y="{base:.1f}">{row.label}</text>'
        f'<polygon class="curve" points="{across(low):.1f},{base:.1f} {corners} '
        f'{across(low + width):.1f},{base:.1f}"/>'
        f'<path class="range" d="M{p5:.1f} {middle:.1f}H{p95:.1f}"/>'
        f'<rect class="box" x="{q1:.1f}" y="{middle - 4:.1f}" width="{q3 - q1:.1f}" height="8"/>'
        f'<path class="middle" d="M{median:.1f} {middle - 6:.1f}v12"/>{dots}'
        f'<text class="tick" x="{_LEFT:g}" y="{base + 10:.1f}">{_short(low)}{unit}</text>'
        f'<text class="tick" x="{_WIDTH - _RIGHT:g}" y="{base + 10:.1f}" text-anchor="end">'
        f"{_short(high)}{unit}</text>"
    )


def _outliers(row: Measured) -> list[int]:
    """Return the places of the outliers that are drawn, the furthest of each side."""
    order = [int(n) for n in np.argsort(row.distances, kind="stable")]
    low = [n for n in order if row.distances[n] < -LIMIT][:DOTS]
    high = [n for n in order[::-1] if row.distances[n] > LIMIT][:DOTS]
    return [*low, *reversed(high)]


def _dot(
    row: Measured,
    place: int,
    across: Callable[[float], float],
    y: float,
    names: Sequence[str],
    links: Sequence[str],
    unit: str,
) -> str:
    value = row.values[place]
    return (
        f'<a href="{links[place]}"><circle cx="{across(value):.1f}" cy="{y:.1f}" r="3.2">'
        f"<title>{escape(names[place])}: {value:.4g}{unit}</title></circle></a>"
    )


def _facts(group: Group) -> str:
    models = sorted({row.about["model"] for row in group.rows})
    facts = {"Model": ", ".join(models), "Measurements": str(len(group.columns))}
    subjects = {row.about["participant_id"] for row in group.rows} - {EMPTY}
    if subjects:
        facts["Subjects"] = str(len(subjects))
    return fact_list(facts)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    title = "<h2>Know before you read on</h2>"
    return f'<section class="card lines warn">{title}<ul>{items}</ul></section>'


def _tiles(group: Group, missing: Mapping[str, str]) -> str:
    verdicts = Counter(row.about["verdict"] for row in group.rows)
    seconds = np.median([float(row.runtime["seconds"]) for row in group.rows])
    total = len(group.rows)
    told = {"pass": "pass", "warn": "warn", "fail": "fail"}
    tiles = [
        (text, str(verdicts[word]), f"{verdicts[word] / total:.0%}") for word, text in told.items()
    ]
    tiles += [("missing", str(len(missing)), "without a result")] if missing else []
    tiles.append(("seconds", f"{seconds:.1f}", "of processing per scan, median"))
    return "".join(
        f'<div class="tile"><small>{title}</small><b>{number}</b><span>{more}</span></div>'
        for title, number, more in tiles
    )


def _missing(missing: Mapping[str, str]) -> str:
    if not missing:
        return ""
    rows = "".join(
        f'<tr><th>{escape(name)}</th><td class="text">{escape(why)}</td></tr>'
        for name, why in missing.items()
    )
    return (
        f'<details class="card" open><summary>{len(missing)} without a result</summary>'
        f'<div class="wide"><table class="scores">{rows}</table></div></details>'
    )


def _first(
    group: Group, structures: Mapping[str, Sequence[Measured]], links: Sequence[str]
) -> tuple[str, str]:
    """Return the table of the scans to look at, and how many it leaves out."""
    told: list[list[tuple[float, str]]] = [[] for _ in links]
    for name, rows in structures.items():
        for row in rows:
            for place in np.flatnonzero(np.abs(row.distances) > LIMIT):
                z = float(row.distances[place])
                told[place].append((-abs(z), f"{name} {row.label} {z:+.1f}".replace("  ", " ")))
    failed = [row.about["verdict"] == "fail" for row in group.rows]
    chosen = [n for n in range(len(links)) if failed[n] or told[n]]
    chosen.sort(key=lambda n: (not failed[n], min(told[n], default=(0.0, "")), n))
    rest = len(chosen) - FIRST
    more = f"The first {FIRST} of {len(chosen)} are shown." if rest > 0 else ""
    if not chosen:
        return '<p class="empty">None failed, and none lies far from the others.</p>', more
    lines = []
    for n in chosen[:FIRST]:
        about = group.rows[n].about
        why = ", ".join(text for _, text in sorted(told[n])[:5])
        lines.append(
            f'<tr class="{escape(about["verdict"])}"><th><a href="{links[n]}">'
            f"{escape(group.rows[n].stem)}</a></th><td>{escape(about['verdict'])}</td>"
            f"<td>{about['expected_dice']}</td><td>{len(told[n])}</td>"
            f'<td class="text">{escape(why)}</td>'
            f'<td class="text">{escape(about["reasons"])}</td></tr>'
        )
    head = _head(
        "Scan", "Verdict", "Expected Dice", "Outliers", "Furthest, in deviations", "Reasons"
    )
    return f'<table class="scores">{head}{"".join(lines)}</table>', more


def _sides(structures: Mapping[str, Sequence[Measured]]) -> str:
    rows = []
    for name, measured in structures.items():
        if len(measured) == 3 and all(np.isfinite(one.values).any() for one in measured):
            left, right, difference = (np.nanmedian(one.values) for one in measured)
            far = int(np.sum(np.abs(measured[2].distances) > LIMIT))
            rows.append(
                f"<tr><th>{escape(name)}</th><td>{left:.4g}</td><td>{right:.4g}</td>"
                f"<td>{difference:+.1f} %</td><td>{far}</td></tr>"
            )
    if not rows:
        return '<p class="empty">No structure has two sides.</p>'
    head = _head(
        "Structure", "Left, median ml", "Right, median ml", "L−R, median", "Outliers of L−R"
    )
    return f'<table class="scores">{head}{"".join(rows)}</table>'


def _counts(title: str, counts: Counter[str]) -> str:
    if not counts:
        return '<p class="empty">None.</p>'
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{count}</td></tr>" for k, count in ordered)
    return f'<table class="scores">{_head(title, "Scans")}{rows}</table>'


def _head(*titles: str) -> str:
    cells = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return f"<thead><tr>{cells}</tr></thead>"


def _short(value: float) -> str:
    """Return a number with three digits, whole from 100 on.

    >>> _short(1312.4), _short(-5.138)
    ('1312', '-5.14')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
