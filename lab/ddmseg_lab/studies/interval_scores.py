"""Proper scores of intervals of a volume, and who wins a contest of them.

A predictive distribution here is log-normal: log v ~ N(middle, (reach / z)^2), whose central
95% interval is exp(middle -+ reach). With an interval [l, u] of level 1 - a and a true value y

    interval score = (u - l) + 2 / a (l - y)+ + 2 / a (y - u)+

Sources: Gneiting and Raftery 2007, eq. 43 (interval score); Baran and Lerch 2015, eq. 5 (CRPS of
a log-normal distribution).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr

from ddmseg.training.volume_calibration import COVERAGE
from ddmseg_lab.made_up_heads import DEGRADED, INTACT
from ddmseg_lab.page import Claim, Summary, claim, inner, table
from ddmseg_lab.page import with_interval as shown
from ddmseg_lab.statistics_text import Pairs, group_interval
from ddmseg_lab.studies.volume_rivals import CONSTANT, SHIPPED, Intervals, Numbers

CONDITIONS = (INTACT, DEGRADED)
Z = 1.959964  # standard deviations that a normal variable keeps within with this probability


def interval_score(low: Any, high: Any, true: Any) -> Any:
    """Return the width plus 40 times what the true value lies outside; less is better."""
    beyond = np.maximum(low - true, 0.0) + np.maximum(true - high, 0.0)
    return high - low + 2 / (1 - COVERAGE) * beyond


def lognormal_crps(middle: Numbers, reach: Numbers, true: Numbers) -> Numbers:
    """Return the CRPS of log-normal distributions around ``exp(middle)``; less is better."""
    s = np.asarray(reach) / Z
    z = (np.log(true) - middle) / s
    mean = np.exp(middle + s**2 / 2)
    return np.asarray(
        true * (2 * ndtr(z) - 1) - 2 * mean * (ndtr(z - s) + ndtr(s / np.sqrt(2)) - 1)
    )


def scores(found: Intervals) -> dict[str, Numbers]:
    """Return score, CRPS, width (in units of the true volume) and whether it lies inside."""
    low, high = np.exp(found.middle - found.reach), np.exp(found.middle + found.reach)
    true = found.answers.true
    return {
        "score": interval_score(low, high, true) / true,
        "crps": lognormal_crps(found.middle, found.reach, true) / true,
        "width": (high - low) / true,
        "coverage": ((low <= true) & (true <= high)).astype(np.float64),
    }


def under(condition: str, found: Intervals) -> Intervals:
    """Return the intervals of scans in a condition, one of ``CONDITIONS``."""
    return found.where((found.answers.kind == INTACT) == (condition == INTACT))


def means_by(keys: Any, found: Intervals) -> tuple[dict[str, Numbers], Any]:
    """Return the mean scores of what has one key, and where each key first stands."""
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    each = scores(found).items()
    means = {name: np.bincount(places, values) / np.bincount(places) for name, values in each}
    return means, first


def condition_scores(by_rival: Mapping[str, Intervals]) -> dict[str, dict[str, Any]]:
    """Return means over structures, then scans, and the score saved against constant width."""
    found: dict[str, dict[str, Any]] = {}
    for condition in CONDITIONS:
        lines = {rival: _by_scan(under(condition, one)) for rival, one in by_rival.items()}
        if not len(lines[CONSTANT][1]):
            continue
        held_against = {"gained": CONSTANT, "gained_on_shipped": SHIPPED}
        found[condition] = {}
        for rival, (means, subjects) in lines.items():
            one: dict[str, Any] = {name: float(values.mean()) for name, values in means.items()}
            one["coverage"] = group_interval(_mean, means["coverage"][:, None], subjects)
            for name, other in held_against.items():
                pairs = np.stack([means["score"], lines[other][0]["score"]], axis=1)
                one[name] = group_interval(_gained, pairs, subjects)
            found[condition][rival] = one
    return found


def _by_scan(found: Intervals) -> tuple[dict[str, Numbers], list[str]]:
    of = found.answers
    means, first = means_by(np.char.add(np.char.add(of.set, "/"), of.number), found)
    return means, of.subject[first].tolist()


def _mean(rows: Pairs) -> float:
    return float(rows[:, 0].mean())


def _gained(pairs: Pairs) -> float:
    return float(1 - pairs[:, 0].mean() / pairs[:, 1].mean())


def winner(scored: Mapping[str, Mapping[str, Any]]) -> str:
    """Return who wins among rivals scored under one condition.

    Who has the lowest score, where the interval of what it saves on what ships excludes 0; else
    what ships.
    """
    best = min(scored, key=lambda rival: scored[rival]["score"])
    clear = best != SHIPPED and (scored[best]["gained_on_shipped"]["low"] or 0.0) > 0
    return best if clear else SHIPPED


def score_table(scored: Summary, titles: Mapping[str, str]) -> str:
    """Return a line for each rival under one condition."""
    rows = [
        [
            *(titles[rival], f"{one['score']:.3f}", f"{one['crps']:.4f}"),
            *(shown(one["coverage"]), f"{one['width']:.2f}"),
            "" if rival == CONSTANT else shown(one["gained"]),
            "" if rival == SHIPPED else shown(one["gained_on_shipped"]),
        ]
        for rival, one in scored.items()
    ]
    head = ["rival", "interval score", "CRPS", "coverage", "width", "saved", "saved on what ships"]
    return table(head, rows)


def interval_claims(title: str, conditions: Summary | None, winner: str) -> list[Claim]:
    """Return what is asked of the winner: 15% saved on degraded scans, nothing lost on intact."""
    degraded, intact = (inner(conditions, one, winner) for one in (DEGRADED, INTACT))
    what, share = f"volumes, {title}", f"volumes, {title}: coverage, degraded"
    saved = f"{what}: interval score saved by the winner"
    return [
        claim(f"{saved}, degraded", 0.15, degraded, "gained"),
        claim(f"{what}: lower end of its interval", 0.0, degraded, "gained", "low"),
        claim(f"{saved}, intact", 0.0, intact, "gained"),
        claim(share, 0.93, degraded, "coverage"),
        claim(share, 0.97, degraded, "coverage", at_least=False),
    ]
