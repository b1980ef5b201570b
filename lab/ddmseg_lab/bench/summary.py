"""``ddmseg bench`` on the page: what its rows add up to, its tables, its picture, its targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ddmseg_lab.bench.jobs import (
    COMMANDS,
    FIGURES,
    MEMORY,
    PEER,
    SCALING,
    SERIES,
    STAGE,
    START,
    TIER,
)
from ddmseg_lab.bench.scans import DEMO, BenchScan
from ddmseg_lab.bench.tiers import FAST, Tier
from ddmseg_lab.bench.workbench import ENCODING, PLAIN_PASS, SAMPLE_STEPS, STAGES, Peer
from ddmseg_lab.figures import BLUE, GREY, ORANGE, new_figure
from ddmseg_lab.page import (
    NO_FIGURE,
    Chapter,
    Claim,
    Summary,
    at_most,
    machine_words,
    picture,
    table,
    with_interval,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TIMES = ("seconds", "processor_seconds")
COUNTED = {
    "seconds": ("seconds", BLUE),
    "denoise_seconds": ("of denoising", GREY),
    "peak_memory_gb": ("peak GB", ORANGE),
}
"""Figures whose growth is fitted: words and colour of each."""

Rows = Sequence[Mapping[str, str]]
Figures = dict[str, dict[str, float]]
"""Median and range by column."""


def summarise(
    rows: Rows, scans: Sequence[BenchScan], tiers: Sequence[Tier], peers: Sequence[Peer] = ()
) -> dict[str, Any]:
    """Return figures and ratios of each scan, of start-up and of the first scan's scaling."""
    return {
        "start": {name: figures_of(_select(rows, part=START, name=name)) for name in COMMANDS},
        "scans": {scan.name: _scan(rows, scan, tiers, peers) for scan in scans},
        "scaling": _scaling(_select(rows, part=SCALING, scan=scans[0].name)),
    }


def figures_of(rows: Rows) -> Figures:
    """Return median and range of each figure that the rows have, NaN left out."""
    found = {}
    for name in FIGURES:
        values = [float(row[name]) for row in rows]
        if known := [value for value in values if not math.isnan(value)]:
            found[name] = median_range(known)
    return found


def median_range(values: Sequence[float]) -> dict[str, float]:
    """Return median, lowest, highest and number of repeated measurements."""
    low, high = min(values), max(values)
    return {"median": float(np.median(values)), "low": low, "high": high, "n": len(values)}


def ratios(figures: Figures, reference: Figures) -> dict[str, float]:
    """Return how many times the reference's median time each takes, where both are known."""
    return {
        name: figures[name]["median"] / reference[name]["median"]
        for name in TIMES
        if name in figures and name in reference and reference[name]["median"] > 0
    }


def _scan(
    rows: Rows, scan: BenchScan, tiers: Sequence[Tier], peers: Sequence[Peer]
) -> dict[str, Any]:
    own = _select(rows, scan=scan.name)
    stages = {name: figures_of(_select(own, part=STAGE, name=name)) for name in STAGES}
    of = {tier.name: figures_of(_select(own, part=TIER, name=tier.name)) for tier in tiers}
    for name, figures in of.items():
        fresh = figures_of(_select(own, part=MEMORY, name=name))
        if "peak_memory_gb" in fresh:
            figures["peak_memory_gb"] = fresh["peak_memory_gb"]
    of |= {p.name: figures_of(_select(own, part=PEER, name=p.name, at=p.version)) for p in peers}
    titles = {tier.name: tier.title for tier in tiers} | {p.name: p.title for p in peers}
    versions = {peer.name: {"version": peer.version} for peer in peers}
    lines = {
        name: {
            "title": titles[name],
            **versions.get(name, {}),
            **figures,
            "over_fast": ratios(figures, of.get(FAST, {})),
            "over_one_pass": ratios(figures, stages[PLAIN_PASS]),
        }
        for name, figures in of.items()
        if figures
    }
    # what encoding and 50 sample-steps together take of one plain pass
    parts = [ratios(stages[name], stages[PLAIN_PASS]) for name in (ENCODING, SAMPLE_STEPS)]
    both = {name: sum(p[name] for p in parts) for name in TIMES if all(name in p for p in parts)}
    return {
        "shape": list(scan.shape),
        "methods": lines,
        "stages": {
            name: {**figures, "over_one_pass": ratios(figures, stages[PLAIN_PASS])}
            for name, figures in stages.items()
            if figures
        },
        "sampling_over_one_pass": both,
    }


