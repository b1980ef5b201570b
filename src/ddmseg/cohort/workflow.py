"""Files by which Snakemake or Slurm segment a BIDS folder, many subjects to a job."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path

from ddmseg import __version__
from ddmseg.cohort.scan import Scan
from ddmseg.errors import OutputError, ScanError, SettingsError
from ddmseg.outputs.text import write_text

MEMORY_MB = 4000
"""Heads of 1 mm took 1.5 GB with two in work at once; the rest is for larger ones."""
_MINUTES_BESIDE, _MINUTES_PER_SUBJECT = 10, 2
_FILES = {
    "Snakefile": "Snakefile",
    "slurm/config.yaml": "slurm.yaml",
    "array.sbatch": "array.sbatch",
}
"""Templates of the package by the files that they become."""


def write_workflow(
    root: Path,
    scans: Sequence[Scan],
    results: Path,
    folder: Path,
    *,
    scans_per_job: int,
    partition: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write the files and return their paths; without a partition, Slurm takes its own.

    Raises:
        ScanError: when there is no scan.
        OutputError: when files stand there, or cannot be written.
        SettingsError: when a number is out of range.
    """
    if scans_per_job < 1:
        raise SettingsError(f"scans_per_job: got {scans_per_job}; it must be at least 1")
    if partition is not None and not partition.replace("-", "").replace("_", "").isalnum():
        raise SettingsError(f"partition: got '{partition}'; give the name that sinfo shows")
    if not scans:
        raise ScanError(f"{root}: no image to segment; name a BIDS folder")
    batches = _batches(scans, scans_per_job)
    words = _words(root.resolve(), results.resolve(), folder.resolve(), scans_per_job, partition)
    words["BATCHES"] = str(len(batches))
    texts = {name: _filled(template, words) for name, template in _FILES.items()}
    texts["batches.txt"] = "".join(f"{' '.join(batch)}\n" for batch in batches)
    there = [folder / name for name in texts if (folder / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{there[0]} exists already; pass --overwrite to replace it")
    for name, text in texts.items():
        write_text(folder / name, text)
    try:
        (folder / "logs").mkdir(exist_ok=True)  # Slurm writes to no folder that is not there
    except OSError as error:
        raise OutputError(f"cannot write {folder / 'logs'}: {error.strerror}") from error
    return [folder / name for name in texts]


def _batches(scans: Sequence[Scan], size: int) -> list[Sequence[str]]:
    subjects = list(dict.fromkeys(scan.subfolder.split("/")[0] for scan in scans))
    # evenly, so that no job is left with a few
    jobs = -(-len(subjects) // size)
    edges = [n * len(subjects) // jobs for n in range(jobs + 1)]
    return [subjects[first:last] for first, last in pairwise(edges)]


def _words(
    root: Path, results: Path, folder: Path, scans_per_job: int, partition: str | None
) -> dict[str, str]:
    command = f"{shlex.quote(sys.executable)} -m ddmseg"
    return {
        "VERSION": __version__,
        "BIDS": json.dumps(str(root)),
        "RESULTS": json.dumps(str(results)),
        "DDMSEG": json.dumps(command),
        "BIDS_SHELL": shlex.quote(str(root)),
        "RESULTS_SHELL": shlex.quote(str(results)),
        "DDMSEG_SHELL": command,
        "FOLDER": shlex.quote(str(folder)),
        "MEMORY_MB": str(MEMORY_MB),
        "MINUTES": str(_MINUTES_BESIDE + _MINUTES_PER_SUBJECT * scans_per_job),
        "PARTITION": f"default-resources:\n  slurm_partition: {partition}" if partition else "",
        "PARTITION_SBATCH": f"#SBATCH --partition={partition}\n" if partition else "",
    }


def _filled(name: str, words: dict[str, str]) -> str:
    path = resources.files("ddmseg.cohort") / "templates" / name
    text = path.read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text.rstrip() + "\n"
