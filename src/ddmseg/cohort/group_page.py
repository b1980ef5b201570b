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
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ddmseg import __version__
from ddmseg.cohort.group import EMPTY, Group
from ddmseg.outputs.text import render_template

LIMIT = 3.5
"""Deviations above which a scan is called out. Source: Iglewicz and Hoaglin 1993."""
LEAST = 10
"""Scans without which nothing can be called out."""
DOTS, FIRST = 20, 200
"""Outliers drawn on each side of a row, and scans in the first table."""
_BINS = 48
_WIDTH, _LEFT, _RIGHT, _ROW = 340.0, 40.0, 8.0, 30.0
_DIFFERENCE = "L−R"
"""Label of the difference of both sides."""

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
    """Return the page of at least one scan as one HTML text; its links lead from ``folder``.

    ``missing`` has the reason for each subject, session and scan without a row.
    """
    links = [quote(Path(os.path.relpath(row.report, folder)).as_posix()) for row in group.rows]
    names = [row.scan for row in group.rows]
    structures = _structures(group)
    reasons = Counter(code for row in group.rows for code in row.codes)
    subjects = {row.about["participant_id"] for row in group.rows} - {EMPTY}
    return render_template(
        "group.html",
        group=group,
        links=links,
        facts={
            "Model": ", ".join(sorted({row.about["model"] for row in group.rows})),
            "Measurements": str(len(group.columns)),
            "Subjects": str(len(subjects) or ""),
        },
        notes=notes,
        missing=missing,
        verdicts=Counter(row.about["verdict"] for row in group.rows),
        seconds=float(np.median([float(row.runtime["seconds"]) for row in group.rows])),
        limit=LIMIT,
        dots=DOTS,
        shown=FIRST,
        first=_first(group, structures),
        plots=[_plot(name, rows, names, links) for name, rows in structures.items()],
        sides=_sides(structures),
        reasons=sorted(reasons.items(), key=lambda item: (-item[1], item[0])),
        version=__version__,
    )


def mixtures(group: Group) -> list[str]:
    """Return a line for each thing that the scans of a group should have in common and have not."""
    lines = []
    for name, told in (("ddmseg", "versions"), ("weights_sha256", "weights")):
        counts = Counter(row.about[name] for row in group.rows)
        if len(counts) > 1:
            listed = ", ".join(f"{n} of {value[:12]}" for value, n in sorted(counts.items()))
            lines.append(f"results of different {told} stand side by side: {listed}")
    return lines


def distances(values: Values) -> Values:
    """Return how many deviations each value lies from the median; 0 where that says nothing.

    >>> distances(np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 40])).round(1)[-1]
    np.float64(9.3)
    """
    known = values[np.isfinite(values)]
    middle, deviation = _spread(known)
    if len(known) < LEAST or deviation == 0:
        return np.zeros_like(values)
    far: Values = np.nan_to_num((values - middle) / deviation)
    return far


def _spread(known: Values) -> tuple[float, float]:
    """Return the median, and the deviation from it by that of the absolute deviations."""
    if not len(known):
        return math.nan, 0.0
    middle = float(np.median(known))
    return middle, 1.4826 * float(np.median(np.abs(known - middle)))


def _structures(group: Group) -> dict[str, list[Measured]]:
    """Return the volumes by structure: both sides and their difference, or the one there is."""
    columns = [name for name in group.columns if name.endswith("_ml")]
    volumes = {name.removesuffix("_ml"): _column(group, name) for name in columns}
    found: dict[str, list[Measured]] = {}
    for name, values in volumes.items():
        side, dash, base = name.partition("-")
        if dash and side in ("Left", "Right") and {f"Left-{base}", f"Right-{base}"} <= set(volumes):
            if side == "Left":
                right = volumes[f"Right-{base}"]
                rows = {"L": values, "R": right, _DIFFERENCE: asymmetry(values, right)}
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


@dataclass(frozen=True)
class _Row:
    """A row of a plot: what lies where on it, from ``low`` to ``end``; ``base`` is its foot."""

    label: str
    unit: str
    base: float
    low: float
    high: float
    end: float
    across: Callable[[float], float]
    quantiles: list[float]
    curve: list[tuple[float, float]]
    outliers: list[tuple[int, float]]