def _scaling(rows: Rows) -> dict[str, Any]:
    found = {}
    for series in SERIES:
        own = _select(rows, name=series)
        sizes = sorted({int(row["at"]) for row in own})
        lines: list[dict[str, Any]] = [{"at": n, **figures_of(_select(own, at=n))} for n in sizes]
        fits = {}
        for name in COUNTED:
            known = [(line["at"], line[name]["median"]) for line in lines if name in line]
            if len(known) > 1:
                fits[name] = fit_power_law(*zip(*known, strict=True))._asdict()
        if lines:
            found[series] = {"points": lines, "exponents": fits}
    return found


def _select(rows: Rows, **wanted: object) -> Rows:
    return [row for row in rows if all(row[n] == str(value) for n, value in wanted.items())]


class PowerLaw(NamedTuple):
    """``cost = factor * size ** exponent``, with the 95% interval of the exponent.

    NaN is what too few sizes do not tell: two have no interval, one has nothing.
    """

    exponent: float
    low: float
    high: float
    factor: float
    n: int


def fit_power_law(sizes: Sequence[float], costs: Sequence[float]) -> PowerLaw:
    """Fit a power law by least squares of log cost on log size.

    The interval is Student's, for errors that are normal on the logarithms. What is NaN or
    not above 0 has no logarithm and is left out. What a run costs whatever its size lowers
    the exponent: it is that of the range measured and no promise beyond it.

    Source: Montgomery, Peck and Vining 2012, Introduction to Linear Regression Analysis,
    section 2.4.
    """
    from scipy import stats

    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    usable = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    x, y, n = np.log(x[usable]), np.log(y[usable]), int(usable.sum())
    if len(np.unique(x)) < 2:
        return PowerLaw(math.nan, math.nan, math.nan, math.nan, n)
    line = stats.linregress(x, y)
    error = float(np.nan_to_num(line.stderr))  # equal costs leave no residuals
    half = float(stats.t.ppf(0.975, n - 2)) * error if n > 2 else math.nan
    slope = float(line.slope)
    return PowerLaw(slope, slope - half, slope + half, math.exp(line.intercept), n)


SECONDS = {"fast": 2.0, "auto": 10.0, "diffusion": 15.0}
"""Most that a tier may take on a whole head of 1 mm, two processors."""
MOST_GB = 2.0
MOST_SAMPLING = 3.0
"""Most that 50 sample-steps may take of one plain pass of the encoder."""
MOST_START = 0.3
PICTURE = "bench_scaling.png"


def body(found: Summary) -> list[str]:
    """Seconds, memory, ratios, agreement, start-up and exponents of one run of the command."""
    parts = [_words(found)]
    for name, scan in found["scans"].items():
        size = "×".join(map(str, scan["shape"]))
        parts += [f"## {name[:1].upper()}{name[1:]}, {size} voxels", _methods(scan), _stages(scan)]
    rows = [[f"`{name}`", _cell(one, "seconds", 3)] for name, one in found["start"].items()]
    parts.append(table(["start-up", "s"], rows))
    if found["scaling"]:
        parts += [SCALING_WORDS, _exponents(found), picture(PICTURE, "seconds and memory by size")]
    return parts


SCALING_WORDS = (
    "Exponents of a power law, least squares on logarithms of the medians at each size, with the "
    "95% interval. Seconds are those of a whole run, so that what a scan costs in any case "
    "lowers them; *of denoising* is that stage alone. Voxels: the same scan, finer and coarser. "
    "Structures: the same architecture with random weights. Scans: copies in one run of the "
    "command, start-up and loading included."
)


def _words(found: Summary) -> str:
    steps, samples = found["full"]["steps"], found["full"]["samples"]
    return (
        f"{machine_words(found)} Median (and range). Seconds are from reading the scan to the last "
        "file written, after loading and one run to warm up; processor seconds count all threads. "
        "Memory is the peak of a fresh process. *Dice* is the agreement with the labels of the "
        f"full diffusion answer ({steps} steps, {samples} samples), mean over structures: it says "
        "how far answers differ and not which is right. Ratios are of processor seconds, in "
        "brackets of the wall's. Other tools, where there are any, ran once."
    )


def _methods(scan: Summary) -> str:
    rows = [
        [
            " ".join(filter(None, (one["title"], one.get("version", "")))),
            *(_cell(one, time, 2) for time in TIMES),
            _ratio(one["over_fast"]),
            _ratio(one["over_one_pass"]),
            _cell(one, "peak_memory_gb", 2),
            _cell(one, "dice", 4),
        ]
        for one in scan["methods"].values()
    ]
    header = ["", "s", "processor s", "of fast", "of one plain pass", "peak GB", "Dice"]
    return table(header, rows)


