"""Peak memory of a run, as it was estimated beforehand and as it was measured."""

from __future__ import annotations

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

COMMAND = "python -m ddmseg_lab.speed.memory"
MOST_GB = 2.0
"""For one whole head at 1 mm, whatever is asked for."""
WORDS = (
    "Each run is a process of its own without kept features; its peak is the largest resident "
    "memory. The estimate is made before a scan is encoded and decides whether a run may begin "
    "(docs/performance.md), so it must not lie below the peak. With several heads it is that of "
    "one of them, and no ratio is given."
)


def memory(summaries: Summaries) -> Section:
    """Estimate and peak of each kind of run."""
    title, found = "Memory", summaries.get("memory")
    if found is None:
        return missing(title, COMMAND, _claims({}))
    runs = found["runs"]
    rows = [
        [
            name,
            str(one["heads"]),
            f"{one['estimated_gb']:.2f}",
            f"{one['peak_gb']:.2f}",
            f"{one['estimate_over_peak']:.2f}" if one["heads"] == 1 else NO_FIGURE,
        ]
        for name, one in runs.items()
    ]
    head = ["run", "heads", "estimated, GB", "peak, GB", "estimate over peak"]
    body = [f"{machine_words(found)} {weights_words(found)} {WORDS}", table(head, rows)]
    return Section(title, COMMAND, body, _claims(runs))


def _claims(runs: Summary) -> list[Claim]:
    single = [one for one in runs.values() if one["heads"] == 1]
    peak = Target(
        "most memory of one whole head at 1 mm", MOST_GB, at_least=False, unit=" GB", digits=2
    )
    estimate = Target("memory of one whole head, estimate over peak: the lowest", 1.0, digits=2)
    return [
        Claim(peak, max((one["peak_gb"] for one in single), default=None)),
        Claim(estimate, min((one["estimate_over_peak"] for one in single), default=None)),
    ]
