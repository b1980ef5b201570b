"""Everything that is to be measured, as single measurements in an order that is fair."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ddmseg.imaging.labels import protocol_rows
from ddmseg.imaging.nifti import read_volume, write_map
from ddmseg.models.checkpoint import Card, build_model, save_weights
from ddmseg.models.settings import ModelSettings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg_lab.bench import process
from ddmseg_lab.bench.scans import BenchScan, refined, refined_shape
from ddmseg_lab.bench.tiers import Tier
from ddmseg_lab.bench.workbench import PROGRAM, STAGES, Costs, Peer, Workbench

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
SERIES = {
    "voxels": "voxels of the scan",
    "steps": "sampling steps",
    "samples": "samples",
    "structures": "structures",
    "scans": "scans",
}
"""What grows, in words."""
VOXEL_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0)
STEPS = (1, 2, 5, 10, 25)
SAMPLES = (1, 2, 4, 8)
STRUCTURES = (2, 4, 8, 16, 32)
SCANS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Job:
    """One measurement of a part.

    Attributes:
        name: of the tier, stage, command, series or tool.
        run: measures it and returns its figures by column; what is missing was not measured.
        at: size, or version of a tool.
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
    bench: Workbench, scans: Sequence[BenchScan], tiers: Sequence[Tier], *,
    peers: Sequence[Peer] = (), repeats: int, scaling: bool,
) -> list[Job]:  # fmt: skip
    """Return every measurement, quick ones first.

    Tiers and stages take turns, so that a machine which slows down does so for all of them.
    Other tools run once: theirs are minutes. Scaling is that of the first scan.
    """
    jobs = [
        Job(START, name, partial(process.measure_command, command), repeat=repeat)
        for repeat in range(repeats)
        for name, command in COMMANDS.items()
    ]
    for scan in scans:
        for repeat in range(repeats):
            jobs += [
                Job(TIER, t.name, partial(bench.run_tier, scan, t), scan.name, repeat=repeat)
                for t in tiers
            ]
            jobs += [
                Job(STAGE, name, partial(bench.run_stage, scan, name), scan.name, repeat=repeat)
                for name in STAGES
            ]
        jobs += [
            Job(MEMORY, tier.name, partial(bench.run_fresh, [scan.path], tier.options), scan.name)
            for tier in tiers
        ]
    for repeat in range(min(repeats, MOST_SCALING_REPEATS) if scaling else 0):
        for point in points(scans[0]):
            run = partial(point.measure, bench, scans[0], memory=repeat == 0)
            jobs.append(Job(SCALING, point.series, run, scans[0].name, point.at, repeat))
    jobs += [
        Job(PEER, peer.name, partial(bench.run_peer, scan, peer), scan.name, peer.version)
        for scan in scans
        for peer in peers
    ]
    return jobs


@dataclass(frozen=True)
class Point:
    """One size of one of the ``SERIES``, with the options of its runs."""

    series: str
    at: int
    options: Mapping[str, Any] = field(default_factory=dict)
    factor: float = 1.0

    def measure(self, bench: Workbench, scan: BenchScan, *, memory: bool) -> Costs:
        """Measure once; peak memory, if it is asked for, in a process of its own."""
        paths, model = self._paths(scan, bench.folder), None
        if self.series == "structures":
            model = str(untrained(bench.card, self.at, bench.folder))
        if self.series == "scans":  # their time, too, is that of a process of its own
            return bench.run_fresh(paths, self.options, model)
        costs = bench.run_options(paths[0], self.options, model)
        if memory:
            costs["peak_memory_gb"] = bench.run_fresh(paths, self.options, model)["peak_memory_gb"]
        return costs

    def _paths(self, scan: BenchScan, folder: Path) -> list[Path]:
        if self.series == "voxels" and self.factor != 1:
            path = folder / f"voxels{self.at}.nii.gz"
            if not path.is_file():
                other = refined(read_volume(scan.path), self.factor)
                write_map(path, other.data, other, description="resampled scan")
            return [path]
        if self.series == "scans":
            ending = ".nii.gz" if scan.path.name.endswith(".gz") else ".nii"
            named = [folder / f"copy{number}{ending}" for number in range(self.at)]
            for path in named:
                if not path.is_file():
                    shutil.copy(scan.path, path)
            return named
        return [scan.path]


def points(scan: BenchScan) -> list[Point]:
    """Return every size of every series, in order."""
    fast, sampled = {"mode": "fast"}, {"mode": "diffusion"}
    untaught = {**sampled, "steps": 2, "samples": 1, "raw": True}
    sizes = {factor: math.prod(refined_shape(scan.shape, factor)) for factor in VOXEL_FACTORS}
    return [
        *(Point("voxels", size, fast, factor) for factor, size in sizes.items()),
        *(Point("steps", n, {**sampled, "steps": n, "samples": 1}) for n in STEPS),
        *(Point("samples", n, {**sampled, "steps": 10, "samples": n}) for n in SAMPLES),
        *(Point("structures", n, untaught) for n in STRUCTURES),
        *(Point("scans", n, fast) for n in SCANS),
    ]


def untrained(card: Card, structures: int, folder: Path) -> Path:
    """Write the model's architecture with random weights for so many structures.

    Its labels say nothing; its seconds and its memory do, as far as they depend on sizes.
    """
    settings = settings_from_dict(ModelSettings, card.settings["model"])
    path = folder / f"untrained{structures}.safetensors"
    if path.is_file():
        return path
    known = sorted(int(row["index"]) for row in protocol_rows("freesurfer") if row["index"] != "0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(settings, structures + 1)
    save_weights(model, Card(path.stem, (0, *known[:structures]), card.settings), path)
    return path
