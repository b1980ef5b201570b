"""Everything that is to be measured, as single measurements in an order that is fair."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ddmseg_lab.bench.peers import Peer
from ddmseg_lab.bench.scaling import points
from ddmseg_lab.bench.scans import BenchScan
from ddmseg_lab.bench.stages import STAGES
from ddmseg_lab.bench.tiers import Tier
from ddmseg_lab.bench.workbench import PROGRAM, Costs, Workbench

START, TIER, STAGE, MEMORY, SCALING, PEER = (
    *("start", "tier", "stage", "memory", "scaling", "peer"),
)
"""Parts of the record."""
KEYS = ("part", "scan", "name", "at", "repeat")
FIGURES = ("seconds", "processor_seconds", "denoise_seconds", "peak_memory_gb", "dice")
NOTHING = "-"
"""Where a part has no scan or no size."""
PLAIN_PYTHON, IMPORT, HELP = "python", "import ddmseg", "ddmseg --help"
COMMANDS = {
    PLAIN_PYTHON: (sys.executable, "-c", "pass"),
    IMPORT: (sys.executable, "-c", "import ddmseg"),
    HELP: (*PROGRAM, "--help"),
}
"""Whose time is start-up alone; that of Python itself is within the others."""
MOST_SCALING_REPEATS = 3
"""Of one size: exponents rest on all sizes together."""


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        part: what kind it is.
        name: of the tier, stage, command, series or tool.
        run: measures it and returns its figures by column; what is missing was not measured.
        scan: name of the scan.
        at: size, or version of a tool.
        repeat: counted from 0.
    """

    part: str
    name: str
    run: Callable[[], Mapping[str, float]]
    scan: str = NOTHING
    at: int | str = NOTHING
    repeat: int = 0

    @property
    def key(self) -> dict[str, object]:
        """What tells it from all others."""
        return {name: getattr(self, name) for name in KEYS}

    def __str__(self) -> str:
        size = "" if self.at == NOTHING else f" {self.at}"
        return f"{self.part}: {self.name}{size}"


def all_jobs(
    bench: Workbench,
    scans: Sequence[BenchScan],
    tiers: Sequence[Tier],
    *,
    peers: Sequence[Peer] = (),
    repeats: int,
    scaling: bool,
) -> list[Job]:
    """Return every measurement, quick ones first.

    Tiers and stages take turns, so that a machine which slows down does so for all of them.
    Other tools run once: theirs are minutes. Scaling is that of the first scan.

    Args:
        bench: runs them.
        scans: at least one.
        tiers: of ddmseg.
        peers: other tools.
        repeats: of each, at least 1.
        scaling: whether to measure it.
    """
    jobs = [*_start_jobs(bench, repeats)]
    for scan in scans:
        jobs += _turns(bench, scan, tiers, repeats)
        jobs += [
            Job(MEMORY, tier.name, partial(bench.run_tier_fresh, scan, tier), scan.name)
            for tier in tiers
        ]
    if scaling:
        jobs += _scaling_jobs(bench, scans[0], min(repeats, MOST_SCALING_REPEATS))
    jobs += [
        Job(PEER, peer.name, partial(bench.run_peer, scan, peer), scan.name, peer.version)
        for scan in scans
        for peer in peers
    ]
    return jobs


def _start_jobs(bench: Workbench, repeats: int) -> list[Job]:
    return [
        Job(START, name, partial(bench.run_command, command), repeat=repeat)
        for repeat in range(repeats)
        for name, command in COMMANDS.items()
    ]


def _turns(bench: Workbench, scan: BenchScan, tiers: Sequence[Tier], repeats: int) -> list[Job]:
    jobs = []
    for repeat in range(repeats):
        jobs += [
            Job(TIER, t.name, partial(bench.run_tier, scan, t), scan.name, repeat=repeat)
            for t in tiers
        ]
        jobs += [
            Job(STAGE, name, partial(bench.run_stage, scan, name), scan.name, repeat=repeat)
            for name in STAGES
        ]
    return jobs


def _scaling_jobs(bench: Workbench, scan: BenchScan, repeats: int) -> list[Job]:
    jobs = []
    for repeat in range(repeats):
        for point in points(scan):
            run: Callable[[], Costs] = partial(point.measure, bench, scan, memory=repeat == 0)
            jobs.append(Job(SCALING, point.series, run, scan.name, point.at, repeat))
    return jobs
