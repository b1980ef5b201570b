"""Where a scan is computed, so that the memory does.

When the estimate exceeds what a GPU has, the CPU takes its place, and the receipt says so. How
many samples are drawn does not matter: only their mean is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ddmseg.errors import ScanError
from ddmseg.inference.memory.estimate import SLACK, Footprint, peak_bytes
from ddmseg.models.available_memory import memory_for_this_process
from ddmseg.models.checkpoint import Card
from ddmseg.models.device import free_gpu_bytes


@dataclass(frozen=True)
class Rung:
    """One way to compute a scan, and what it takes.

    Attributes:
        device: ``cpu``, or that of a GPU.
        name: what it is called in the receipt; empty for the first.
        needed: bytes of memory.
        needed_gpu: bytes of the GPU's own.
    """

    device: str
    name: str
    needed: int
    needed_gpu: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """What was chosen, with the record for the receipt."""

    device: torch.device
    record: dict[str, Any]


def plan_memory(
    card: Card,
    *,
    scan_voxels: int,
    grid: Sequence[int],
    device: torch.device,
    probabilities: bool = False,
    samples: bool = True,
) -> MemoryPlan:
    """Choose the first rung that fits.

    Args:
        probabilities: whether those are kept on the scan's grid.
        samples: whether any may be drawn.

    Raises:
        ScanError: when none fits; says how much is needed and how much there is.
    """
    footprint = Footprint.of(
        card.settings,
        len(card.labels),
        scan_voxels=scan_voxels,
        grid=tuple(grid),
        probabilities=probabilities,
        samples=samples,
    )
    there, there_gpu = memory_for_this_process(), free_gpu_bytes(device)
    ladder = rungs(footprint, device.type)
    rung = first_that_fits(ladder, there, there_gpu)
    taken = [step.name for step in ladder[1 : ladder.index(rung) + 1]]
    record: dict[str, Any] = {"estimated_gb": _gb(rung.needed), "rungs": taken}
    if taken:  # else it would only make receipts of equal runs differ
        record["available_gb"] = None if there is None else _gb(there)
    same = rung.device == device.type
    where = device if same else torch.device(rung.device)
    return MemoryPlan(where, record)


def rungs(footprint: Footprint, asked: str = "cpu") -> list[Rung]:
    """Return the ways to compute a scan, the one that was asked for first.

    Args:
        asked: type of the device: ``cpu``, ``cuda``, or ``mps``, which shares the CPU's memory.
    """
    if asked == "cpu":
        return [Rung("cpu", "", peak_bytes(footprint))]
    needed = peak_bytes(footprint, on_gpu=asked == "cuda")
    return [
        Rung(asked, "", needed, round(SLACK * footprint.network)),
        Rung("cpu", "on the CPU", peak_bytes(footprint)),
    ]


def first_that_fits(ladder: Sequence[Rung], there: int | None, there_gpu: int | None) -> Rung:
    """Return the first rung that needs no more than there is; what is unknown suffices.

    Raises:
        ScanError: when there is none.
    """
    for rung in ladder:
        if (there is None or rung.needed <= there) and (
            there_gpu is None or rung.needed_gpu <= there_gpu
        ):
            return rung
    least = min(rung.needed for rung in ladder)
    raise ScanError(
        f"this scan needs {_gb(least):.1f} GB of memory and {_gb(there or 0):.1f} GB is there; "
        "close other programs, or crop or resample the scan"
    )


def scans_at_once(footprint: Footprint, most: int, *, on_gpu: bool = False) -> int:
    """Return how many scans of a size may be in work at the same time, from 1 to ``most``."""
    there = memory_for_this_process()
    if there is None:
        return most
    spare = there - peak_bytes(footprint, on_gpu=on_gpu)
    return min(most, 1 + max(0, spare // max(footprint.waiting, 1)))


def _gb(count: int) -> float:
    return round(count / 1e9, 2)
