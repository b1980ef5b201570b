"""``ddmseg bench``: measures what is missing, keeps each row at once, adds up at the end."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddmseg.errors import DdmsegError, OutputError, SettingsError
from ddmseg.inference.options import SegmentOptions
from ddmseg_lab.bench.jobs import FIGURES, KEYS, Job, all_jobs
from ddmseg_lab.bench.scans import find_bench_scans
from ddmseg_lab.bench.summary import summarise
from ddmseg_lab.bench.tiers import FULL_DRAW, choose_tiers
from ddmseg_lab.bench.workbench import Peer, Workbench
from ddmseg_lab.folders import RESULTS
from ddmseg_lab.provenance import commit, describe_machine, describe_model, measured_with
from ddmseg_lab.table import WEIGHTS, RawTable, write_summary

TABLE, SUMMARY = "bench.tsv", "bench.json"
COLUMNS = (WEIGHTS, *KEYS, *FIGURES)

Report = Callable[[int, int, str], None]
"""Takes how many measurements are done, of how many, and which one comes next."""


@dataclass(frozen=True)
class BenchPlan:
    """What to measure, as the options of the command say."""

    scans: tuple[Path, ...] = ()
    output: Path = RESULTS
    tiers: tuple[str, ...] = ()
    repeats: int = 5
    peers: tuple[Peer, ...] = ()
    scaling: bool = True
    model: str = "anatomy"
    device: str = "auto"
    threads: int | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        for name, value in (("repeats", self.repeats), ("threads", self.threads)):
            if value is not None and value < 1:
                raise SettingsError(f"{name}: got {value}; it must be at least 1")


@dataclass(frozen=True)
class BenchResult:
    """What a run left: its summary, files, and a line for each measurement that failed."""

    summary: dict[str, Any]
    files: list[Path]
    problems: list[str] = field(default_factory=list)


def run_bench(plan: BenchPlan, report: Report | None = None) -> BenchResult:
    """Do the measurements that are missing and write rows and summary.

    A measurement that fails is told of and tried again by the next run.

    Raises:
        DdmsegError: when nothing can be done at all: wrong model, tier, scan or output.
    """
    commit()  # of the code as it was loaded, whatever is committed meanwhile
    if plan.threads is not None:
        import torch

        torch.set_num_threads(plan.threads)
    with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
        bench = Workbench(plan.model, Path(folder), device=plan.device, threads=plan.threads)
        tiers = choose_tiers(plan.tiers)
        scans = find_bench_scans(plan.scans)
        identity = measured_with(bench.card, bench.device.type)
        path = plan.output / TABLE
        try:
            table = RawTable(path, COLUMNS, [identity], fresh=plan.fresh)
        except OSError as error:
            raise OutputError(
                f"cannot write {path}: {error.strerror or error}; choose another folder"
            ) from error
        jobs = all_jobs(
            bench, scans, tiers, peers=plan.peers, repeats=plan.repeats, scaling=plan.scaling
        )
        problems = _measure(jobs, table, identity, report)
        summary = {
            "machine": {**describe_machine(), "device": bench.device.type},
            "models": {"ddm": describe_model(bench.card)},
            "full": {"steps": FULL_DRAW.steps, "samples": FULL_DRAW.samples},
            **summarise(table.rows, scans, tiers, plan.peers),
        }
    write_summary(plan.output / SUMMARY, summary, seed=SegmentOptions.seed)
    return BenchResult(summary, [path, plan.output / SUMMARY], problems)


def _measure(
    jobs: Sequence[Job], table: RawTable, identity: str, report: Report | None
) -> list[str]:
    """Run what is missing, one row each; return what went wrong."""
    problems = []
    for done, job in enumerate(jobs):
        if table.has(**job.key):
            continue
        if report is not None:
            report(done, len(jobs), str(job))
        try:
            figures = job.run()
        except DdmsegError as error:
            problems.append(f"{job}: {error}")
            continue
        row = {name: figures.get(name, math.nan) for name in FIGURES}
        table.add([{WEIGHTS: identity, **job.key, **row}])
    return problems
