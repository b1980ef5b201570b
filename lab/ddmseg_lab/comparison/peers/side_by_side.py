"""Other tools for ``ddmseg bench --peers``, each in a Python of its own.

The Python of a tool is named by a variable: ``DDMSEG_SAMSEG_PYTHON``,
``DDMSEG_ATROPOS_PYTHON``, ``DDMSEG_DEEPBET_PYTHON``, ``DDMSEG_NNUNET_PYTHON``; nnU-Net has no
weights of its own, and ``DDMSEG_NNUNET_MODEL`` names the folder of a trained model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddmseg.datasets.malc2012 import EVALUATION_LABELS
from ddmseg.errors import UsageError, did_you_mean
from ddmseg.imaging.nifti import read_label_map
from ddmseg_lab.bench.peers import PeerOutcome
from ddmseg_lab.comparison.peers.environment import (
    ATROPOS,
    DEEPBET,
    NNUNET,
    SAMSEG,
    Tool,
    find_python,
    foreign_environment,
    read_versions,
    run_scan,
)
from ddmseg_lab.comparison.peers.tissues import Ids, samseg_structures

COSTS = ("seconds", "processor_seconds", "peak_memory_gb")
MODEL_VARIABLE = "DDMSEG_NNUNET_MODEL"
"""Environment variable that names nnU-Net's folder with ``plans.json`` and ``fold_0``."""
TOOLS = {tool.program: tool for tool in (SAMSEG, ATROPOS, DEEPBET, NNUNET)}
STRUCTURES: dict[str, Callable[[Ids], Ids]] = {SAMSEG.program: samseg_structures}
"""Brings the labels of a tool to ids that ddmseg draws, too; the others have none of these:
tissues, the brain, or whatever nnU-Net was trained on."""


@dataclass(frozen=True)
class SideTool:
    """A tool that is installed here, see ``ddmseg_lab.bench.peers.Peer``.

    Attributes:
        tool: which one.
        python: with which.
        version: of the tool.
        job: what the driver is told beside scan, labels and threads.
    """

    tool: Tool
    python: str
    version: str
    job: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As typed after ``--peers``."""
        return self.tool.program

    @property
    def title(self) -> str:
        """As a reader calls it."""
        return self.tool.title

    def segment(self, scan: Path, folder: Path, threads: int) -> PeerOutcome:
        """Segment a scan in a process of its own.

        Raises:
            ScanError: when the tool fails or leaves no labels.
        """
        labels = folder / "labels.nii.gz"
        job = {"image": str(scan.absolute()), "labels": str(labels), "threads": threads}
        environment = foreign_environment(threads)
        cost = run_scan(self.python, self.name, {**job, **self.job}, folder, environment)
        costs = {name: float(cost[name]) for name in COSTS}
        if self.name not in STRUCTURES:
            return PeerOutcome(costs)
        ids = STRUCTURES[self.name](read_label_map(labels).data)
        return PeerOutcome(costs, ids, tuple(EVALUATION_LABELS))


def find_peers(names: Sequence[str]) -> tuple[SideTool, ...]:
    """Return the tools of these names, ready to run.

    Raises:
        UsageError: for an unknown tool, or one without a Python or model that does.
    """
    return tuple(_find(name) for name in dict.fromkeys(names))


def _find(name: str) -> SideTool:
    if name not in TOOLS:
        raise UsageError(
            f"peers: got '{name}'{did_you_mean(name, TOOLS)}; allowed are {', '.join(TOOLS)}"
        )
    tool = TOOLS[name]
    job = {"model": _nnunet_model()} if tool is NNUNET else {}
    python = find_python(tool)
    if python is None:
        raise UsageError(f"peers: {tool.title} needs a Python of its own; {tool.advice}")
    return SideTool(tool, python, read_versions(tool, python)[tool.packages[0]], job)


def _nnunet_model() -> str:
    named = os.environ.get(MODEL_VARIABLE, "")
    if not (Path(named) / "plans.json").is_file() or not named:
        raise UsageError(
            f"peers: nnU-Net has no weights of its own; train one and set {MODEL_VARIABLE} to its "
            "folder, which holds plans.json and fold_0"
        )
    return str(Path(named).absolute())
