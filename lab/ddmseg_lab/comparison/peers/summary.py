"""What the rows of the table add up to: intervals over persons, tests, costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ddmseg.maths.statistics import SMALLEST_SAMPLE
from ddmseg_lab import page
from ddmseg_lab.comparison.peers.tissues import TISSUES
from ddmseg_lab.statistics_text import (
    mean_by_group,
    mean_interval,
    median_range,
    p_words,
    paired_tests,
)
from ddmseg_lab.table import numbers
from ddmseg_lab.template import render

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


METHODS = {
    "ddmseg_fast": "ddmseg, fast",
    "ddmseg_auto": "ddmseg, auto",
    "atropos": "ANTs N4 and Atropos",
    "samseg": "SAMSEG",
}
"""How a reader calls the methods, in the order of the tables."""
TISSUE_NAMES = {"csf": "CSF", "grey": "grey matter", "white": "white matter"}
SCORED = {**TISSUE_NAMES, "structures": "structures"}


def body(found: page.Summary) -> list[str]:
    """Dice and cost of ddmseg, SAMSEG and Atropos on the same scans."""
    done, packages = found["methods"], found["packages"]
    methods = {name: words for name, words in METHODS.items() if name in done}
    of_some = {name: n for name in methods if (n := done[name]["scans"]) < found["scans"]}
    text = render(
        "ddmseg_lab.comparison.peers",
        "page.md",
        found=found,
        methods=methods,
        partly=[f"{METHODS[name]} {n}" for name, n in of_some.items()],
        left_out=[words for name, words in METHODS.items() if name not in done],
        packages={tool: packages[tool] for tool in packages if tool in done},
        tested=[name for name in methods if any(name in found["tests"][one] for one in SCORED)],
        reference=METHODS[found["reference"]],
        tissues=TISSUE_NAMES,
        scored=SCORED,
        intervals=page.INTERVALS,
        weights=page.weights_words(found),
        no_figure=page.NO_FIGURE,
        p_words=p_words,
    )
    return [text.strip()]


CHAPTER = page.Chapter(
    "Beside other tools: MALC2012",
    "python -m ddmseg_lab.comparison.peers.malc2012 --data DATA --samseg-python A --ants-python B",
    "peers_malc2012",
    body,
    lambda _: [],  # nothing was aimed at
)
