"""What each tier loses against the unoptimised path, and what a second more buys.

    python -m ddmseg_lab.studies.tiers --data DATA

Validation scans go through the real ``Segmenter`` in every tier that runs here: fast, auto and
diffusion; and ``unoptimised``, the same as diffusion without any of its shortcuts. Whole heads come
intact and, so that auto has something to decide, degraded. Writes ``results/tiers.tsv`` (one row a
scan and tier) and ``results/tiers.json``; a stopped run goes on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ddmseg.datasets.case import Case
from ddmseg.inference.budget import Draw
from ddmseg.inference.segmenter import Segmenter
from ddmseg_lab.page import Chapter, Claim, Summary, basis, claim, table, with_interval
from ddmseg_lab.scans import CROPS, HEADS, ScanSet
from ddmseg_lab.statistics_text import Pairs, group_interval, median_range, over_persons
from ddmseg_lab.studies.robustness_anatomy import INTACT, write_degraded
from ddmseg_lab.study import Options, run_command, say, short_checksum
from ddmseg_lab.table import RawTable, numbers

FULL_DRAW = Draw(steps=10, samples=4)
"""Of the full diffusion answer, which the others are compared with."""
TIERS: dict[str, dict[str, Any]] = {
    "fast": {"mode": "fast"},
    "auto": {},
    "diffusion": {"mode": "diffusion", "steps": FULL_DRAW.steps, "samples": FULL_DRAW.samples},
}
"""What a user may pick, in the order of the tables: the options that differ from their defaults."""
UNOPTIMISED = "unoptimised"
"""What the others are compared with: samples decide at every voxel, and the discrepancy is computed
anew in each step."""
OPTIONS = {**TIERS, UNOPTIMISED: TIERS["diffusion"]}
TITLES = {
    **{"fast": "fast", "auto": "auto", "diffusion": f"diffusion, {FULL_DRAW}"},
    UNOPTIMISED: f"diffusion, {FULL_DRAW}, without shortcuts",
}
DEGRADED = (("low_resolution", 5), ("gamma", 5), ("noise", 5), ("motion", 5))
"""Artefacts and levels that cost most (``ddmseg_lab.studies.robustness_anatomy``)."""
COLUMNS = (
    *("weights", "set", "case", "person", "condition", "tier"),
    *("dice", "expected_dice", "steps", "samples", "seconds"),
)


@dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Options of this command; ``--cases`` counts in each set."""

    anatomy: str = "anatomy"
    """Model of whole heads."""
    hippocampus: str = "hippocampus"
    """Model of the crops."""


@dataclass(frozen=True)
class Trial:
    """Scans that a model is tried on, with artefact and level of each run."""

    name: str
    model: str
    scans: ScanSet
    cases: Sequence[Case]
    conditions: Sequence[tuple[str, int]]


def trials(options: Arguments) -> list[Trial]:
    """Open the validation scans of both models."""
    heads = HEADS.cases("validation", options.data, options.cases)
    crops = CROPS.cases("validation", options.data, options.cases)
    name, whole = "MALC2012 development scans", [(INTACT, 0)]
    return [
        Trial(name, options.anatomy, HEADS, heads, whole),
        Trial(f"{name}, degraded", options.anatomy, HEADS, heads, DEGRADED),
        Trial("hippocampus validation crops", options.hippocampus, CROPS, crops, whole),
    ]


@cache
def segmenter(model: str, *, shortcuts: bool = True) -> Segmenter:
    """Load a model once, and once to sample without shortcuts."""
    loaded = Segmenter.load(model, device="cpu")
    if not shortcuts:
        assert loaded.model_stages.model.denoiser is not None  # both models sample
        loaded.model_stages.model.denoiser.trusts_coarse_head = False
        loaded.model_stages.model.denoiser.estimate_tolerance = 0.0
    return loaded


def measure(trial: Trial, tier: str, number: int, artefact: str, level: int) -> dict[str, Any]:
    """Segment one scan of a set in one condition and return its row."""
    chosen = segmenter(trial.model, shortcuts=tier != UNOPTIMISED)
    case = trial.cases[number]
    with tempfile.TemporaryDirectory() as folder:
        path = case.images[0]
        if artefact != INTACT:
            path = write_degraded(case, number, artefact, level, Path(folder))
        start = time.process_time()
        result = chosen(path, **OPTIONS[tier])
        seconds = time.process_time() - start
    quality = result.quality
    return {
        **{"weights": short_checksum(chosen.card), "set": trial.name, "case": case.identifier},
        **{"person": case.group, "condition": f"{artefact} {level}", "tier": tier},
        "dice": trial.scans.mean_dice(case, result.labels.data),
        **{"expected_dice": quality.expected_dice, "steps": quality.steps},
        **{"samples": quality.samples, "seconds": seconds},
    }


