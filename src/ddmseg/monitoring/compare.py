"""A window of runs against a reference: what shifted, by how much, since when."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.maths.shift import (
    SMALLEST_REFERENCE,
    SMALLEST_WINDOW,
    Shift,
    change_point,
    find_shifts,
    reference_distances,
    shifted,
)
from ddmseg.monitoring.columns import CATEGORIES, DISTANCE, FEATURE, NUMBERS, VOLUME, Line
from ddmseg.monitoring.selection import Selection, time_of

BAND = (5.0, 95.0)
"""Percentiles of the reference between which its band lies."""
_NORMAL_BAND = 3.29
"""Width of that band of a normal distribution, in standard deviations."""

Floats = NDArray[np.float64]
Words = list[str | None]


@dataclass(frozen=True)
class Series:
    """One number of all runs, in their order; NaN where a run has none.

    ``low`` and ``high`` bound the reference's band; ``deviations`` lead from one median to the
    other, in standard deviations of the reference (from its band; NaN where that is one value).
    """

    values: Floats
    low: float
    high: float
    median: float
    window_median: float
    deviations: float


@dataclass(frozen=True)
class Shares:
    """One category of all runs, and the share of each value in both parts, commonest first."""

    values: Words
    reference: dict[str, float]
    window: dict[str, float]

    @property
    def gained(self) -> str:
        """The value whose share grew most."""
        return max(self.window, key=lambda word: self.window[word] - self.reference[word])


@dataclass(frozen=True)
class Comparison:
    """All that the page shows.

    Attributes:
        shifts: of what could be tested, by name.
        found: names of what shifted, the least likely first.
        since: first run after the likeliest change, by name of what shifted.
        untested: why a statistic could not be tested, by name.
        notes: for the reader, a sentence each.
    """

    selection: Selection
    numbers: dict[str, Series]
    categories: dict[str, Shares]
    shifts: dict[str, Shift]
    found: list[str]
    since: dict[str, datetime]
    untested: dict[str, str]
    notes: list[str]


def compare_runs(
    selection: Selection, columns: Sequence[str], *, notes: Sequence[str] = ()
) -> Comparison:
    """Compare window and reference in every statistic that the page knows, of these columns."""
    lines, parts = selection.lines, np.array(selection.parts)
    volumes = [name for name in columns if name.startswith(VOLUME)]
    numbers = {name: _values(lines, name) for name in NUMBERS if name in columns}
    numbers |= {name: _values(lines, name) for name in volumes}
    categories = {name: _words(lines, name) for name in CATEGORIES if name in columns}
    features, foreign = _features(selection, columns)
    if foreign:
        notes = (*notes, f"{foreign} runs of other weights have no distance: features differ")
    known = ~np.isnan(features).any(1) & (features.shape[1] > 0)
    compared = parts != "other"
    shifts = find_shifts(
        (parts == "window")[compared],
        numbers={name: values[compared] for name, values in numbers.items()},
        categories={name: _codes(values)[compared] for name, values in categories.items()},
        features={DISTANCE: features[compared]} if known.any() else None,
    )
    if known.any():
        numbers[DISTANCE] = _distances(features, known, parts)
    tested = {shift.name: shift for shift in shifts}
    shares = {name: _shares(values, parts) for name, values in categories.items()}
    found = [shift.name for shift in shifted(shifts)]
    every: dict[str, Floats | Words] = {**numbers, **categories}
    # of a category, the value that gained most counts as 1 against all others
    dated = numbers | {name: _gained(shares[name]) for name in found if name in shares}
    return Comparison(
        selection=selection,
        numbers={name: _series(values, parts) for name, values in numbers.items()},
        categories=shares,
        shifts=tested,
        found=found,
        since={name: _since(dated[name], selection) for name in found},
        untested={n: _why_untested(v, parts) for n, v in every.items() if n not in tested},
        notes=[*selection.notes, *notes],
    )


def _values(lines: Sequence[Line], name: str) -> Floats:
    found = (line.get(name) for line in lines)
    values = np.array([value if isinstance(value, float) else math.nan for value in found])
    values[np.isinf(values)] = math.nan
    return values


def _words(lines: Sequence[Line], name: str) -> Words:
    return [value if isinstance(value := line.get(name), str) else None for line in lines]


def _codes(values: Words) -> NDArray[np.int64]:
    places = {word: place for place, word in enumerate(sorted({v for v in values if v}))}
    return np.array([-1 if v is None else places[v] for v in values], np.int64)


def _features(selection: Selection, columns: Sequence[str]) -> tuple[Floats, int]:
    """Features of the runs whose weights most of the reference has; other weights, other axes."""
    features = feature_table(columns, selection.lines)
    common = Counter(line.get("weights") for line in selection.of("reference"))
    own, _ = common.most_common(1)[0]
    foreign = np.array([line.get("weights") != own for line in selection.lines])
    features[foreign] = math.nan
    return features, int(foreign.sum())


def feature_table(columns: Sequence[str], rows: Sequence[Line]) -> Floats:
    """Return the features of many lines (``line channel``), NaN where a line has none."""
    channels = [_values(rows, name) for name in columns if name.startswith(FEATURE)]
    return np.array(channels).reshape(len(channels), len(rows)).T


def _distances(features: Floats, known: NDArray[np.bool_], parts: NDArray[Any]) -> Floats:
    """Distance of each run from the reference, as the tests see it."""
    distances = np.full(len(parts), math.nan)
    reference = (parts == "reference")[known]
    if reference.sum() >= SMALLEST_REFERENCE:
        distances[known] = reference_distances(features[known], reference[None])[0]
    return distances


def _series(values: Floats, parts: NDArray[Any]) -> Series:
    reference, window = (values[(parts == p) & ~np.isnan(values)] for p in ("reference", "window"))
    median = float(np.median(window)) if len(window) else math.nan
    if not len(reference):
        return Series(values, *(math.nan,) * 3, median, math.nan)
    low, middle, high = map(float, np.percentile(reference, [BAND[0], 50, BAND[1]]))
    deviation = (high - low) / _NORMAL_BAND
    moved = (median - middle) / deviation if deviation > 0 else math.nan
    return Series(values, low, high, middle, median, moved)


def _shares(values: Words, parts: NDArray[Any]) -> Shares:
    order = [word for word, _ in Counter(filter(None, values)).most_common()]

    def share(part: str) -> dict[str, float]:
        inside = [v for v, own in zip(values, parts, strict=True) if own == part and v]
        return {word: inside.count(word) / len(inside) if inside else 0.0 for word in order}

    return Shares(values, share("reference"), share("window"))


def _gained(shares: Shares) -> Floats:
    gained = shares.gained
    return np.array([math.nan if v is None else float(v == gained) for v in shares.values])


def _since(values: Floats, selection: Selection) -> datetime:
    """Time of the first run after the likeliest change, among reference, window and between."""
    start = selection.parts.index("reference")
    return time_of(selection.lines[start + change_point(values[start:])])


def _why_untested(values: Floats | Words, parts: NDArray[Any]) -> str:
    pairs = [
        (v, own) for v, own in zip(values, parts, strict=True) if v not in (None, "") and v == v
    ]
    reference, window = ([v for v, own in pairs if own == p] for p in ("reference", "window"))
    if not reference and not window:
        return "no run has it"
    if len(reference) >= SMALLEST_REFERENCE and len(window) >= SMALLEST_WINDOW:
        always = reference[0]
        shown = always if isinstance(always, str) else f"{always:.4g}"
        return f"always {shown}: what never varies cannot be tested"
    return (
        f"{len(reference)} runs of the reference and {len(window)} of the window have it; at least "
        f"{SMALLEST_REFERENCE} and {SMALLEST_WINDOW} are needed"
    )