def _stages(scan: Summary) -> str:
    rows = [
        [name, *(_cell(one, time, 3) for time in TIMES), _ratio(one["over_one_pass"])]
        for name, one in scan["stages"].items()
    ]
    together = scan["sampling_over_one_pass"]
    rows.append(["encoding and 50 sample-steps", NO_FIGURE, NO_FIGURE, _ratio(together)])
    return table(["part of the network", "s", "processor s", "of one plain pass"], rows)


def _exponents(found: Summary) -> str:
    rows = []
    for series, one in found["scaling"].items():
        sizes = [point["at"] for point in one["points"]]
        fits = [one["exponents"].get(name) for name in COUNTED]
        rows.append([series, f"{min(sizes)} to {max(sizes)}", *map(_exponent, fits)])
    return table(["grows", "sizes", *(words for words, _ in COUNTED.values())], rows)


def _exponent(fit: Summary | None) -> str:
    if fit is None:
        return NO_FIGURE
    return with_interval({"mean": fit["exponent"], "low": fit["low"], "high": fit["high"]}, 2)


def _cell(one: Summary, name: str, digits: int) -> str:
    if name not in one:
        return NO_FIGURE
    measured = one[name]
    return with_interval(measured if measured["n"] > 1 else {"mean": measured["median"]}, digits)


def _ratio(ratios: Mapping[str, float]) -> str:
    if "processor_seconds" not in ratios:
        return NO_FIGURE
    return f"{ratios['processor_seconds']:.2f} ({ratios['seconds']:.2f})"


def claims(found: Summary) -> list[Claim]:
    """Seconds and memory of each tier, what samples cost, and how soon the command starts."""
    scan = found.get("scans", {}).get(DEMO, {})
    methods, start = scan.get("methods", {}), found.get("start", {})
    tiers = {name: methods.get(name, {}) for name in SECONDS}
    peaks = [one["peak_memory_gb"]["median"] for one in tiers.values() if "peak_memory_gb" in one]
    return [
        *(
            Claim(at_most(f"side by side, {name}", SECONDS[name], " s"), one.get("seconds"))
            for name, one in tiers.items()
        ),
        Claim(at_most("side by side, peak memory", MOST_GB, " GB"), max(peaks, default=None)),
        Claim(
            at_most("encoding and 50 sample-steps over one plain pass", MOST_SAMPLING),
            scan.get("sampling_over_one_pass", {}).get("processor_seconds"),
        ),
        *(
            Claim(at_most(f"`{name}`", MOST_START, " s"), start.get(name, {}).get("seconds"))
            for name in ("ddmseg --help", "import ddmseg")
        ),
    ]


def scaling_figure(found: Summary) -> Figure | None:
    """Draw a panel for each series: medians, and the fitted power laws; None without series."""
    series = found["scaling"]
    if not series:
        return None
    figure, _ = new_figure(2.6 * len(series), 3.2, panels=len(series))
    for axes, (name, one) in zip(figure.axes, series.items(), strict=True):
        for figure_name, (words, colour) in COUNTED.items():
            _draw(axes, one, figure_name, colour, words)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(SERIES.get(name, name))
        sizes = [point["at"] for point in one["points"]]
        axes.set_xticks(sizes, [_short(size) for size in sizes])
        axes.tick_params(labelsize=7, which="both")
        axes.tick_params(axis="x", which="minor", labelbottom=False)
    figure.axes[0].legend(fontsize=7)
    return figure


def _short(size: int) -> str:
    """Return a size as it fits below an axis: millions as such."""
    return f"{size / 1e6:.2g} M" if size >= 100_000 else str(size)


def _draw(axes: Axes, one: Summary, name: str, colour: str, words: str) -> None:
    known = [(p["at"], p[name]["median"]) for p in one["points"] if name in p]
    known = [(at, value) for at, value in known if value > 0]  # what has a logarithm
    if not known:
        return
    sizes, values = zip(*known, strict=True)
    axes.plot(sizes, values, "o", color=colour, markersize=4, label=words)
    fit = one["exponents"].get(name)
    if fit is not None and fit["exponent"] is not None:
        fitted = [fit["factor"] * size ** fit["exponent"] for size in sizes]
        axes.plot(sizes, fitted, color=colour, linewidth=1)


CHAPTER = Chapter(
    *("Side by side", "python -m ddmseg bench --threads 2", "bench", body, claims),
    {PICTURE: scaling_figure},
)
