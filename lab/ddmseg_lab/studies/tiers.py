"""What each tier loses against the unoptimised path, and what a second more buys.

    python -m ddmseg_lab.accuracy.tiers --data DATA

Validation scans go through the real ``Segmenter`` in every tier that can be run here: fast,
auto and diffusion; ``full``, the last rung of the ladder that mode auto climbs;
and ``unoptimised``, the same as diffusion without any of its shortcuts. Whole heads come intact
and, so that auto has something to decide, degraded. Writes ``results/tiers.tsv`` (one row a
scan and tier) and ``results/tiers.json``; a stopped run goes on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.datasets import Case, hippocampus, malc2012, split_cases
from ddmseg.imaging.nifti import read_label_map
from ddmseg.inference.sampled_region import SampledRegion
from ddmseg.inference.segmenter import Segmenter
from ddmseg.maths.adaptive import BUDGETS
from ddmseg_lab.accuracy.anatomy import structure_dice
from ddmseg_lab.accuracy.hippocampus import hippocampus_dice
from ddmseg_lab.accuracy.robustness import INTACT, write_degraded
from ddmseg_lab.bench.summary import median_range
from ddmseg_lab.bench.tiers import FULL as DIFFUSION
from ddmseg_lab.bench.tiers import FULL_DRAW, TIERS, Tier, choose_tiers
from ddmseg_lab.measuring import (
    Options,
    describe_machine,
    describe_model,
    run_command,
    say,
    short_checksum,
)
from ddmseg_lab.page import (
    INTERVALS,
    NO_FIGURE,
    Chapter,
    Claim,
    Summary,
    Target,
    table,
    weights_words,
    with_interval,
)
from ddmseg_lab.records import RawTable, numbers, write_summary
from ddmseg_lab.summaries import group_interval, mean_by_group, mean_interval

FULL = Tier("full", "full", {"mode": "diffusion", "steps": BUDGETS[-1], "samples": 4})
"""The most steps and samples that mode auto may spend."""
UNOPTIMISED = Tier(
    "unoptimised", f"diffusion, {FULL_DRAW}, without shortcuts", TIERS[DIFFUSION].options
)
"""What the others are compared with: samples decide at every voxel of the grid, and the
discrepancy is computed anew in each step."""
DEGRADED = (("low_resolution", 5), ("gamma", 5), ("noise", 5), ("motion", 5))
"""Artefacts and levels that cost most (``ddmseg_lab.accuracy.robustness``)."""
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
class ScanSet:
    """Scans that a model is tried on.

    Attributes:
        name: in the table.
        model: name of the model.
        cases: with labels.
        conditions: artefact and level of each run.
        dice: mean Dice of a label map of a case.
    """

    name: str
    model: str
    cases: Sequence[Case]
    conditions: Sequence[tuple[str, int]]
    dice: Callable[[Case, NDArray[Any]], float]


def scan_sets(arguments: Arguments) -> list[ScanSet]:
    """Open the validation scans of both models."""
    heads = split_cases(malc2012.list_cases(arguments.data), malc2012.NAME)
    crops = split_cases(hippocampus.list_cases(arguments.data), hippocampus.NAME)
    name, chosen = "MALC2012 development scans", heads.require("validation")[: arguments.cases]
    return [
        ScanSet(name, arguments.anatomy, chosen, [(INTACT, 0)], head_dice),
        ScanSet(f"{name}, degraded", arguments.anatomy, chosen, DEGRADED, head_dice),
        ScanSet(
            "hippocampus validation crops",
            arguments.hippocampus,
            crops.require("validation")[: arguments.cases],
            [(INTACT, 0)],
            hippocampus_dice,
        ),
    ]


def head_dice(case: Case, labels: NDArray[Any]) -> float:
    """Return the mean Dice of the structures that both protocols draw."""
    assert case.labels is not None  # the set has labels throughout
    truth = malc2012.freesurfer_ids(read_label_map(case.labels).data)
    return float(np.nanmean(list(structure_dice(labels, truth).values())))


def tiers_here() -> list[Tier]:
    """Return all tiers that can be run here, what they are compared with last."""
    return [*choose_tiers([]), FULL, UNOPTIMISED]


@cache
def segmenter(model: str, *, shortcuts: bool = True) -> Segmenter:
    """Load a model once, and once to sample without shortcuts."""
    loaded = Segmenter.load(model, device="cpu")
    if not shortcuts:
        loaded.model_stages.answering.find_region = SampledRegion.whole
        assert loaded.model_stages.model.denoiser is not None  # both models sample
        loaded.model_stages.model.denoiser.trusts_coarse_head = False
        loaded.model_stages.model.denoiser.estimate_tolerance = 0.0
    return loaded


def measure(scans: ScanSet, tier: Tier, number: int, artefact: str, level: int) -> dict[str, Any]:
    """Segment one scan of a set in one condition and return its row."""
    chosen = segmenter(scans.model, shortcuts=tier is not UNOPTIMISED)
    case = scans.cases[number]
    with tempfile.TemporaryDirectory() as folder:
        path = case.images[0]
        if artefact != INTACT:
            path = write_degraded(case, number, artefact, level, Path(folder))
        start = time.process_time()
        result = chosen(path, **tier.options)
        seconds = time.process_time() - start
    return {
        "weights": short_checksum(chosen.card),
        "set": scans.name,
        "case": case.identifier,
        "person": case.group,
        "condition": f"{artefact} {level}",
        "tier": tier.name,
        "dice": scans.dice(case, result.labels.data),
        "expected_dice": result.quality.expected_dice,
        "steps": result.quality.steps,
        "samples": result.quality.samples,
        "seconds": seconds,
    }


def fill(table: RawTable, scans: ScanSet, tier: Tier) -> None:
    """Measure the runs of a set and tier that the table has not."""
    for number, case in enumerate(scans.cases):
        for artefact, level in scans.conditions:
            key = {"case": case.identifier, "condition": f"{artefact} {level}"}
            if not table.has(set=scans.name, tier=tier.name, **key):
                table.add([measure(scans, tier, number, artefact, level)])
    say(f"{scans.name}: {tier.title}")


def summarise(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Return, of the rows of one set, what each tier gives, loses and gains a second."""
    tiers = list(dict.fromkeys(row["tier"] for row in rows))
    ordered = sorted(rows, key=lambda row: (row["case"], row["condition"]))
    by_tier = {tier: [row for row in ordered if row["tier"] == tier] for tier in tiers}
    return {
        tier: {
            "runs": len(of),
            "dice": _interval(numbers(of, "dice"), of),
            "seconds": median_range(numbers(of, "seconds")),
            "sampled": sum(row["samples"] != "0" for row in of),
            "lost": _interval(_differences(by_tier[UNOPTIMISED.name], of, "dice"), of),
            "gained_per_second": _gained(by_tier["fast"], of),
        }
        for tier, of in by_tier.items()
    }


