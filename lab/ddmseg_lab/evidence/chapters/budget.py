"""How often a budget is kept, and what accuracy is given up for it."""

from __future__ import annotations

from collections.abc import Mapping

from ddmseg_lab.page import (
    NO_FIGURE,
    Claim,
    Section,
    Summaries,
    Summary,
    Target,
    machine_words,
    missing,
    table,
    weights_words,
)

COMMAND = "python -m ddmseg_lab.speed.budget --data DATA"
LEAST_KEPT = 0.95
MOST_LOST = 0.01
"""Mean Dice that a budget may cost against the same mode without one."""
WORDS = (
    "A run is from reading the scan to the last file written, after loading, features not kept. "
    "The smallest budget is the one that the refusal of a tiny one names; a run that was refused "
    "when its turn came, since the machine had turned slow, is counted apart. *Given up* is the "
    "figure of the same mode without a budget less that with it, mean (and largest); *Dice* is "
    "against the manual labels, of the scans that have them; *agreement* is the mean Dice with "
    "the labels of the answer without a budget."
)
HEAD = (
    *("mode, budget over the smallest", "runs", "refused", "within", "of the budget used"),
    *("agreement", "expected Dice given up", "Dice given up"),
)


def budget(summaries: Summaries) -> Section:
    """Runs within their budget, by mode and size of the budget."""
    title, found = "Budget", summaries.get("budget")
    if found is None:
        return missing(title, COMMAND, _claims({}))
    rows = [
        _row(f"{mode}, {factor}", one)
        for mode, factors in found["factors"].items()
        for factor, one in factors.items()
    ]
    rows += [_row(f"{mode}, all", one) for mode, one in found["modes"].items()]
    scans = f"Scans: {', '.join(found['scans'])}."
    words = f"{machine_words(found)} {weights_words(found)} {scans} {WORDS}"
    return Section(title, COMMAND, [words, table(HEAD, rows)], _claims(found["all"]))


def _row(name: str, one: Summary) -> list[str]:
    if not one["runs"]:
        return [name, "0", str(one["refused"]), *[NO_FIGURE] * (len(HEAD) - 3)]
    return [
        name,
        str(one["runs"]),
        str(one["refused"]),
        f"{one['within']:.0%} ({one['low']:.0%} to {one['high']:.0%})",
        f"{one['median_share_used']:.0%} ({one['largest_share_used']:.0%})",
        f"{one['agreement']:.4f}",
        _lost(one["expected_dice_lost"]),
        _lost(one["dice_lost"]),
    ]


def _lost(lost: Mapping[str, float] | None) -> str:
    if lost is None:
        return NO_FIGURE
    return f"{lost['mean']:.4f} ({lost['largest']:.4f})".replace("-", "−")


def _claims(all_runs: Summary) -> list[Claim]:
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
