"""What the rows add up to: medians, ratios, exponents; plain dictionaries ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ddmseg_lab.bench.fit import fit_power_law
from ddmseg_lab.bench.jobs import (
    COMMANDS,
    FIGURES,
    MEMORY,
    PEER,
    SCALING,
    STAGE,
    START,
    TIER,
)
from ddmseg_lab.bench.peers import Peer
from ddmseg_lab.bench.scaling import SERIES
from ddmseg_lab.bench.scans import BenchScan
from ddmseg_lab.bench.stages import ENCODING, PLAIN_PASS, SAMPLE_STEPS, STAGES
from ddmseg_lab.bench.tiers import FAST, Tier

TIMES = ("seconds", "processor_seconds")
GROWING = ("seconds", "denoise_seconds", "peak_memory_gb")
"""Figures whose growth is fitted."""

Rows = Sequence[Mapping[str, str]]
Figures = dict[str, dict[str, float]]
"""Median and range by column."""


def summarise(
    rows: Rows, scans: Sequence[BenchScan], tiers: Sequence[Tier], peers: Sequence[Peer] = ()
) -> dict[str, Any]:
    """Return figures and ratios of each scan, of start-up and of scaling.

    Args:
        rows: of one model on one machine.
        scans: to tell of, the first one that of scaling.
        tiers: to tell of.
        peers: the same.
    """
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
    return {
        "median": float(np.median(values)),
        "low": min(values),
        "high": max(values),
        "n": len(values),
    }


def ratios(figures: Figures, reference: Figures) -> dict[str, float]:
    """Return how many times the reference's median time each takes, where both are known.

    Args:
        figures: to compare.
        reference: with times above 0; others give no ratio.
    """
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
    versions = {peer.name: peer.version for peer in peers}
    lines = {
        name: {
            "title": titles[name],
            **({"version": versions[name]} if name in versions else {}),
            **figures,
            "over_fast": ratios(figures, of.get(FAST, {})),
            "over_one_pass": ratios(figures, stages[PLAIN_PASS]),
        }
        for name, figures in of.items()
        if figures
    }
    return {
        "shape": list(scan.shape),
        "methods": lines,
        "stages": {
            name: {**figures, "over_one_pass": ratios(figures, stages[PLAIN_PASS])}
            for name, figures in stages.items()
            if figures
        },
        "sampling_over_one_pass": _sampling_over_one_pass(stages),
    }


def _sampling_over_one_pass(stages: Mapping[str, Figures]) -> dict[str, float]:
    """Return what encoding and 50 sample-steps together take of one plain pass."""
    parts = [ratios(stages[name], stages[PLAIN_PASS]) for name in (ENCODING, SAMPLE_STEPS)]
    return {name: sum(p[name] for p in parts) for name in TIMES if all(name in p for p in parts)}


def _scaling(rows: Rows) -> dict[str, Any]:
    found = {}
    for series in SERIES:
        own = _select(rows, name=series)
        sizes = sorted({int(row["at"]) for row in own})
        lines = [{"at": at, **figures_of(_select(own, at=at))} for at in sizes]
        if lines:
            found[series] = {"points": lines, "exponents": _exponents(lines)}
    return found


def _exponents(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fit the medians of each figure against the size."""
    fits = {}
    for name in GROWING:
        known = [(line["at"], line[name]["median"]) for line in lines if name in line]
        if len(known) > 1:
            fits[name] = asdict(fit_power_law(*zip(*known, strict=True)))
    return fits


def _select(rows: Rows, **wanted: object) -> Rows:
    return [row for row in rows if all(row[n] == str(value) for n, value in wanted.items())]
