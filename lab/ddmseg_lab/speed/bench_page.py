"""``ddmseg bench`` on the page: its tables, ratios, exponents and targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from ddmseg_lab.page import (
    NO_FIGURE,
    Chapter,
    Claim,
    Summary,
    at_most,
    inner,
    machine_words,
    table,
    with_interval,
)
from ddmseg_lab.speed.bench import ENCODING, PLAIN_PASS, SAMPLE_STEPS, TIMES
from ddmseg_lab.speed.scans import DEMO

COUNTED = {"seconds": "seconds", "denoise_seconds": "of denoising", "peak_memory_gb": "peak GB"}
"""Figures whose growth is fitted, in words."""
SMALLEST_FIT = 3
"""Sizes that an exponent with an interval takes."""
SECONDS = {"fast": 2.0, "auto": 10.0, "diffusion": 15.0}
"""Most that a tier may take on a whole head of 1 mm, two processors."""
MOST_GB = 2.0
MOST_SAMPLING = 3.0
"""Most that encoding and 50 sample-steps may take of one plain pass of the encoder."""
MOST_START = 0.3
WORDS = (
    "Median (and range). Seconds are from reading the scan to the last file written, after loading "
    "and one run to warm up; processor seconds count all threads. Memory is the peak of a fresh "
    "process. Ratios are of processor seconds, in brackets of the wall's. Other tools, where there "
    "are any, ran once."
)
GROWTH_WORDS = (
    "Exponents of a power law, least squares on logarithms of the medians at each size, with the "
    "95% interval. Seconds are those of a whole run, so that what a scan costs in any case "
    "lowers them; *of denoising* is that stage alone. Voxels: the same scan, finer and coarser. "
    "Structures: the same architecture with random weights. Scans: copies in one run of the "
    "command, start-up and loading included."
)


def body(found: Summary) -> list[str]:
    """Seconds, memory, ratios, start-up and exponents of one run of the command."""
    parts = [f"{machine_words(found)} {WORDS}"]
    for name, scan in found["scans"].items():
        size = "×".join(map(str, scan["shape"]))
        parts += [f"## {name[:1].upper()}{name[1:]}, {size} voxels", _methods(scan), _stages(scan)]
    rows = [[f"`{name}`", _cell(one, "seconds", 3)] for name, one in found["start"].items()]
    parts.append(table(["start-up", "s"], rows))
    if found["scaling"]:
        parts += [GROWTH_WORDS, _growth(found)]
    return parts


def _methods(scan: Summary) -> str:
    rows = [
        [
            " ".join(filter(None, (one["title"], one.get("version", "")))),
            *(_cell(one, time, 2) for time in TIMES),
            _ratio([one], scan["methods"].get("fast", {})),
            _ratio([one], scan["stages"].get(PLAIN_PASS, {})),
            _cell(one, "peak_memory_gb", 2),
        ]
        for one in scan["methods"].values()
    ]
    header = ["", "s", "processor s", "of fast", "of one plain pass", "peak GB"]
    return table(header, rows)


def _stages(scan: Summary) -> str:
    stages = scan["stages"]
    one_pass = stages.get(PLAIN_PASS, {})
    rows = [
        [name, *(_cell(one, time, 3) for time in TIMES), _ratio([one], one_pass)]
        for name, one in stages.items()
    ]
    both = [stages.get(name, {}) for name in (ENCODING, SAMPLE_STEPS)]
    rows.append(["encoding and 50 sample-steps", NO_FIGURE, NO_FIGURE, _ratio(both, one_pass)])
    return table(["part of the network", "s", "processor s", "of one plain pass"], rows)


def _cell(one: Summary, name: str, digits: int) -> str:
    if name not in one:
        return NO_FIGURE
    measured = one[name]
    return with_interval(measured if measured["n"] > 1 else {"mean": measured["median"]}, digits)


def _ratio(parts: Sequence[Summary], reference: Summary) -> str:
    of_wall, of_processor = (share(parts, reference, time) for time in TIMES)
    if of_wall is None or of_processor is None:
        return NO_FIGURE
    return f"{of_processor:.2f} ({of_wall:.2f})"


def share(parts: Sequence[Summary], reference: Summary, name: str) -> float | None:
    """Return how many times a reference's median cost these take together; None if unknown."""
    of = inner(reference, name, "median")
    costs = [inner(part, name, "median") for part in parts]
    return sum(costs) / of if of and None not in costs else None


def _growth(found: Summary) -> str:
    rows = []
    for series, one in found["scaling"].items():
        sizes = [point["at"] for point in one["points"]]
        fits = [power_law(medians(one["points"], name)) for name in COUNTED]
        cells = [NO_FIGURE if fit is None else with_interval(fit, 2) for fit in fits]
        rows.append([series, f"{min(sizes)} to {max(sizes)}", *cells])
    return table(["grows", "sizes", *COUNTED.values()], rows)


def medians(points: Sequence[Summary], name: str) -> dict[int, float]:
    """Return the median of a figure by size, of sizes where it is above 0: has a logarithm."""
    known = {point["at"]: inner(point, name, "median") for point in points}
    return {at: value for at, value in known.items() if value}


def power_law(costs: Mapping[int, float]) -> dict[str, float] | None:
    """Return the exponent of a cost by size, with its 95% interval; None for few sizes.

    By least squares of log cost on log size; the interval is Student's, for errors that are normal
    on the logarithms. What a run costs whatever its size lowers the exponent: it is that of the
    range measured and no promise beyond it.

    Source: Montgomery, Peck and Vining 2012, Introduction to Linear Regression Analysis,
    section 2.4.
    """
    if len(costs) < SMALLEST_FIT:
        return None
    line = stats.linregress(np.log(list(costs)), np.log(list(costs.values())))
    error = 0.0 if math.isnan(line.stderr) else line.stderr  # equal costs leave no residuals
    half = float(stats.t.ppf(0.975, len(costs) - 2) * error)
    return {"mean": float(line.slope), "low": line.slope - half, "high": line.slope + half}


def claims(found: Summary) -> list[Claim]:
    """Seconds and memory of each tier, what samples cost, and how soon the command starts."""
    scan = found.get("scans", {}).get(DEMO, {})
    tiers = {name: inner(scan, "methods", name) or {} for name in SECONDS}
    peaks = [one["peak_memory_gb"]["median"] for one in tiers.values() if "peak_memory_gb" in one]
    one_pass, *both = (
        inner(scan, "stages", name) or {} for name in (PLAIN_PASS, ENCODING, SAMPLE_STEPS)
    )
    return [
        *(
            Claim(at_most(f"side by side, {name}", SECONDS[name], " s"), one.get("seconds"))
            for name, one in tiers.items()
        ),
        Claim(at_most("side by side, peak memory", MOST_GB, " GB"), max(peaks, default=None)),
        Claim(
            at_most("encoding and 50 sample-steps over one plain pass", MOST_SAMPLING),
            share(both, one_pass, "processor_seconds"),
        ),
        *(
            Claim(at_most(f"`{name}`", MOST_START, " s"), inner(found, "start", name, "seconds"))
            for name in ("ddmseg --help", "import ddmseg")
        ),
    ]


CHAPTER = Chapter("Side by side", "python -m ddmseg bench --threads 2", "bench", body, claims)
