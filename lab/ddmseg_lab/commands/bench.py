"""``ddmseg bench``: seconds, memory and agreement of our tiers and other tools, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ddmseg.errors import ScanError
from ddmseg.messages import say_error
from ddmseg.models.device import DeviceName
from ddmseg_lab.folders import RESULTS, Output


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measure modes and start-up on this machine, and how costs grow with sizes.

    Every row is kept as soon as it is measured; the same command goes on where it stopped.
    Allow half an hour on two cores, and leave the machine alone meanwhile.
    """

    scans: Annotated[
        Positional[tuple[Path, ...]], arg(metavar="SCAN", help_behavior_hint="(the demo head)")
    ] = ()
    """NIfTI files to measure on; scaling is measured on the first."""
    output: Output = RESULTS
    """Folder for bench.tsv, a row a measurement, and bench.json, which ddmseg report reads."""
    tiers: Annotated[str, arg(metavar="NAME,NAME", help_behavior_hint="(all that run here)")] = ""
    """Of fast, auto, diffusion, with commas between."""
    repeats: Annotated[int, arg(metavar="N")] = 5
    """Of each measurement; the median counts. Sizes of scaling are measured 3 times at most, and
    peak memory once."""
    peers: Annotated[str, arg(metavar="NAME,NAME", help_behavior_hint="(none)")] = ""
    """Other tools to run once a scan: samseg, atropos, deepbet, nnunet; each in a Python of its
    own, named by a variable (docs/performance.md)."""
    no_scaling: bool = False
    """Leave out how costs grow with voxels, steps, samples, structures and scans."""
    model: Annotated[str, arg(metavar="NAME")] = "anatomy"
    """Name of a shipped model (see ddmseg models), or a .safetensors file with its card."""
    device: DeviceName = "auto"
    """Where to compute; auto takes a CUDA GPU where there is one, mps is the GPU of a Mac."""
    threads: Annotated[int | None, arg(metavar="N", help_behavior_hint="(torch's choice)")] = None
    """CPU threads."""
    fresh: bool = False
    """Measure everything anew instead of going on where an earlier run stopped."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Measure what is missing and print the table; return 1 when a measurement failed, else 0."""
    from ddmseg.cli.progress import progress_bar
    from ddmseg.models.available_memory import keep_freed_memory
    from ddmseg.models.zoo import model_path
    from ddmseg_lab.bench.run import BenchPlan, run_bench
    from ddmseg_lab.comparison.peers.tools import find_peers

    model_path(arguments.model)  # a wrong name must not cost the seconds that torch needs
    tiers, peers = _names(arguments.tiers), find_peers(_names(arguments.peers))
    same = ("scans", "output", "repeats", "model", "device", "threads", "fresh")
    given = {name: getattr(arguments, name) for name in same}
    plan = BenchPlan(tiers=tiers, peers=peers, scaling=not arguments.no_scaling, **given)
    keep_freed_memory()
    with progress_bar(1.0) as bar:

        def report(done: int, jobs: int, what: str) -> None:
            bar.update(done / jobs, f"{done} of {jobs} done, {what}")

        found = run_bench(plan, report)
    for problem in found.problems:
        say_error(ScanError(problem))
    for scan, figures in found.summary["scans"].items():
        print("\n".join(_table(scan, figures["methods"])))
    for path in found.files:
        print(path)
    return 1 if found.problems else 0


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",") if name.strip())


def _table(scan: str, methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines that show one scan's methods, medians only."""
    rows = [[scan, "seconds", "processor s", "of fast", "peak GB", "Dice with diffusion"]]
    for figures in methods.values():
        ratio = figures["over_fast"].get("processor_seconds")
        found = [_shown(figures, name, 2) for name in ("seconds", "processor_seconds")]
        found += ["" if ratio is None else f"{ratio:.2f}", _shown(figures, "peak_memory_gb", 2)]
        rows.append([figures["title"], *found, _shown(figures, "dice", 4)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def _shown(figures: Mapping[str, Any], name: str, digits: int) -> str:
    return f"{figures[name]['median']:.{digits}f}" if name in figures else ""
