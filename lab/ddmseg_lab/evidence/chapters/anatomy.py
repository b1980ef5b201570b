"""Dice on MALC2012, development and test scans apart."""

from __future__ import annotations

from ddmseg_lab.page import (
    INTERVALS,
    Claim,
    Section,
    Summaries,
    Summary,
    Target,
    missing,
    picture,
    table,
    weights_words,
    with_interval,
)


def anatomy(summaries: Summaries) -> Section:
    """Dice on MALC2012, development and test scans apart."""
    title, command = "Anatomy: MALC2012", "python -m ddmseg_lab.accuracy.anatomy --data DATA"
    found = summaries.get("anatomy")
    if found is None:
        return missing(title, command, _anatomy_claims({}))
    splits = found["splits"]
    columns = [(split, mode) for split in splits for mode in splits[split]]
    groups = list(splits["test"]["fast"]["groups"])
    rows = [
        [group, *(with_interval(splits[s][m]["groups"][group]) for s, m in columns)]
        for group in groups
    ]
    rows.append(
        [
            "error of the expected Dice",
            *(with_interval(splits[s][m]["expected_dice_error"]) for s, m in columns),
        ]
    )
    rows.append(
        [
            "share of volumes drawn by hand in their 95% intervals",
            *(with_interval(splits[s][m].get("covered")) for s, m in columns),
        ]
    )
    rows.append(
        [
            "seconds a scan, median",
            *(f"{splits[s][m]['seconds']['median']:.1f}" for s, m in columns),
        ]
    )
    persons = {s: splits[s]["fast"]["groups"][groups[0]]["n"] for s in splits}
    counts = "; ".join(
        f"{split}: {splits[split]['fast']['scans']} scans, {persons[split]} persons"
        for split in splits
    )
    body = [
        f"Scans that no training has seen ({counts}). {weights_words(found)} Mean Dice of the "
        "structures that both protocols draw, on each scan's own grid; two scans of one person "
        f"count as one. {INTERVALS}",
        table(["structures", *(f"{split}, {mode}" for split, mode in columns)], rows),
        picture("anatomy_dice.png", "Dice of each structure on the MALC2012 test scans"),
        "Scans: OASIS (Marcus et al. 2007). Labels: Neuromorphometrics, Inc., of the MICCAI "
        "2012 challenge, CC BY-NC.",
    ]
    return Section(title, command, body, _anatomy_claims(found))


def _anatomy_claims(found: Summary) -> list[Claim]:
    groups = found.get("splits", {}).get("test", {}).get("diffusion", {}).get("groups", {})
    return [
        Claim(
            Target("anatomy, MALC2012 test scans, mean Dice (trained on CPU)", 0.75),
            groups.get("all structures in common"),
        ),
        Claim(
            Target("anatomy, MALC2012 test scans, cerebral white matter", 0.85),
            groups.get("cerebral white matter"),
        ),
    ]
