"""Seconds and memory of segmenting, stage by stage.

    python -m ddmseg_lab.speed.segment

Measured with the default and the fast model on the whole head that comes with the package, with
the latter also on that head padded to 256^3 voxels of 1 mm, and (where there are data sets) on a
hippocampus crop. ``--mode fast`` and ``--mode diffusion`` are from reading the file to the last
file written, after loading; stages are those of the receipt, in the latter; memory is that of the
command line in a process of its own. Writes ``results/speed_segment.json``.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ddmseg.imaging.nifti import read_volume
from ddmseg.models.zoo import DEFAULT_MODEL
from ddmseg_lab.folders import RESULTS, Output
from ddmseg_lab.page import Chapter, Claim, Summary, at_most, machine_words, table, with_interval
from ddmseg_lab.scans import CROPS
from ddmseg_lab.speed.runs import Costs, Runner
from ddmseg_lab.speed.scans import PADDED_SIDE, demo_head, padded, written
from ddmseg_lab.statistics_text import median_range
from ddmseg_lab.studies.tiers import FULL_DRAW, TIERS
from ddmseg_lab.study import (
    SAMPLING_SEED,
    data_at_hand,
    describe_machine,
    describe_model,
    run_command,
    say,
)
from ddmseg_lab.table import write_summary

MODES = ("fast", "diffusion")
STAGES = ("prepare", "encode", "denoise", "restore", "write")
DEFAULT, HEAD = "whole head, default model", "whole head"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    data: str | None = None
    """Folder that holds the data sets (else the variable DDMSEG_DATA; without either the crop
    is left out)."""
    output: Output = RESULTS
    """Folder for the figures."""
    repeats: int = 5
    """Runs of which the median counts, at least 1."""
    threads: int | None = None
    """CPU threads (torch's choice when left out)."""


def measure_scan(path: Path, runner: Runner, repeats: int) -> dict[str, Any]:
    """Return the figures of one scan; modes take turns, once beforehand to warm up.

    ``step_over_encode`` is of one step with its share of what a sample and a scan pay once.
    """
    costs: dict[str, list[Costs]] = {mode: [] for mode in MODES}
    for _ in range(repeats + 1):
        for mode in MODES:
            cost, result = runner.once(path, TIERS[mode])
            costs[mode].append(cost)
    stages = {stage: [one[f"{stage}_seconds"] for one in costs["diffusion"]] for stage in STAGES}
    whole = {mode: [one["seconds"] for one in costs[mode]] for mode in MODES}
    seconds = {name: median_range(found[1:]) for name, found in {**stages, **whole}.items()}
    steps = FULL_DRAW.steps * FULL_DRAW.samples
    grids = [step["shape"] for step in result.receipt["preparation"] if "shape" in step]
    return {
        "shape": list(read_volume(path).shape),
        "model": describe_model(runner.segmenter.card),
        **dict(zip(("model_grid", "cropped_grid"), grids[-2:], strict=True)),
        "seconds": seconds,
        "step_over_encode": seconds["denoise"]["median"] / steps / seconds["encode"]["median"],
        "peak_memory_gb": {
            mode: runner.fresh([path], TIERS[mode])["peak_memory_gb"] for mode in MODES
        },
    }


def find_scans(data: str | None, folder: Path) -> dict[str, tuple[Path, str]]:
    """Return file and model of each scan to measure; what is made goes into the folder."""
    head = demo_head()
    wide = written(padded(read_volume(head), PADDED_SIDE), folder)
    scans = {
        DEFAULT: (head, DEFAULT_MODEL),
        HEAD: (head, "anatomy_fast"),
        f"{HEAD} padded to {PADDED_SIDE}^3": (wide, "anatomy_fast"),
    }
    data = data_at_hand(data)
    if data is None:
        say("hippocampus crop: left out, since neither --data nor DDMSEG_DATA names a folder")
        return scans
    crop = CROPS.cases("test", data, 1)[0].images[0]
    return {**scans, "hippocampus crop": (crop, "hippocampus")}


def run(arguments: Arguments) -> None:
    """Measure every scan at hand."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    scans = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (path, model) in find_scans(arguments.data, Path(folder)).items():
            runner = Runner(model, "cpu", arguments.threads)
            scans[name] = measure_scan(path, runner, arguments.repeats)
            medians = {mode: scans[name]["seconds"][mode]["median"] for mode in MODES}
            say(f"{name}: " + ", ".join(f"{mode} {s:.2f} s" for mode, s in medians.items()))
    drawn = {"steps": FULL_DRAW.steps, "samples": FULL_DRAW.samples}
    summary = {"machine": describe_machine(), **drawn, "scans": scans}
    write_summary(arguments.output / "speed_segment.json", summary, seed=SAMPLING_SEED)


def body(found: Summary) -> list[str]:
    """Seconds and memory of one scan."""
    scans = found["scans"]
    stages = list(dict.fromkeys(stage for scan in scans.values() for stage in scan["seconds"]))

    def cell(scan: Summary, stage: str) -> str:
        return with_interval(scan["seconds"][stage]) if stage in scan["seconds"] else "–"

    sizes = {"voxels": "shape", "model's grid": "model_grid", "cut to": "cropped_grid"}
    rows = [
        [words, *("×".join(map(str, scan[name])) for scan in scans.values())]
        for words, name in sizes.items()
    ]
    rows += [[f"{stage}, s", *(cell(scan, stage) for scan in scans.values())] for stage in stages]
    for mode in MODES:
        peaks = [f"{scan['peak_memory_gb'][mode]:.2f}" for scan in scans.values()]
        rows.append([f"peak memory, {mode}, GB", *peaks])
    return [
        f"{machine_words(found)} Seconds after loading, median (and range) of several runs; *fast* "
        f"and *diffusion* ({found['steps']} steps, {found['samples']} samples) are from reading "
        "the file to the last file written, report included. Memory is the peak resident memory "
        "of the command line in a process of its own.",
        table(["", *scans], rows),
    ]


def claims(found: Summary) -> list[Claim]:
    """Seconds, memory and the cost of a step, of a whole head as it is and padded."""
    wanted: list[Claim] = []
    for name in (DEFAULT, HEAD, f"{HEAD} padded to {PADDED_SIDE}^3"):
        scan = found.get("scans", {}).get(name, {})
        seconds, memory = scan.get("seconds", {}), scan.get("peak_memory_gb", {})
        wanted += [
            Claim(at_most(f"{name}, `--mode fast`", 5.0, " s"), seconds.get("fast")),
            Claim(at_most(f"{name}, `--mode diffusion`", 20.0, " s"), seconds.get("diffusion")),
            Claim(at_most(f"{name}, peak memory", 3.0, " GB"), max(memory.values(), default=None)),
            Claim(
                at_most(f"{name}, one denoising step over one encoding", 0.1, digits=3),
                scan.get("step_over_encode"),
            ),
        ]
    return wanted


COMMAND = "python -m ddmseg_lab.speed.segment --data DATA --threads 2"
CHAPTER = Chapter("Speed and memory", COMMAND, "speed_segment", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
