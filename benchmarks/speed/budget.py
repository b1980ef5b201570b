"""How often ``--budget SECONDS`` keeps its word, and what is spent within it.

    python -m benchmarks.speed.budget

Segments the whole head that comes with the package (and with ``--data`` one brain of
MALC2012) under budgets from the smallest that can be met to a generous one, each run from
reading to the last file written, in one process after loading, features not kept; the rates
are those that the command itself measures and keeps. ``auto`` takes more and more steps;
``diffusion`` must sample. Writes ``results/budget.tsv``, a row a run, and
``results/budget.json``: share of runs within the budget (those refused
beforehand are counted apart), with seconds spent over seconds given.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import torch
from scipy.stats import binomtest
from tyro.conf import arg

from benchmarks.commands import (
    describe_machine,
    describe_model,
    run_command,
    say,
    short_checksum,
)
from ddmseg.errors import SettingsError
from ddmseg.imaging.datasets import malc2012
from ddmseg.imaging.nifti import read_volume
from ddmseg.pipeline.evidence.records import RawTable, write_summary
from ddmseg.pipeline.inference import Segmenter
from ddmseg.pipeline.options import SegmentOptions
from ddmseg.pipeline.outputs import write_outputs

FACTORS = (1.1, 1.4, 1.8, 2.5, 4.0)
"""Budgets over the smallest that can be met, for each mode."""
MODES = ("auto", "diffusion")
REFUSED = "refused"
COLUMNS = (
    *("scan", "mode", "repeat", "factor", "budget", "predicted", "spent", "within"),
    *("steps_and_samples", "stopped_because", "slowdown", "expected_dice", "weights"),
)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    data: str | None = None
    """Folder that holds the data sets; without it the demo head alone is measured."""
    output: Annotated[Path, arg(aliases=("-o",))] = Path("results")
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


def smallest_budget(segmenter: Segmenter, path: Path, mode: str) -> float:
    """Return the smallest budget that can be met, as the refusal of a tiny one names it."""
    options = SegmentOptions(mode=mode, budget=1e-3)  # type: ignore[arg-type]
    try:
        timed_run(segmenter, path, options)
    except SettingsError as error:
        return float(str(error).split("--budget ")[1].split()[0])
    raise AssertionError("a millisecond cannot be enough")


def timed_run(segmenter: Segmenter, path: Path, options: SegmentOptions) -> dict[str, Any]:
    """Segment a scan from reading to writing; return the record of its budget."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        deadline = segmenter.start_clock(options, writes=True)
        result = segmenter.segment_volume(read_volume(path), options, _silent, deadline)
        write_outputs(result, Path(folder), stem="scan")
        seconds = time.perf_counter() - start
    return {
        **result.receipt["budget"],
        "seconds_in_all": seconds,
        "expected_dice": result.quality.expected_dice,
    }


def measured_row(segmenter: Segmenter, path: Path, options: SegmentOptions) -> dict[str, Any]:
    """Run once; a refusal is a row, too: a machine that turned slow may need more by then."""
    try:
        return row_of(timed_run(segmenter, path, options))
    except SettingsError:
        nothing = dict.fromkeys(COLUMNS[5:-1], "")
        return {**nothing, "budget": options.budget, "stopped_because": REFUSED}


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that tell of one run."""
    spent = record["seconds_in_all"]
    return {
        "budget": record["seconds"],
        "predicted": record["predicted_seconds"],
        "spent": round(spent, 3),
        "within": int(spent <= record["seconds"]),
        "steps_and_samples": "+".join(f"{r['steps']}x{r['samples']}" for r in record["drawn"]),
        "stopped_because": record["stopped_because"],
        "slowdown": record["slowdown"],
        "expected_dice": round(record["expected_dice"], 4),
    }


def summarise(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return the share of runs within their budget, with its 95% interval, and what was used."""
    refused = sum(row["stopped_because"] == REFUSED for row in rows)
    rows = [row for row in rows if row["stopped_because"] != REFUSED]
    within = [int(row["within"]) for row in rows]
    used = sorted(float(row["spent"]) / float(row["budget"]) for row in rows)
    if not rows:
        return {"runs": 0, "refused": refused}
    kept = binomtest(sum(within), len(within)).proportion_ci(method="wilson")
    return {
        "runs": len(rows),
        "refused": refused,
        "within": sum(within) / len(within),
        "low": kept.low,
        "high": kept.high,
        "median_share_used": used[len(used) // 2],
        "largest_share_used": used[-1],
    }


def find_scans(data: str | None) -> dict[str, Path]:
    """Return the file of each scan to measure."""
    scans = {"whole head": Path(str(files("ddmseg") / "demo" / "colin27_t1.nii.gz"))}
    if data is not None:
        scans["brain"] = malc2012.list_cases(data)[0].images[0]
    return scans


def run(arguments: Arguments) -> None:
    """Measure every scan, mode and budget."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    segmenter = Segmenter.load(arguments.model, device="cpu")
    weights = short_checksum(segmenter.card)
    table = RawTable(arguments.output / "budget.tsv", COLUMNS, [weights], fresh=arguments.fresh)
    left = arguments.runs
    for scan, path in find_scans(arguments.data).items():
        for mode in MODES:
            smallest = smallest_budget(segmenter, path, mode)
            for repeat in range(arguments.repeats):
                for factor in FACTORS:
                    at = {"scan": scan, "mode": mode, "repeat": repeat, "factor": factor}
                    if left == 0 or table.has(**at):
                        continue
                    left = None if left is None else left - 1
                    options = SegmentOptions(mode=mode, budget=round(smallest * factor, 2))
                    row = measured_row(segmenter, path, options)
                    table.add([{**at, **row, "weights": weights}])
                    say(f"{scan}, {mode}: {row['spent']} of {row['budget']:g} s")
    write_summary(
        arguments.output / "budget.json",
        {
            "machine": describe_machine(),
            "model": describe_model(segmenter.card),
            "all": summarise(table.rows),
            **{mode: summarise([r for r in table.rows if r["mode"] == mode]) for mode in MODES},
        },
    )


def _silent(stage: str, fraction: float) -> None:
    """Show nothing: a bar would take time."""


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
