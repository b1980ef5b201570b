"""What the rows of the table add up to: intervals over persons, tests, costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ddmseg.maths.statistics import SMALLEST_SAMPLE
from ddmseg_lab.bench.summary import median_range
from ddmseg_lab.comparison.peers.tissues import TISSUES
from ddmseg_lab.records import numbers
from ddmseg_lab.summaries import mean_by_group, mean_interval, paired_tests

REFERENCE = "ddmseg_auto"
"""What the others are tested against: what ddmseg does when nothing is asked for."""
METRICS = (*TISSUES, "structures", *(f"{tissue}_drawn" for tissue in TISSUES))
TIMES = ("seconds", "processor_seconds", "loading_processor_seconds")

Rows = Sequence[Mapping[str, str]]


def summarise(rows: Rows) -> dict[str, Any]:
    """Return figures and costs of each method, and its tests against the reference."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    of = {name: [row for row in rows if row["method"] == name] for name in names}
    return {
        "reference": REFERENCE,
        "methods": {name: _method(of[name]) for name in names},
        "tests": {metric: _tests(of, metric) for metric in METRICS},
    }


def _method(rows: Rows) -> dict[str, Any]:
    persons = [row["person"] for row in rows]
    return {
        "version": rows[-1]["weights"],
        "scans": len(rows),
        "persons": len(set(persons)),
        "threads": sorted({int(row["threads"]) for row in rows}),
        "dice": {
            metric: mean_interval(mean_by_group(numbers(rows, metric), persons))
            for metric in METRICS
        },
        **{time: median_range(numbers(rows, time)) for time in TIMES},
        "peak_memory_gb": max(numbers(rows, "peak_memory_gb")),
    }


def _tests(of: Mapping[str, Rows], metric: str) -> dict[str, Any]:
    """Test each method against the reference on the scans that both have done.

    Differences are taken scan by scan and averaged over the scans of a person; a person
    without a common scan counts in no test of that method.
    """
    reference = of.get(REFERENCE, [])
    persons = sorted({row["person"] for row in reference})
    differences = {}
    for name, rows in of.items():
        found = _differences(rows, reference, metric, persons)
        known = sum(not math.isnan(value) for value in found)
        if name != REFERENCE and known >= SMALLEST_SAMPLE:
            differences[name] = found
    return paired_tests([0.0] * len(persons), differences) if differences else {}


def _differences(rows: Rows, reference: Rows, metric: str, persons: Iterable[str]) -> list[float]:
    """Return method less reference of each person; NaN where they share no scan."""
    theirs = {row["case"]: float(row[metric]) for row in reference}
    common = [row for row in rows if row["case"] in theirs]
    values = [float(row[metric]) - theirs[row["case"]] for row in common]
    of = [row["person"] for row in common]
    means = dict(zip(sorted(set(of)), mean_by_group(values, of), strict=True))
    return [means.get(person, math.nan) for person in persons]
