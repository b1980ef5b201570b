"""How often ``--budget SECONDS`` keeps its word, and what is spent within it.

    python -m ddmseg_lab.speed.budget

Segments the whole head that comes with the package (and where there are data sets one
development scan of MALC2012) under budgets from little more than the least work to a generous
one, each run from reading to the last file written, in one process after loading, features
not kept. ``auto`` takes more
and more steps; ``diffusion`` must sample. Each answer is held against that of the same mode
without a budget: agreement of the labels, expected Dice, and where there is a truth Dice.
Writes ``results/budget.tsv``, a row a run, and ``results/budget.json``. There are
100 runs, 50 without data sets: allow half an hour; a stopped run goes on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from ddmseg.datasets import malc2012
from ddmseg.imaging.nifti import read_volume
from ddmseg.inference.options import Mode, SegmentOptions
from ddmseg.inference.segmenter import Segmenter
from ddmseg.outputs.write import write_outputs
from ddmseg.quality.segmentation import Segmentation
from ddmseg_lab.bench.peers import Ids
from ddmseg_lab.bench.scans import demo_head, development_brain
from ddmseg_lab.bench.workbench import mean_dice as agreement
from ddmseg_lab.bench.workbench import silent
from ddmseg_lab.folders import RESULTS, Output
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
from ddmseg_lab.scans import mean_dice
from ddmseg_lab.study import (
    SAMPLING_SEED,
    data_at_hand,
    describe_machine,
    describe_model,
    run_command,
    say,
    short_checksum,
)
from ddmseg_lab.table import RawTable, numbers, write_summary

FACTORS = (1.3, 1.6, 2.0, 2.5, 4.0)
"""Budgets over the seconds of the least that each mode does."""
MODES: tuple[Mode, ...] = ("auto", "diffusion")
COLUMNS = (
    *("scan", "mode", "repeat", "factor", "budget", "spent", "within"),
    *("steps_and_samples", "stopped_because", "expected_dice", "dice"),
    *("agreement", "free_expected_dice", "free_dice", "weights"),
)
"""``free`` is of the answer without a budget; ``nan`` stands where there is no truth."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    data: str | None = None
    """Folder that holds the data sets (else the variable DDMSEG_DATA; without either the demo
    head alone is measured)."""
    output: Output = RESULTS
    """Folder for the figures."""
    model: str = "anatomy"
    """Name or weights of the model."""
    repeats: int = 5
    """Runs of each scan, mode and budget, at least 1."""
    runs: int | None = None
    """Stop after so many new runs."""
    threads: int | None = None
    """CPU threads (torch's choice when left out)."""
    fresh: bool = False
    """Measure everything anew instead of going on where an earlier run stopped."""


@dataclass(frozen=True)
class Scan:
    """A scan to measure on, with its manual labels (FreeSurfer ids) where there are any."""

    path: Path
    truth: Ids | None = None

    def dice(self, labels: Ids) -> float:
        """Return the mean Dice over the structures in common; NaN without a truth."""
        if self.truth is None:
            return float("nan")
        return mean_dice(labels, self.truth, malc2012.EVALUATION_LABELS)


@dataclass(frozen=True)
class Free:
    """The answer of a mode without a budget."""

    labels: Ids
    expected_dice: float
    dice: float


def smallest_budget(segmenter: Segmenter, path: Path, mode: str) -> float:
    """Return the seconds of the least that a mode does: what a tiny budget makes it do."""
    options = SegmentOptions(mode=mode, budget=1e-3)  # type: ignore[arg-type]
    timed_run(segmenter, path, options)  # the first one pays for imports
    return timed_run(segmenter, path, options)[1]


def timed_run(
    segmenter: Segmenter, path: Path, options: SegmentOptions
) -> tuple[Segmentation, float]:
    """Segment a scan from reading to writing; return the answer and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        deadline = segmenter.start_clock(options)
        result = segmenter.segment_volume(read_volume(path), options, silent, deadline)
        write_outputs(result, Path(folder), stem="scan")
        return result, time.perf_counter() - start


def free_answer(segmenter: Segmenter, scan: Scan, mode: str) -> Free:
    """Segment without a budget: what the others are held against."""
    result, _ = timed_run(segmenter, scan.path, SegmentOptions(mode=mode))  # type: ignore[arg-type]
    labels = result.labels.data
    return Free(labels, result.quality.expected_dice, scan.dice(labels))


def measured_row(
    segmenter: Segmenter, scan: Scan, options: SegmentOptions, free: Free
) -> dict[str, Any]:
    """Run once under a budget; return its row."""
    result, seconds = timed_run(segmenter, scan.path, options)
    labels = result.labels.data
    return {
        **row_of(result.receipt["budget"], seconds),
        "expected_dice": round(result.quality.expected_dice, 4),
        "dice": round(scan.dice(labels), 4),
        "agreement": round(agreement(labels, free.labels), 4),
        "free_expected_dice": round(free.expected_dice, 4),
        "free_dice": round(free.dice, 4),
    }


def row_of(record: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return what one run was given and spent, from the receipt and the clock."""
    return {
        "budget": record["seconds"],
        "spent": round(seconds, 3),
        "within": int(seconds <= record["seconds"]),
        "steps_and_samples": "+".join(f"{r['steps']}x{r['samples']}" for r in record["drawn"]),
        "stopped_because": record["stopped_because"],
    }


def find_scans(data: str | None) -> dict[str, Scan]:
    """Return each scan to measure."""
    scans = {"whole head": Scan(demo_head())}
    if data is not None:
        scans["brain"] = Scan(*development_brain(data))
    return scans


def measure(segmenter: Segmenter, arguments: Arguments, table: RawTable) -> None:
    """Measure the runs that the table lacks."""
    left = arguments.runs
    for name, scan in find_scans(data_at_hand(arguments.data)).items():
        for mode in MODES:
            runs: list[dict[str, Any]] = [
                {"scan": name, "mode": mode, "repeat": repeat, "factor": factor}
                for repeat in range(arguments.repeats)
                for factor in FACTORS
            ]
            missing = [run for run in runs if not table.has(**run)][:left]
            if not missing:
                continue
            left = None if left is None else left - len(missing)
            smallest = smallest_budget(segmenter, scan.path, mode)
            free = free_answer(segmenter, scan, mode)
            for at in missing:
                options = SegmentOptions(mode=mode, budget=round(smallest * at["factor"], 2))
                row = measured_row(segmenter, scan, options, free)
                table.add([{**at, **row, "weights": short_checksum(segmenter.card)}])
                say(f"{name}, {mode}: {row['spent']} of {row['budget']:g} s")


def run(arguments: Arguments) -> None:
    """Measure every scan, mode and budget."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    segmenter = Segmenter.load(arguments.model, device="cpu")
    weights = short_checksum(segmenter.card)
    table = RawTable(arguments.output / "budget.tsv", COLUMNS, [weights], fresh=arguments.fresh)
    measure(segmenter, arguments, table)
    summary = {
        "machine": describe_machine(),
        "models": {"ddm": describe_model(segmenter.card)},
        **summarise_all(table.rows),
    }
    write_summary(arguments.output / "budget.json", summary, seed=SAMPLING_SEED)


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


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