def _plot(name: str, rows: Sequence[Measured], names: Sequence[str], links: Sequence[str]) -> str:
    finite = {row.label: row.values[np.isfinite(row.values)] for row in rows}
    difference = finite.pop(_DIFFERENCE, np.array([]))
    volumes = np.concatenate([*finite.values()])  # both sides have one scale
    if not len(volumes):
        return ""
    drawn: list[_Row] = []
    for row in rows:
        own = difference if row.label == _DIFFERENCE else volumes
        if len(own):
            drawn.append(_plot_row(row, _span(own), len(drawn) * (_ROW + 12)))
    return render_template(
        "group_plot.html",
        **{"name": name, "rows": drawn, "names": names, "links": links},
        **{"left": _LEFT, "right": _WIDTH - _RIGHT},
        **{"width": _WIDTH, "height": len(drawn) * (_ROW + 12) + 2},
        short=_short,
    )


def _span(values: Values) -> tuple[float, float]:
    """Return what a row shows: all, or 8 deviations about the median where some lie beyond."""
    middle, deviation = _spread(values)
    far = 8 * deviation or math.inf
    return max(float(values.min()), middle - far), min(float(values.max()), middle + far)


def _plot_row(row: Measured, span: tuple[float, float], top: float) -> _Row:
    low, end = span
    width = max(end - low, 1e-9)

    def across(value: float) -> float:
        inside = min(max(value, low), end)  # what lies further stands at the edge
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (inside - low) / width

    known = row.values[np.isfinite(row.values)]
    counts, edges = np.histogram(known, bins=_BINS, range=(low, low + width))
    rises = (_ROW - 8) * counts / max(counts.max(), 1)
    return _Row(
        *(row.label, "%" if row.label == _DIFFERENCE else " ml"),
        *(top + _ROW - 6, low, low + width, end),
        across=across,
        quantiles=[across(v) for v in np.percentile(known, [5, 25, 50, 75, 95])],
        curve=list(zip((edges[:-1] + edges[1:]) / 2, rises, strict=True)),
        outliers=[(n, float(row.values[n])) for n in _outliers(row)],
    )


def _outliers(row: Measured) -> list[int]:
    """Return the places of the outliers that are drawn, the furthest of each side."""
    order = [int(n) for n in np.argsort(row.distances, kind="stable")]
    low = [n for n in order if row.distances[n] < -LIMIT][:DOTS]
    high = [n for n in order[::-1] if row.distances[n] > LIMIT][:DOTS]
    return [*low, *reversed(high)]


def _first(
    group: Group, structures: Mapping[str, Sequence[Measured]]
) -> list[tuple[int, list[str]]]:
    """Return the scans to look at, failed ones first, with their outliers, the furthest first."""
    told: list[list[tuple[float, str]]] = [[] for _ in group.rows]
    for name, rows in structures.items():
        for row in rows:
            for place in np.flatnonzero(np.abs(row.distances) > LIMIT):
                z = float(row.distances[place])
                told[place].append((-abs(z), f"{name} {row.label} {z:+.1f}".replace("  ", " ")))
    failed = [row.about["verdict"] == "fail" for row in group.rows]
    chosen = [n for n in range(len(told)) if failed[n] or told[n]]
    chosen.sort(key=lambda n: (not failed[n], min(told[n], default=(0.0, "")), n))
    return [(n, [text for _, text in sorted(told[n])]) for n in chosen]


def _sides(structures: Mapping[str, Sequence[Measured]]) -> list[tuple[str, list[float], int]]:
    """Return name, medians of left, right and difference, and outliers of the difference."""
    found = []
    for name, rows in structures.items():
        if len(rows) == 3 and all(np.isfinite(one.values).any() for one in rows):
            medians = [float(np.nanmedian(one.values)) for one in rows]
            found.append((name, medians, int(np.sum(np.abs(rows[2].distances) > LIMIT))))
    return found


def _short(value: float) -> str:
    """Return a number with three digits, whole from 100 on.

    >>> _short(1312.4), _short(-5.138)
    ('1312', '-5.14')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
