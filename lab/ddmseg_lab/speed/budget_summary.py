"""What the runs under a budget add up to: how many kept it, and what it cost in accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ddmseg_lab.records import numbers

REFUSED = "refused"
"""Why a run has no figures: its budget could not be met when its turn came."""

Rows = Sequence[dict[str, str]]


def summarise_all(rows: Rows) -> dict[str, Any]:
    """Return the figures of all runs, of each mode, and of each mode by the budget's size."""
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    factors = sorted({row["factor"] for row in rows}, key=float)

    def some(mode: str, factor: str | None = None) -> Rows:
        return [r for r in rows if r["mode"] == mode and factor in (None, r["factor"])]

    return {
        "scans": list(dict.fromkeys(row["scan"] for row in rows)),
        "all": summarise(rows),
        "modes": {mode: summarise(some(mode)) for mode in modes},
        "factors": {
            mode: {factor: summarise(some(mode, factor)) for factor in factors} for mode in modes
        },
    }


def summarise(rows: Rows) -> dict[str, Any]:
    """Return the share of runs within their budget, with its 95% interval, and what was lost.

    Runs that were refused beforehand are counted apart. What was lost is the figure without
    a budget less that with it; None where no scan had a truth.
    """
    refused = sum(row["stopped_because"] == REFUSED for row in rows)
    rows = [row for row in rows if row["stopped_because"] != REFUSED]
    if not rows:
        return {"runs": 0, "refused": refused}
    within = [int(row["within"]) for row in rows]
    kept = binomtest(sum(within), len(within)).proportion_ci(method="wilson")
    used = np.array(numbers(rows, "spent")) / numbers(rows, "budget")
    return {
        "runs": len(rows),
        "refused": refused,
        "within": sum(within) / len(within),
        "low": kept.low,
        "high": kept.high,
        "median_share_used": float(np.median(used)),
        "largest_share_used": float(used.max()),
        "agreement": float(np.mean(numbers(rows, "agreement"))),
        "expected_dice_lost": _lost(rows, "expected_dice"),
        "dice_lost": _lost(rows, "dice"),
    }


def _lost(rows: Rows, name: str) -> dict[str, float] | None:
    """Return mean and largest loss, over the runs on scans that have the figure."""
    lost = np.array(numbers(rows, f"free_{name}")) - numbers(rows, name)
    lost = lost[~np.isnan(lost)]
    return {"mean": float(lost.mean()), "largest": float(lost.max())} if len(lost) else None
