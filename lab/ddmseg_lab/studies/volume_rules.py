"""Rules for the interval of a volume, none fitted on the subject that it is tested on.

One constant relative width for each structure; bounds around the soft volume in units of the
doubt that the discrepancy gives; bounds around the mean of samples in units of how these differ
(``ddmseg.quality.volume_intervals``). All are split conformal for 95%.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.quality.volume_intervals import (
    LEAST_SPREAD,
    MOST_DOUBT,
    Ends,
    Sizes,
    by_doubt,
    by_samples,
    drawn_to_usual,
    holding_the_found,
)
from ddmseg.training.volume_calibration import FEWEST_VOXELS, bounds
from ddmseg_lab.made_up_heads import INTACT
from ddmseg_lab.statistics_text import as_dict, interval
from ddmseg_lab.studies.interval_scores import interval_score

COUNTS = ("size", "hits", "missed", "soft")
Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Cases:
    """One structure in many heads: an entry each, volumes as logs over the volume found."""

    sizes: Sequence[Sizes]
    true: NDArray[np.float64]
    subjects: NDArray[Any]

    def where(self, chosen: NDArray[np.bool_]) -> Cases:
        """Return some of them."""
        sizes = [one for one, wanted in zip(self.sizes, chosen, strict=True) if wanted]
        return Cases(sizes, self.true[chosen], self.subjects[chosen])


Rule = Callable[[Cases], Callable[[Sizes], Ends]]
"""Fits a rule on cases; what comes back gives the ends of an interval, as logs."""


def constant(cases: Cases) -> Callable[[Sizes], Ends]:
    """One relative width around the volume found."""
    low, high = holding_the_found(_ends(cases.true.tolist()))
    return lambda sizes: (low, high)


def scaled(cases: Cases) -> Callable[[Sizes], Ends]:
    """The doubt by the discrepancy, around the soft volume."""
    pairs = zip(cases.sizes, cases.true.tolist(), strict=True)
    ends = holding_the_found(_ends([(x - s.log_share(s.soft)) / s.doubt for s, x in pairs]))
    return lambda sizes: by_doubt(sizes, ends)


def samples(cases: Cases) -> Callable[[Sizes], Ends]:
    """How samples differ, around their mean."""
    usual = max(float(np.median([s.spread for s in cases.sizes])), LEAST_SPREAD)
    pairs = zip(cases.sizes, cases.true.tolist(), strict=True)
    ratios = [(x - s.log_share(s.mean)) / drawn_to_usual(s.spread, usual) for s, x in pairs]
    low, high = _ends(ratios)
    return lambda sizes: by_samples(sizes, (usual, low, high))


def _ends(ratios: Sequence[float]) -> Ends:
    """Return bounds; none that is finite where too few cases show them."""
    low, high = bounds(ratios) or (-math.inf, math.inf)
    return low, high


RULES: dict[str, Rule] = {"constant": constant, "scaled": scaled, "samples": samples}
TITLES = {
    "constant": "constant relative width",
    "scaled": "around the soft volume, scaled by the discrepancy",
    "samples": "around the mean of samples, scaled by how they differ",
}


def scored(rows: Rows, rules: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield each volume with its interval under each rule, fitted without its subject."""
    by_index: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if row["index"] != "0" and min(float(row["size"]), float(row["true"])) >= FEWEST_VOXELS:
            by_index.setdefault(row["index"], []).append(row)
    for listed in by_index.values():
        cases = _cases(listed)
        clear = np.array([one.doubt <= MOST_DOUBT for one in cases.sizes])
        for rule in rules:
            for subject in np.unique(cases.subjects):
                here = cases.subjects == subject
                ends_of = RULES[rule](cases.where(~here & clear))
                for at in np.flatnonzero(here).tolist():
                    low, high = _interval(cases.sizes[at], ends_of)
                    kind = INTACT if listed[at]["kind"] == INTACT else "degraded"
                    scores = _score(low, high, math.exp(cases.true[at]))
                    yield {**scores, "rule": rule, "subject": subject, "condition": kind}


def _cases(listed: Rows) -> Cases:
    sizes = [_sizes(row) for row in listed]
    true = [math.log(float(r["true"]) / s.size) for r, s in zip(listed, sizes, strict=True)]
    return Cases(sizes, np.array(true), np.array([row["subject"] for row in listed]))


def _sizes(row: Mapping[str, str]) -> Sizes:
    size, hits, missed, soft = (float(row[name]) for name in COUNTS)
    return Sizes(size, hits, missed, soft, numbers_of(row["drawn"]), numbers_of(row["shares"]))


def numbers_of(spaced: str) -> tuple[float, ...]:
    """Return numbers that a column holds with spaces between."""
    return tuple(map(float, spaced.split()))


def _interval(sizes: Sizes, ends_of: Callable[[Sizes], Ends]) -> Ends:
    """Return the ends over the volume found, which lies within, as a user gets them."""
    if sizes.doubt > MOST_DOUBT:
        return 0.0, 1 + sizes.missed / sizes.size
    low, high = holding_the_found(ends_of(sizes))
    return math.exp(low), math.exp(high)


def _score(low: float, high: float, true: float) -> dict[str, float]:
    score = float(interval_score(low, high, true))
    return {"score": score, "width": high - low, "inside": low <= true <= high}


def summarise(rows: Rows) -> dict[str, Any]:
    """Return score, coverage and width of each rule, and how far the scores differ by subject.

    Under ``sampled`` of the heads with samples alone, all rules fitted on these.
    """
    found: dict[str, Any] = {"heads": _heads_in(rows), **_compared(rows, "constant", "scaled")}
    if asked := [row for row in rows if row["drawn"]]:
        compared = _compared(asked, "scaled", "samples")
        found["sampled"] = {"heads": _heads_in(asked), **compared}
    return found


def _heads_in(rows: Rows) -> int:
    return len({(row["split"], row["number"]) for row in rows})


def _compared(rows: Rows, first: str, second: str) -> dict[str, Any]:
    found = list(scored(rows, (first, second)))
    summary: dict[str, Any] = {}
    for condition in (INTACT, "degraded"):
        means: dict[str, dict[str, float]] = {}
        told = summary[condition] = {}
        for rule in (first, second):
            some = [r for r in found if (r["rule"], r["condition"]) == (rule, condition)]
            means[rule] = {
                s: float(np.mean([r["score"] for r in some if r["subject"] == s]))
                for s in sorted({r["subject"] for r in some})
            }
            told[rule] = {
                "score": float(np.mean([r["score"] for r in some])),
                "coverage": float(np.mean([r["inside"] for r in some])),
                "width": float(np.median([r["width"] for r in some])),
            }
        gained = interval([1 - means[second][s] / means[first][s] for s in means[second]])
        told["gained"] = as_dict(gained)
    return summary
