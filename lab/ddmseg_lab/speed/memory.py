"""Peak memory as estimated before a run and as measured.

    python -m ddmseg_lab.speed.memory

Runs ``ddmseg segment`` in processes of their own on the whole head that comes with the
package, alone, padded to 256^3 voxels, and three at a time, and sets the peak beside what the
receipt says was estimated. With several heads at once the estimate is that of one of them.
Writes ``results/memory.json``.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmseg.imaging.nifti import read_volume
from ddmseg.models.zoo import DEFAULT_MODEL
from ddmseg_lab.folders import RESULTS, Output
from ddmseg_lab.page import (
    NO_FIGURE,
    Chapter,
    Claim,
    Summary,
    Target,
    at_most,
    machine_words,
    table,
    weights_words,
)
from ddmseg_lab.speed.runs import Runner
from ddmseg_lab.speed.scans import PADDED_SIDE, demo_head, padded, written
from ddmseg_lab.study import SAMPLING_SEED, describe_machine, describe_model, run_command, say
from ddmseg_lab.table import write_summary

SAMPLED = {"mode": "diffusion", "steps": 2, "samples": 4}
FAST = {"mode": "fast"}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    output: Output = RESULTS
    """Folder for the figures."""


def run(arguments: Arguments) -> None:
    """Measure every run."""
    head, runner = demo_head(), Runner(DEFAULT_MODEL)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        wide = written(padded(read_volume(head), PADDED_SIDE), Path(folder))
        copies = [Path(shutil.copy(head, Path(folder) / f"head{n}.nii.gz")) for n in range(3)]
        runs: dict[str, tuple[list[Path], dict[str, Any]]] = {
            "whole head, fast": ([head], FAST),
            "whole head, sampled": ([head], SAMPLED),
            f"padded to {PADDED_SIDE}^3, fast": ([wide], FAST),
            f"padded to {PADDED_SIDE}^3, sampled": ([wide], SAMPLED),
            "whole head, probabilities": ([head], {**FAST, "probabilities": True}),
            "three heads, sampled": (copies, SAMPLED),
        }
        for name, (scans, options) in runs.items():
            costs = runner.fresh(scans, options)
            peak, estimated = costs["peak_memory_gb"], costs["estimated_gb"]
            found[name] = {"heads": len(scans), "estimated_gb": estimated, "peak_gb": peak}
            found[name]["estimate_over_peak"] = estimated / peak
            say(f"{name}: {peak:.2f} GB")
    summary = {
        "machine": describe_machine(),
        "models": {"ddm": describe_model(runner.segmenter.card)},
        "runs": found,
    }
    write_summary(arguments.output / "memory.json", summary, seed=SAMPLING_SEED)


COMMAND = "python -m ddmseg_lab.speed.memory"
MOST_GB = 2.5
"""For one whole head at 1 mm, whatever is asked for."""
WORDS = (
    "Each run is a process of its own without kept features; its peak is the largest resident "
    "memory. The estimate is made before a scan is encoded and decides whether a run may begin "
    "(docs/performance.md), so it must not lie below the peak. With several heads it is that of "
    "one of them, and no ratio is given."
)


def body(found: Summary) -> list[str]:
    """Estimate and peak of each kind of run."""
    rows = [
        [
            name,
            str(one["heads"]),
            f"{one['estimated_gb']:.2f}",
            f"{one['peak_gb']:.2f}",
            f"{one['estimate_over_peak']:.2f}" if one["heads"] == 1 else NO_FIGURE,
        ]
        for name, one in found["runs"].items()
    ]
    head = ["run", "heads", "estimated, GB", "peak, GB", "estimate over peak"]
    return [f"{machine_words(found)} {weights_words(found)} {WORDS}", table(head, rows)]


def claims(found: Summary) -> list[Claim]:
    """No head needs more than is aimed at, nor more than was estimated."""
    single = [one for one in found.get("runs", {}).values() if one["heads"] == 1]
    peak = at_most("most memory of one whole head at 1 mm", MOST_GB, " GB")
    estimate = Target("memory of one whole head, estimate over peak: the lowest", 1.0, digits=2)
    return [
        Claim(peak, max((one["peak_gb"] for one in single), default=None)),
        Claim(estimate, min((one["estimate_over_peak"] for one in single), default=None)),
    ]


CHAPTER = Chapter("Memory", COMMAND, "memory", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
