"""What bad scans cost the anatomy model, and whether its verdicts say so."""

from __future__ import annotations

from ddmseg_lab.page import (
    INTERVALS,
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

GROUPS = {"intact": "intact", "at most": "lost at most {loss:g}", "more": "lost more"}


def robustness(summaries: Summaries) -> Section:
    """Loss by artefact and level, verdicts, and how expected Dice ranks bad scans."""
    title, command = (
        "Bad scans: anatomy",
        "python -m ddmseg_lab.accuracy.robustness --model anatomy --data DATA",
    )
    found = summaries.get("robustness_anatomy")
    target = Target("anatomy on bad scans: AUROC of the expected Dice for a clear loss", 0.9)
    if found is None:
        return missing(title, command, [Claim(target, None)])
    words = (
        f"{found['scans']} MALC2012 test scans, intact and degraded ({found['rows']} runs of "
        "`--mode fast`), Dice over the structures in common. The protocols of truth and model "
        f"differ; a scan is called bad when it lost more than {found['loss']:g} against the same "
        f"scan intact: {found['bad']} are. AUROC for these: expected Dice "
        f"{with_interval(found['auroc_expected_dice'])}, a verdict other than pass "
        f"{with_interval(found['auroc_verdict'])}. {weights_words(found)} {INTERVALS}"
    )
    body = [words, _losses(found), _verdicts(found)]
    return Section(title, command, body, [Claim(target, found["auroc_expected_dice"])])


def _losses(found: Summary) -> str:
    levels = sorted({level for by_level in found["lost"].values() for level in by_level})
    rows = [
        [name.replace("_", " "), *(with_interval(by_level[level]) for level in levels)]
        for name, by_level in found["lost"].items()
    ]
    return table(["Dice lost", *(f"level {level}" for level in levels)], rows)


def _verdicts(found: Summary) -> str:
    rows = []
    for name, counts in found["verdicts"].items():
        total = sum(counts.values())
        shares = [f"{count / total:.1%} ({count})" if total else "–" for count in counts.values()]
        rows.append([GROUPS[name].format(**found), *shares])
    return table(["scans", *next(iter(found["verdicts"].values()))], rows)
