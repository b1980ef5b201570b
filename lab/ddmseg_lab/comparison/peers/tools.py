"""One scan through another tool, each in a Python of its own: for tables and for ``ddmseg bench``.

The Python of a tool is named by a variable: ``DDMSEG_SAMSEG_PYTHON``,
``DDMSEG_ATROPOS_PYTHON``, ``DDMSEG_DEEPBET_PYTHON``, ``DDMSEG_NNUNET_PYTHON``; nnU-Net has no
weights of its own, and ``DDMSEG_NNUNET_MODEL`` names the folder of a trained model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ddmseg.errors import ScanError, UsageError, did_you_mean
from ddmseg_lab.comparison.foreign_python import (
    ATROPOS,
    DEEPBET,
    DRIVER,
    NNUNET,
    SAMSEG,
    DriverError,
    Tool,
    described,
    foreign_environment,
    read_versions,
    require_python,
    run_driver,
)

COSTS = ("seconds", "processor_seconds", "peak_memory_gb")
MODEL_VARIABLE = "DDMSEG_NNUNET_MODEL"
"""Environment variable that names nnU-Net's folder with ``plans.json`` and ``fold_0``."""
TOOLS = {tool.program: tool for tool in (SAMSEG, ATROPOS, DEEPBET, NNUNET)}


@dataclass(frozen=True)
class Peer:
    """Another tool, ready to run here; rows of another version of it are measured anew.

    ``segment(scan, folder, threads)`` runs it in a process of its own, with labels and logs in
    an empty folder, and returns what it cost: ``seconds`` and ``processor_seconds`` from reading to
    writing, after loading, and ``peak_memory_gb`` of its process. ScanError when the tool fails.
    """

    name: str
    title: str
    version: str
    segment: Callable[[Path, Path, int], dict[str, float]]


def run_scan(
    python: str, program: str, job: Mapping[str, Any], folder: Path, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Segment one scan over there and return what it cost, see the driver.

    What an earlier run of the same job left in the folder is returned as it is. What the
    program prints goes to ``log.txt`` there.

    Raises:
        ScanError: when the program fails or leaves no labels.
    """
    result, asked, labels = folder / f"{program}.json", folder / "job.json", Path(job["labels"])
    same = asked.is_file() and asked.read_text(encoding="utf-8") == described(job)
    if same and result.is_file() and labels.is_file():
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found
    words = [python, str(DRIVER), program]
    try:
        return run_driver(words, job, folder / "log.txt", environment, leaves=[labels])
    except DriverError as error:
        raise ScanError(f"{program} {error}") from error


def segment(
    tool: Tool, python: str, job: Mapping[str, str], scan: Path, folder: Path, threads: int
) -> dict[str, float]:
    """Segment a scan with a tool; the driver is told the job beside scan, labels and threads."""
    labels = folder / "labels.nii.gz"
    whole = {"image": str(scan.absolute()), "labels": str(labels), "threads": threads, **job}
    cost = run_scan(python, tool.program, whole, folder, foreign_environment(threads))
    return {name: float(cost[name]) for name in COSTS}


def find_peers(names: Sequence[str]) -> tuple[Peer, ...]:
    """Return the tools of these names, ready to run."""
    return tuple(_find(name) for name in dict.fromkeys(names))


def _find(name: str) -> Peer:
    if name not in TOOLS:
        raise UsageError(
            f"peers: got '{name}'{did_you_mean(name, TOOLS)}; allowed are {', '.join(TOOLS)}"
        )
    tool = TOOLS[name]
    model = os.environ.get(MODEL_VARIABLE, "")
    if tool is NNUNET and not (model and (Path(model) / "plans.json").is_file()):
        raise UsageError(
            f"peers: nnU-Net has no weights of its own; train one and set {MODEL_VARIABLE} to its "
            "folder, which holds plans.json and fold_0"
        )
    job = {"model": str(Path(model).absolute())} if tool is NNUNET else {}
    python = require_python(tool)
    version = read_versions(tool, python)[tool.packages[0]]
    return Peer(tool.program, tool.title, version, partial(segment, tool, python, job))
