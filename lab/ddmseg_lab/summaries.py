"""What raw figures add up to, as plain dictionaries ready for JSON.

The unit is the patient: several scans or masks of one are averaged, or drawn together,
before anything is said about the spread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.maths.statistics import SMALLEST_SAMPLE, bootstrap_interval, compare_to

RESAMPLES = 2000
"""Draws of the bootstrap over groups."""

Pairs = NDArray[np.float64]
"""Two columns, one row a mask: expected and true Dice."""


def mean_interval(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and 95% bootstrap interval over patients.

    NaN (nothing to score) is left out; infinite values (a structure missed altogether)
    are counted under ``infinite`` and left out too. One patient has no interval.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[~np.isnan(x)]
    finite = x[np.isfinite(x)]
    found: dict[str, Any] = {"mean": math.nan, "low": math.nan, "high": math.nan, "n": len(finite)}
    if len(finite) >= SMALLEST_SAMPLE:
        interval = bootstrap_interval(finite)
        found |= {"mean": interval.mean, "low": interval.low, "high": interval.high}
    elif len(finite):
        found["mean"] = float(finite[0])
    if len(finite) < len(x):
        found["infinite"] = len(x) - len(finite)
    return found


def paired_tests(
    reference: Sequence[float], methods: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, Any]]:
    """Return each method minus the reference on the same patients.

    Mean difference with its bootstrap interval and the two-sided Wilcoxon p-value,
    Holm-corrected over all methods given. Nothing can be tested with one patient.
    """
    if len(reference) < SMALLEST_SAMPLE:
        return {}
    tests = compare_to(reference, methods)
    found = {}
    for name, values in methods.items():
        interval = mean_interval((np.asarray(values) - np.asarray(reference)).tolist())
        found[name] = {**asdict(tests[name]), "low": interval["low"], "high": interval["high"]}
    return found


def mean_by_group(values: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Return the mean of each group, such as the two scans of one person, in order of names."""
    x = np.asarray(values, dtype=np.float64)
    of = np.asarray(groups)
    means = []
    for group in sorted(set(groups)):
        members = x[of == group]
        members = members[~np.isnan(members)]
        means.append(float(members.mean()) if len(members) else math.nan)
    return means


def group_interval(
    statistic: Callable[[Pairs], float], rows: Pairs, groups: Sequence[str]
) -> dict[str, Any]:
    """Return a statistic with its 95% percentile interval; whole groups are drawn.

    For figures that no mean over patients gives, such as a correlation.

    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    of = np.asarray(groups)
    members = [np.flatnonzero(of == group) for group in sorted(set(groups))]
    found = {"mean": statistic(rows), "low": math.nan, "high": math.nan, "n": len(members)}
    if len(members) < SMALLEST_SAMPLE:
        return found
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES):
        chosen = generator.integers(len(members), size=len(members))
        drawn.append(statistic(rows[np.concatenate([members[i] for i in chosen])]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {**found, "low": float(low), "high": float(high)}
