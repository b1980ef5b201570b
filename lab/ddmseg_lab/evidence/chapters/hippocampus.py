"""Dice on the hippocampus test crops, and whether more steps are ever worse."""

from __future__ import annotations

from ddmseg_lab.page import (
    INTERVALS,
    NOT_MEASURED,
    Claim,
    Section,
    Summaries,
    Summary,
    Target,
    missing,
    p_value,
    picture,
    table,
    weights_words,
    with_interval,
)

STEPS = (1, 5, 10, 50)
WORSE_BY = 0.003
"""How much worse more steps may be than one: 0.3 points of Dice."""
METHOD_NAMES = {
    "plain": "plain network, no diffusion, equal training",
    "fast": "`--mode fast`: coarse head of the DDM",
    **{f"ddm_{n}x4": f"`--mode diffusion`: {n} step{'s' * (n > 1)}, 4 samples" for n in STEPS},
    **{f"sample_{n}": f"one sample alone, {n} step{'s' * (n > 1)}" for n in STEPS},
}


def hippocampus(summaries: Summaries) -> Section:
    """Dice on the test crops, and whether more steps are ever worse."""
    command = "python -m ddmseg_lab.accuracy.hippocampus --data DATA --plain PLAIN.safetensors"
    found = summaries.get("hippocampus")
    if found is None:
        return missing("Hippocampus: test crops", command, _hippocampus_claims({}))
    rows = [
        [
            METHOD_NAMES[name],
            *(with_interval(scores[m]) for m in ("anterior_dice", "posterior_dice", "dice")),
            with_interval(scores["hd95_mm"], 2),
            with_interval(scores["expected_dice_error"]),
        ]
        for name, scores in _ordered(found["methods"])
    ]
    header = [
        "method",
        "Dice, anterior",
        "Dice, posterior",
        "mean Dice",
        "HD95 in mm",
        "error of the expected Dice",
    ]
    against = found["against_ddm_10x4"]
    body = [
        f"{found['cases']} crops that no training has seen, each a patient, file to labels on "
        f"the file's own grid. {weights_words(found)} {INTERVALS}",
        table(header, rows),
        "Mean Dice less that of 10 steps and 4 samples, on the same crops; two-sided Wilcoxon, "
        "Holm-corrected:",
        _tests(against),
        "Mean Dice less that of one step, joined (4 samples) and single (1 sample alone):",
        _tests({**found["joined_against_one_step"], **found["single_against_one_step"]}),
        picture("dice_by_steps.png", "Dice on the hippocampus test crops against sampling steps"),
    ]
    return Section("Hippocampus: test crops", command, body, _hippocampus_claims(found))


def _hippocampus_claims(found: Summary) -> list[Claim]:
    dice = Target("hippocampus, mean Dice (10 steps, 4 samples)", 0.89)
    better = Target("hippocampus, DDM less the plain network", 0.0)
    joined = Target("more steps less one step, joined: the worst of 5, 10, 50", -WORSE_BY, digits=4)
    single = Target("more steps less one step, single: the worst of 5, 10, 50", -WORSE_BY, digits=4)
    methods = found.get("methods", {})
    plain = found.get("against_ddm_10x4", {}).get("plain")
    return [
        Claim(dice, methods.get("ddm_10x4", {}).get("dice")),
        Claim(better, _reversed(plain)),
        Claim(joined, _worst(found.get("joined_against_one_step"))),
        Claim(single, _worst(found.get("single_against_one_step"))),
    ]


def _reversed(test: Summary | None) -> dict[str, float] | None:
    """Turn "plain less DDM" into "DDM less plain"."""
    if test is None:
        return None
    return {"mean": -test["difference"], "low": -test["high"], "high": -test["low"]}


def _worst(tests: Summary | None) -> dict[str, float] | None:
    if not tests:
        return None
    test = min(tests.values(), key=lambda one: float(one["difference"]))
    return {"mean": test["difference"], "low": test["low"], "high": test["high"]}


def _ordered(methods: Summary) -> list[tuple[str, Summary]]:
    return [(name, methods[name]) for name in METHOD_NAMES if name in methods]


def _tests(tests: Summary) -> str:
    rows = [
        [
            METHOD_NAMES[name],
            with_interval({**test, "mean": test["difference"]}, 4),
            p_value(test["p_holm"]),
        ]
        for name, test in _ordered(tests)
    ]
    return table(["method", "difference", "p"], rows) if rows else NOT_MEASURED
