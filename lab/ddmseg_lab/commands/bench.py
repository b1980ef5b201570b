"""``ddmseg bench``: seconds and memory of our tiers and other tools, side by side."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddmseg.errors import OutputError, ScanError, SettingsError, UsageError, did_you_mean
from ddmseg.messages import say_error
from ddmseg.models.device import DeviceName
from ddmseg_lab.folders import RESULTS, Output

if TYPE_CHECKING:
    from ddmseg_lab.speed.runs import Runner
    from ddmseg_lab.table import RawTable


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

    def __post_init__(self) -> None:
        for name, value in (("repeats", self.repeats), ("threads", self.threads)):
            if value is not None and value < 1:
                raise SettingsError(f"{name}: got {value}; it must be at least 1")


def run(arguments: Arguments) -> int:
    """Measure what is missing and print the page; return 1 when a measurement failed, else 0."""
    import torch

    from ddmseg.cli.progress import progress_bar
    from ddmseg.models.available_memory import keep_freed_memory
    from ddmseg.models.device import find_device
    from ddmseg_lab.comparison.peers.tools import find_peers
    from ddmseg_lab.provenance import commit
    from ddmseg_lab.speed.bench import measure, measurements, summarise
    from ddmseg_lab.speed.bench_page import body
    from ddmseg_lab.speed.runs import Runner
    from ddmseg_lab.speed.scans import find_scans
    from ddmseg_lab.study import SAMPLING_SEED
    from ddmseg_lab.table import write_summary

    commit()  # of the code as it was loaded, whatever is committed meanwhile
    keep_freed_memory()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    tiers, peers = _tiers(arguments.tiers), find_peers(_names(arguments.peers))
    runner = Runner(arguments.model, find_device(arguments.device).type, arguments.threads)
    scans, table = find_scans(arguments.scans), _open_table(arguments, runner)
    with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder, progress_bar(1.0) as bar:
        growing = None if arguments.no_scaling else Path(folder)
        todo = measurements(runner, scans, tiers, peers, arguments.repeats, growing)
        problems = measure(todo, table, runner.identity, bar.update)
    summary, record = summarise(table, scans, peers, runner), arguments.output / "bench.json"
    write_summary(record, summary, seed=SAMPLING_SEED)
    for problem in problems:
        say_error(ScanError(problem))
    print("\n\n".join(body(summary)), table.path, record, sep="\n")
    return 1 if problems else 0


def _open_table(arguments: Arguments, runner: Runner) -> RawTable:
    """Open the rows of an earlier run with the same weights on the same machine."""
    from ddmseg_lab.speed.bench import COLUMNS
    from ddmseg_lab.table import RawTable

    path = arguments.output / "bench.tsv"
    try:
        return RawTable(path, COLUMNS, [runner.identity], fresh=arguments.fresh)
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"cannot write {path}: {why}; choose another folder") from error


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _tiers(listed: str) -> list[str]:
    """Return the tiers of these names, all without a name, in the order of the tables."""
    from ddmseg_lab.studies.tiers import TIERS

    names = _names(listed)
    for name in names:
        if name not in TIERS:
            raise UsageError(
                f"tiers: got '{name}'{did_you_mean(name, TIERS)}; allowed are {', '.join(TIERS)}"
            )
    return [tier for tier in TIERS if not names or tier in names]
