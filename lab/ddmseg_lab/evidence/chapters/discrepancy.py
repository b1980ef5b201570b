"""Expected against true Dice, and error detection, of one model."""

from __future__ import annotations

from typing import Any

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

SETS = {
    "test": "test crops",
    "synthetic": "synthetic scans",
    "malc2012": "MALC2012 development scans",
}


def discrepancy(summaries: Summaries, model: str, least_r: float) -> Section:
    """Expected against true Dice, and error detection, for one model."""
    title = f"Discrepancy as a judge: {model}"
    command = f"python -m ddmseg_lab.accuracy.discrepancy --model {model} --data DATA"
    found = summaries.get(f"discrepancy_{model}")
    names = ("test",) if model == "hippocampus" else ("synthetic", "malc2012")
    sets = found["sets"] if found is not None else {}
    claims = [
        claim for one in names for claim in _discrepancy_claims(model, one, sets.get(one), least_r)
    ]
    if found is None:
        return missing(title, command, claims)
    fitted = "in the card" if found["calibration"]["from_card"] else "fitted for this run"
    body = [
        "Masks: of the coarse head, sampled, and three corruptions of the sampled one (moved, "
        "another's, classes swapped, grown, shrunk, torn). The calibration is the one "
        f"{fitted}, of validation subjects that are not among these. {weights_words(found)} "
        f"{INTERVALS}",
        table(
            ["", *(SETS[one] for one in sets)],
            [[label, *(cell(sets[one]) for one in sets)] for label, cell in DISCREPANCY_ROWS],
        ),
        picture(
            f"expected_dice_{model}.png", f"Expected against true Dice of the {model} model's masks"
        ),
    ]
    return Section(title, command, body, claims)


def _discrepancy_claims(
    model: str, name: str, found: Summary | None, least_r: float
) -> list[Claim]:
    where, one = f"{model}, {SETS[name]}", found or {}
    every, intact = one.get("detection_all", {}), one.get("detection_intact", {})
    return [
        Claim(Target(f"{where}: r of expected and true Dice", least_r), one.get("pearson_r")),
        Claim(
            Target(f"{where}: error of the expected Dice", 0.05, at_least=False),
            one.get("mae_calibrated"),
        ),
        Claim(Target(f"{where}: AUROC of D, all masks", 0.97), every.get("auroc")),
        Claim(Target(f"{where}: AUROC of D, intact masks", 0.97), intact.get("auroc")),
        Claim(
            Target(f"{where}: AUROC of D less the entropy's, all masks", 0.0),
            _difference(every),
        ),
        Claim(
            Target(f"{where}: AUROC of D less the entropy's, intact masks", 0.0),
            _difference(intact),
        ),
    ]


def _difference(detection: Summary) -> dict[str, float] | None:
    test = detection.get("difference")
    return None if test is None else {**test, "mean": test["difference"]}


DISCREPANCY_ROWS: list[tuple[str, Any]] = [
    ("subjects", lambda s: str(s["subjects"])),
    ("masks", lambda s: str(s["masks"])),
    ("Pearson r, all masks", lambda s: with_interval(s["pearson_r"])),
    ("Pearson r, intact masks alone", lambda s: with_interval(s["pearson_r_intact"])),
    ("mean absolute error, raw", lambda s: with_interval(s["mae_raw"])),
    ("mean absolute error, calibrated", lambda s: with_interval(s["mae_calibrated"])),
    ("AUROC of D, all masks", lambda s: with_interval(s["detection_all"]["auroc"])),
    (
        "AUROC of the softmax entropy, all masks",
        lambda s: with_interval(s["detection_all"]["auroc_entropy"]),
    ),
    ("AUROC of D, intact masks", lambda s: with_interval(s["detection_intact"]["auroc"])),
    (
        "AUROC of the softmax entropy, intact masks",
        lambda s: with_interval(s["detection_intact"]["auroc_entropy"]),
    ),
    (
        "ECE of exp(−D/σ²), sampled masks",
        lambda s: with_interval(s["detection"]["sampled"]["ece"], 4),
    ),
    (
        "ECE of exp(−D/σ²), corrupted masks",
        lambda s: with_interval(s["detection"]["corrupted"]["ece"], 4),
    ),
    (
        "ECE of the largest probability, sampled masks",
        lambda s: with_interval(s["detection"]["sampled"]["ece_softmax"], 4),
    ),
    *(
        (
            f"share of true volumes in their 95% intervals, {kind} masks",
            lambda s, kind=kind: with_interval(s["detection"][kind].get("covered")),
        )
        for kind in ("coarse", "sampled")
    ),
]