def fill(table: RawTable, trial: Trial, tier: str) -> None:
    """Measure the runs of a set and tier that the table has not."""
    for number, case in enumerate(trial.cases):
        for artefact, level in trial.conditions:
            key = {"case": case.identifier, "condition": f"{artefact} {level}"}
            if not table.has(set=trial.name, tier=tier, **key):
                table.add([measure(trial, tier, number, artefact, level)])
    say(f"{trial.name}: {TITLES[tier]}")


def summarise(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Return, of the rows of one set, what each tier gives, loses and gains a second.

    Tiers are compared scan by scan. Where one draws no samples it gains nothing: its seconds
    differ by chance alone.
    """
    ordered = sorted(rows, key=lambda row: (row["case"], row["condition"]))
    by_tier = {
        tier: [row for row in ordered if row["tier"] == tier]
        for tier in dict.fromkeys(row["tier"] for row in rows)
    }
    figures = {
        tier: np.array([numbers(of, "dice"), numbers(of, "seconds")]).T
        for tier, of in by_tier.items()
    }
    found = {}
    for tier, of in by_tier.items():
        sampled = sum(row["samples"] != "0" for row in of)
        lost = figures[UNOPTIMISED] - figures[tier]
        more = figures[tier] - figures["fast"]
        persons = [row["person"] for row in of]
        found[tier] = {
            "runs": len(of),
            "dice": over_persons(of, "dice"),
            "seconds": median_range(numbers(of, "seconds")),
            "sampled": sampled,
            "lost": over_persons(of, lost[:, 0].tolist()),
            "gained_per_second": group_interval(_ratio, more, persons) if sampled else None,
        }
    return found


def _ratio(pairs: Pairs) -> float:
    """Return the sum of the first column over that of the second."""
    return float(pairs[:, 0].sum() / pairs[:, 1].sum())


def run(options: Arguments) -> None:
    """Measure one set and tier after the other, then sum up."""
    found = trials(options)
    cards = {trial.model: segmenter(trial.model).card for trial in found}
    table = options.raw_table("tiers", COLUMNS, list(cards.values()))
    for trial in found:
        for tier in OPTIONS:
            fill(table, trial, tier)
    summary = {
        "tiers": TITLES,
        "degraded": [f"{artefact} {level}" for artefact, level in DEGRADED],
        "sets": {trial.name: summarise(table.select(set=trial.name)) for trial in found},
    }
    options.write_summary("tiers", cards, summary)


MOST = 0.01  # of Dice, that a tier may lose


def body(found: Summary) -> list[str]:
    """Dice, loss, seconds and gain a second of every tier, on validation scans."""
    words = (
        "*Without shortcuts* samples decide at every voxel of the grid and the discrepancy is "
        "computed anew in each step; in the other tiers samples decide close to the coarse "
        "foreground, those of `anatomy` only where the coarse head is not sure. *Lost* is the "
        "Dice without shortcuts less the tier's, scan by scan. "
        "*Sampled* counts runs in which samples were drawn. *Gained a second* is the Dice that a "
        "tier gains over always-fast, for each further second of processor time. Degraded scans: "
        f"{', '.join(found['degraded']).replace('_', ' ')} (artefact and level, of 5). "
        f"{basis(found)}"
    )
    parts = [words]
    for of, by_tier in found["sets"].items():
        parts += [f"**{of[:1].upper()}{of[1:]}**", _table(found["tiers"], by_tier)]
    return parts


def claims(found: Summary) -> list[Claim]:
    """The tier that loses most, of each set of scans."""
    sets = {of: by_tier for of, by_tier in found.get("sets", {}).items() if by_tier}
    made = []
    for of, by_tier in (sets or {"validation scans": {}}).items():
        lost = [tier["lost"] for tier in by_tier.values()]
        worst = max(lost, key=lambda one: float(one["mean"]), default=None)
        what = f"{of}: what the tier that loses most loses"
        made.append(claim(what, MOST, worst, at_least=False, digits=4))
    return made


def _table(titles: Summary, by_tier: Summary) -> str:
    rows = [
        [
            *(titles[name], with_interval(tier["dice"]), with_interval(tier["lost"], 4)),
            *(f"{tier['sampled']} of {tier['runs']}", f"{tier['seconds']['median']:.2f}"),
            with_interval(tier["gained_per_second"] or {}, 5),
        ]
        for name, tier in by_tier.items()
    ]
    heads = ["tier", "Dice", "lost", "sampled", "processor s, median", "gained a second"]
    return table(heads, rows)


CHAPTER = Chapter("Tiers", "python -m ddmseg_lab.studies.tiers --data DATA", "tiers", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
