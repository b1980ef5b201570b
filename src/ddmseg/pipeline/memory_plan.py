"""Where and with which tiles a scan is computed, so that the memory does.

When the estimate exceeds what is there, rungs are tried in order: as asked, smaller tiles,
the CPU in place of the GPU, with smaller tiles. How many samples are drawn is no rung:
only their mean is kept. Each rung taken stands in the receipt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ddmseg.errors import ScanError
from ddmseg.pipeline.checkpoint import Card
from ddmseg.pipeline.memory_available import memory_for_this_process
from ddmseg.pipeline.memory_estimate import SLACK, Footprint, peak_bytes

TILE_SHARES = (1.0, 0.75, 0.5)
"""Edges of the tiles over those of training: smaller ones see less around them."""


@dataclass(frozen=True)
class Rung:
    """One way to compute a scan, and what it takes.

    Attributes:
        device: ``cuda`` or ``cpu``.
        patch: voxels of the tiles.
        name: what it is called in the receipt; empty for the first.
        needed: bytes of memory.
        needed_gpu: bytes of the GPU's own.
    """

    device: str
    patch: tuple[int, ...]
    name: str
    needed: int
    needed_gpu: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """What was chosen, with the record for the receipt."""

    device: torch.device
    patch: tuple[int, ...]
    record: dict[str, Any]


def plan_memory(
    card: Card,
    *,
    scan_voxels: int,
    grid: Sequence[int],
    multiple: int,
    device: torch.device,
    probabilities: bool = False,
    samples: bool = True,
) -> MemoryPlan:
    """Choose the first rung that fits.

    Args:
        card: of the weights.
        scan_voxels: of the scan.
        grid: of the model.
        multiple: of which tiles must begin at one.
        device: that was asked for.
        probabilities: whether those are kept on the scan's grid.
        samples: whether any may be drawn.

    Raises:
        ScanError: when none fits; says how much is needed and how much there is.
    """
    patch = card.settings["data"]["patch"]
    footprint = Footprint.of(
        card.settings,
        len(card.labels),
        scan_voxels=scan_voxels,
        grid=tuple(grid),
        patch=tuple(patch),
        multiple=multiple,
        probabilities=probabilities,
        samples=samples,
    )
    there, there_gpu = memory_for_this_process(), _gpu_memory(device)
    ladder = rungs(footprint, on_gpu=device.type == "cuda")
    rung = first_that_fits(ladder, there, there_gpu)
    taken = [step.name for step in ladder[1 : ladder.index(rung) + 1]]
    record: dict[str, Any] = {"estimated_gb": _gb(rung.needed), "rungs": taken}
    if taken:  # else it would only make receipts of equal runs differ
        record["available_gb"] = None if there is None else _gb(there)
    same = rung.device == device.type
    return MemoryPlan(device if same else torch.device(rung.device), rung.patch, record)


def rungs(footprint: Footprint, *, on_gpu: bool) -> list[Rung]:
    """Return the ladder, from what was asked for to what takes least."""
    found: list[Rung] = []
    for device in ("cuda", "cpu") if on_gpu else ("cpu",):
        for share in TILE_SHARES:
            small = replace(footprint, patch=_smaller(footprint, share))
            gpu = device == "cuda"
            name = "on the CPU" if on_gpu and not gpu else ""
            if share < 1:
                name = f"tiles of {share:.0%}{', ' if name else ''}{name}"
            needed = peak_bytes(small, on_gpu=gpu)
            on_it = round(SLACK * small.network) if gpu else 0
            found.append(Rung(device, tuple(small.patch), name, needed, on_it))
    return found


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


def _smaller(footprint: Footprint, share: float) -> tuple[int, ...]:
    """Return tiles of a share of the size, on multiples, of at least two each."""
    step = footprint.multiple
    return tuple(
        n if share == 1 else min(n, max(2, round(n * share / step)) * step) for n in footprint.patch
    )


def _gpu_memory(device: torch.device) -> int | None:
    """Bytes of a GPU that are free, or held by this process without use; None on the CPU."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + unused)


def _gb(count: int) -> float:
    return round(count / 1e9, 2)
