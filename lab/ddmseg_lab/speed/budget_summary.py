"""What the runs under a budget add up to: how many kept it, and what it cost in accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from ddmseg_lab.page import (
    NO_FIGURE,
    Chapter,
    Claim,
    Summary,
    Target,
    machine_words,
    table,
    weights_words,
)
from ddmseg_lab.table import numbers

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

    What was lost is the figure without a budget less that with it; None where no scan had a
    truth.
    """
    if not rows:
        return {"runs": 0}
    within = [int(row["within"]) for row in rows]
    kept = binomtest(sum(within), len(within)).proportion_ci(method="wilson")
    used = np.array(numbers(rows, "spent")) / numbers(rows, "budget")
    return {
        "runs": len(rows),
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


COMMAND = "python -m ddmseg_lab.speed.budget --data DATA"
LEAST_KEPT = 0.95
MOST_LOST = 0.01
"""Mean Dice that a budget may cost against the same mode without one."""
WORDS = (
    "A run is from reading the scan to the last file written, after loading, features not kept. "
    "Budgets are so many times the seconds of the least that a mode does. *Given up* is the "
    "figure of the same mode without a budget less that with it, mean (and largest); *Dice* is "
    "against the manual labels, of the scans that have them; *agreement* is the mean Dice with "
    "the labels of the answer without a budget."
)
HEAD = (
    *("mode, budget over the least", "runs", "within", "of the budget used"),
    *("agreement", "expected Dice given up", "Dice given up"),
)


def body(found: Summary) -> list[str]:
    """Runs within their budget, by mode and size of the budget."""
    rows = [
        _row(f"{mode}, {factor}", one)
        for mode, factors in found["factors"].items()
        for factor, one in factors.items()
    ]
    rows += [_row(f"{mode}, all", one) for mode, one in found["modes"].items()]
    scans = f"Scans: {', '.join(found['scans'])}."
    words = f"{machine_words(found)} {weights_words(found)} {scans} {WORDS}"
    return [words, table(HEAD, rows)]


def _row(name: str, one: Summary) -> list[str]:
    if not one["runs"]:
        return [name, "0", *[NO_FIGURE] * (len(HEAD) - 2)]
    return [
        name,
        str(one["runs"]),
        f"{one['within']:.0%} ({one['low']:.0%} to {one['high']:.0%})",
        f"{one['median_share_used']:.0%} ({one['largest_share_used']:.0%})",
        f"{one['agreement']:.4f}",
        _shown_loss(one["expected_dice_lost"]),
        _shown_loss(one["dice_lost"]),
    ]


def _shown_loss(lost: Mapping[str, float] | None) -> str:
    if lost is None:
        return NO_FIGURE
    return f"{lost['mean']:.4f} ({lost['largest']:.4f})".replace("-", "−")


def claims(found: Summary) -> list[Claim]:
    """Budgets are kept, and cost next to nothing."""
    all_runs = found.get("all", {})
    kept = None
    if all_runs.get("runs"):
        kept = {"mean": all_runs["within"], "low": all_runs["low"], "high": all_runs["high"]}
    lost = all_runs.get("dice_lost")
    return [
        Claim(Target("budget: share of runs within it", LEAST_KEPT), kept),
        Claim(
            Target("budget: Dice given up for it, mean", MOST_LOST, at_least=False, digits=4),
            None if lost is None else lost["mean"],
        ),
    ]


CHAPTER = Chapter("Budget", COMMAND, "budget", body, claims)
