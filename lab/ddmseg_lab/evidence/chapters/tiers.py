"""What each tier loses against the unoptimised path, and what a second more buys."""

from __future__ import annotations

from ddmseg_lab.page import (
    INTERVALS,
    NO_FIGURE,
    Claim,
    Section,
    Summaries,
    Summary,
    Target,
    missing,
    table,
    weights_words,
    with_interval,
)

MOST = 0.01
"""Of Dice, that a tier may lose."""
WHAT = "{of}: what the tier that loses most loses"


def tiers(summaries: Summaries) -> Section:
    """Dice, loss, seconds and gain a second of every tier, on validation scans."""
    title, command = "Tiers", "python -m ddmseg_lab.accuracy.tiers --data DATA"
    found = summaries.get("tiers")
    if found is None:
        return missing(title, command, [Claim(_target("validation scans"), None)])
    full = found["full"]
    words = (
        "*Without shortcuts* samples decide at every voxel of the grid and the discrepancy is "
        "computed anew in each step; in the other tiers samples decide close to the coarse "
        "foreground, those of `anatomy` only where the coarse head is not sure. *Lost* is the "
        "Dice without shortcuts less the tier's, scan by scan. "
        f"*Full* is {full['steps']} steps x {full['samples']} samples, the last rung that mode "
        "auto may climb to. *Sampled* "
        "counts runs in which samples were drawn. *Gained a second* is the Dice that a tier gains "
        "over always-fast, for each further second of processor time. Degraded scans: "
        f"{', '.join(found['degraded']).replace('_', ' ')} (artefact and level, of 5). "
        f"{weights_words(found)} {INTERVALS}"
    )
    parts = [words]
    claims = []
    for of, by_tier in found["sets"].items():
        worst = max(by_tier.values(), key=lambda tier: tier["lost"]["mean"])
        claims.append(Claim(_target(of), worst["lost"]))
        parts += [f"**{of[:1].upper()}{of[1:]}**", _table(found["tiers"], by_tier)]
    return Section(title, command, parts, claims)


def _target(of: str) -> Target:
    return Target(WHAT.format(of=of), MOST, at_least=False, digits=4)


def _table(titles: Summary, by_tier: Summary) -> str:
    rows = [
        [
            titles[name],
            with_interval(tier["dice"]),
            with_interval(tier["lost"], 4),
            f"{tier['sampled']} of {tier['runs']}",
            f"{tier['seconds']['median']:.2f}",
            NO_FIGURE
            if tier["gained_per_second"] is None
            else with_interval(tier["gained_per_second"], 5),
        ]
        for name, tier in by_tier.items()
    ]
    return table(
        ["tier", "Dice", "lost", "sampled", "processor s, median", "gained a second"], rows
    )
