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
PROTOCOL = (
    "Tissues are those of the challenge's table of labels. *CSF* is the ventricles (lateral with "
    "inferior horns, third, fourth); *grey matter* is the cortex of cerebrum and cerebellum, "
    "vermis, hippocampus, amygdala, caudate, putamen, pallidum, thalamus and accumbens; *white "
    "matter* is that of cerebrum and cerebellum, brain-stem and ventral diencephalon. "
    "*Structures* is the mean over the structures that both protocols draw; Atropos gives none. "
    "Fluid outside the ventricles has no label in the truth: a classifier of tissues calls it CSF "
    "like any other, so that its first figure for CSF tells of another protocol more than of an "
    "error. The columns *where drawn* count only voxels that have a tissue in the truth."
)
TERMS = (
    "SAMSEG was made for whole heads, with an atlas that has skull and soft tissue, and these "
    "scans are stripped of both. It has no option to be told so; it leaves out voxels of zero by "
    "itself. All its options are as they come. Atropos (k-means into three classes, Markov random "
    "field 0.2, five iterations, classes by brightness) comes after N4, has the voxels above zero "
    "as brain mask, and brightness cut at the quantiles 0.01 and 0.999 as in ANTs' own scripts: "
    "without the cut k-means takes a few bright voxels of some scans for a class of their own. "
    "ddmseg and SAMSEG draw as FreeSurfer does; none of the three is tuned to this protocol, and "
    "ddmseg was trained on none of these scans."
)
COSTS = (
    "Median (and range) over the scans, each in a process of "
    "its own. *Processor s* counts all threads from reading the scan to the label map "
    "written; *of loading* comes before, once a process: Python, imports and, for ddmseg, "
    "weights. Where wall seconds with one thread exceed processor seconds, the machine was "
    "busy with other work, and only the processor seconds can be compared; even these grow "
    "somewhat when caches and memory are shared."
)


def body(found: page.Summary) -> list[str]:
    """Dice and cost of ddmseg, SAMSEG and Atropos on the same scans."""
    shown = {name: words for name, words in METHODS.items() if name in found["methods"]}
    return [
        _scans_words(found, shown),
        _accuracy(found, shown),
        PROTOCOL,
        *_test_table(found, shown),
        TERMS,
        _costs(found, shown),
        f"{found['machine']['processor']}. {COSTS}",
    ]


def _scans_words(found: page.Summary, shown: dict[str, str]) -> str:
    """Say how many scans each method has done, and with which versions."""
    methods, total = found["methods"], found["scans"]
    partly = [
        f"{words} {methods[name]['scans']}"
        for name, words in shown.items()
        if methods[name]["scans"] < total
    ]
    left_out = [words for name, words in METHODS.items() if name not in methods]
    sentences = [f"The test split has {total} scans; two scans of one person count as one."]
    if partly:
        sentences.append(
            f"**A subset was run** by: {', '.join(partly)}. Their means are of those scans alone; "
            "the differences further down are of the scans that both have done."
        )
    if left_out:
        sentences.append(f"Not run: {', '.join(left_out)}.")
    versions = [
        f"{tool} ({', '.join(f'{package} {version}' for package, version in packages.items())})"
        for tool, packages in found["packages"].items()
        if tool in methods
    ]
    sentences += [page.INTERVALS, page.weights_words(found)]
    if versions:
        sentences.append(f"Versions: {'; '.join(versions)}.")
    return " ".join(sentences)


def _accuracy(found: page.Summary, shown: dict[str, str]) -> str:
    columns = {**SCORED}
    columns |= {f"{name}_drawn": f"{words} where drawn" for name, words in TISSUE_NAMES.items()}
    rows = []
    for name, words in shown.items():
        method = found["methods"][name]
        dice = [page.with_interval(method["dice"][column]) for column in columns]
        rows.append([words, str(method["scans"]), str(method["persons"]), *dice])
    return page.table(["Dice", "scans", "persons", *columns.values()], rows)


def _test_table(found: page.Summary, shown: dict[str, str]) -> list[str]:
    """Return the table of differences from the reference, if there is anything to test."""
    tests, reference = found["tests"], found["reference"]
    rows = [
        [words, *(_difference(tests[column].get(name)) for column in SCORED)]
        for name, words in shown.items()
        if any(name in tests[column] for column in SCORED)
    ]
    if not rows:
        return []
    words = (
        f"Less {METHODS[reference]}, on the scans that both have done: mean difference, its "
        "interval and p of a two-sided Wilcoxon test over persons, Holm-corrected over the methods."
    )
    return [words, page.table(["difference in Dice", *SCORED.values()], rows)]


def _difference(test: page.Summary | None) -> str:
    if test is None:
        return page.NO_FIGURE
    shown = page.with_interval({**test, "mean": test["difference"]})
    return f"{shown}, {p_words(test['p_holm'])}, n {test['n']}"


def _costs(found: page.Summary, shown: dict[str, str]) -> str:
    rows = []
    for name, words in shown.items():
        method = found["methods"][name]
        seconds = ("processor_seconds", "loading_processor_seconds", "seconds")
        times = [page.with_interval(method[time], 1) for time in seconds]
        threads, memory = ", ".join(map(str, method["threads"])), method["peak_memory_gb"]
        rows.append([words, *times, threads, f"{memory:.2f}"])
    header = ["a scan", "processor s", "of loading", "wall s", "threads", "peak memory, GB"]
    return page.table(header, rows)


CHAPTER = page.Chapter(
    "Beside other tools: MALC2012",
    "python -m ddmseg_lab.comparison.peers.malc2012 --data DATA --samseg-python A --ants-python B",
    "peers_malc2012",
    body,
    lambda _: [],  # nothing was aimed at
)