def _interval(values: list[float], rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    return mean_interval(mean_by_group(values, [row["person"] for row in rows]))


def _differences(
    first: Sequence[Mapping[str, str]], second: Sequence[Mapping[str, str]], column: str
) -> list[float]:
    """Return first less second, scan by scan; both have the same scans in one order."""
    return [a - b for a, b in zip(numbers(first, column), numbers(second, column), strict=True)]


def _gained(
    fast: Sequence[Mapping[str, str]], tier: Sequence[Mapping[str, str]]
) -> dict[str, Any] | None:
    """Return the Dice that a tier gains over always-fast for each further second, all told.

    None where it draws no samples: its seconds differ by chance alone.
    """
    if all(row["samples"] == "0" for row in tier):
        return None
    gain, more = (_differences(tier, fast, column) for column in ("dice", "seconds"))
    pairs = np.array([gain, more]).T
    persons = [row["person"] for row in tier]
    return group_interval(lambda p: float(p[:, 0].sum() / p[:, 1].sum()), pairs, persons)


def run(arguments: Arguments) -> None:
    """Measure one set and tier after the other, then sum up."""
    sets = scan_sets(arguments)
    cards = {scans.model: segmenter(scans.model, "torch").card for scans in sets}
    path = arguments.output / "tiers.tsv"
    checksums = [short_checksum(card) for card in cards.values()]
    table = RawTable(path, COLUMNS, checksums, fresh=arguments.fresh)
    tiers = tiers_here()
    for scans in sets:
        for tier in tiers:
            fill(table, scans, tier)
    summary = {
        "models": {name: describe_model(card) for name, card in cards.items()},
        "machine": describe_machine(),
        "tiers": {tier.name: tier.title for tier in tiers},
        "full": dict(FULL.options),
        "degraded": [f"{artefact} {level}" for artefact, level in DEGRADED],
        "sets": {scans.name: summarise(table.select(set=scans.name)) for scans in sets},
    }
    write_summary(path.with_suffix(".json"), summary)


MOST = 0.01
"""Of Dice, that a tier may lose."""
WHAT = "{of}: what the tier that loses most loses"


def body(found: Summary) -> list[str]:
    """Dice, loss, seconds and gain a second of every tier, on validation scans."""
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
    for of, by_tier in found["sets"].items():
        parts += [f"**{of[:1].upper()}{of[1:]}**", _table(found["tiers"], by_tier)]
    return parts


def claims(found: Summary) -> list[Claim]:
    """The tier that loses most, of each set of scans."""
    worst = {
        of: max((tier["lost"] for tier in by_tier.values()), key=lambda lost: float(lost["mean"]))
        for of, by_tier in found.get("sets", {"validation scans": {}}).items()
        if by_tier
    } or {"validation scans": None}
    return [
        Claim(Target(WHAT.format(of=of), MOST, at_least=False, digits=4), lost)
        for of, lost in worst.items()
    ]


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


CHAPTER = Chapter("Tiers", "python -m ddmseg_lab.accuracy.tiers --data DATA", "tiers", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
