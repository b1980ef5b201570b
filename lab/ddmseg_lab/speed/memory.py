"""Peak memory as estimated before a run and as measured.

    python -m ddmseg_lab.speed.memory

Runs ``ddmseg segment`` in processes of their own on the whole head that comes with the
package, alone, padded to 256^3 voxels, and three at a time, and sets the peak beside what the
receipt says was estimated. With several heads at once the estimate is that of one of them.
Writes ``results/memory.json``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddmseg.imaging.nifti import read_volume, write_map
from ddmseg.models.checkpoint import read_card
from ddmseg.models.zoo import DEFAULT_MODEL, model_path
from ddmseg_lab.bench.process import measure_command
from ddmseg_lab.bench.scans import demo_head, padded_head
from ddmseg_lab.bench.workbench import PROGRAM
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
from ddmseg_lab.speed.segment import PADDED_SIDE
from ddmseg_lab.study import SAMPLING_SEED, describe_machine, describe_model, run_command, say
from ddmseg_lab.table import write_summary

SAMPLED = ("--mode=diffusion", "--steps=2", "--samples=4")
FAST = ("--mode=fast",)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    output: Output = RESULTS
    """Folder for the figures."""


def measure(scans: list[Path], options: tuple[str, ...]) -> dict[str, Any]:
    """Return estimate, peak and their ratio for one run of the command, and of how many heads."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["segment", *map(str, scans), "-o", folder, "--no-cache"]
        words.append(f"--model={DEFAULT_MODEL}")
        peak = measure_command([*PROGRAM, *words, *options])["peak_memory_gb"]
        receipts = [path.read_text("utf-8") for path in Path(folder).glob("*_receipt.json")]
        estimated = max(json.loads(text)["memory"]["estimated_gb"] for text in receipts)
    return {
        "heads": len(scans),
        "estimated_gb": estimated,
        "peak_gb": peak,
        "estimate_over_peak": estimated / peak,
    }


def run(arguments: Arguments) -> None:
    """Measure every run."""
    head = demo_head()
    with tempfile.TemporaryDirectory() as folder:
        wide = padded_head(read_volume(head), PADDED_SIDE)
        padded = Path(folder) / "padded.nii.gz"
        write_map(padded, wide.data, wide, description="padded head")
        copies = [Path(shutil.copy(head, Path(folder) / f"head{n}.nii.gz")) for n in range(3)]
        runs = {
            "whole head, fast": ([head], FAST),
            "whole head, sampled": ([head], SAMPLED),
            f"padded to {PADDED_SIDE}^3, fast": ([padded], FAST),
            f"padded to {PADDED_SIDE}^3, sampled": ([padded], SAMPLED),
            "whole head, probabilities": ([head], (*FAST, "--probabilities")),
            "three heads, sampled": (copies, SAMPLED),
        }
        found = {}
        for name, (scans, options) in runs.items():
            found[name] = measure(scans, options)
            say(f"{name}: {found[name]['peak_gb']:.2f} GB")
    card = read_card(model_path(DEFAULT_MODEL).with_suffix(".json"))
    summary = {
        "machine": describe_machine(),
        "models": {"ddm": describe_model(card)},
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
