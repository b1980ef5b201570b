"""Where and with which tiles a scan is computed, so that the memory does.

When the estimate exceeds what is there, rungs are tried in order: as asked, on a GPU one tile at
a time in place of several, smaller tiles, the CPU in place of the GPU, with smaller tiles. How
many samples are drawn is no rung: only their mean is kept. Each rung taken stands in the receipt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ddmseg.errors import ScanError
from ddmseg.inference.memory.estimate import SLACK, Footprint, peak_bytes
from ddmseg.models.available_memory import memory_for_this_process
from ddmseg.models.checkpoint import Card
from ddmseg.models.device import free_gpu_bytes

TILE_SHARES = (1.0, 0.75, 0.5)
"""Edges of the tiles over those of training: smaller ones see less around them."""
GPU_TILES = 8
"""That a GPU encodes in one batch: alone they are too small to keep it busy. On the CPU one
after the other takes least memory, and no more time."""


@dataclass(frozen=True)
class Rung:
    """One way to compute a scan, and what it takes.

    Attributes:
        device: ``cpu``, or that of a GPU.
        patch: voxels of the tiles.
        name: what it is called in the receipt; empty for the first.
        needed: bytes of memory.
        needed_gpu: bytes of the GPU's own.
        at_once: tiles in a batch.
    """

    device: str
    patch: tuple[int, ...]
    name: str
    needed: int
    needed_gpu: int = 0
    at_once: int = 1


@dataclass(frozen=True)
class MemoryPlan:
    """What was chosen, with the record for the receipt."""

    device: torch.device
    patch: tuple[int, ...]
    at_once: int
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
        multiple: of which tiles must begin at one.
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
    there, there_gpu = memory_for_this_process(), free_gpu_bytes(device)
    ladder = rungs(footprint, device.type)
    rung = first_that_fits(ladder, there, there_gpu)
    taken = [step.name for step in ladder[1 : ladder.index(rung) + 1]]
    record: dict[str, Any] = {"estimated_gb": _gb(rung.needed), "rungs": taken}
    if taken:  # else it would only make receipts of equal runs differ
        record["available_gb"] = None if there is None else _gb(there)
    same = rung.device == device.type
    where = device if same else torch.device(rung.device)
    return MemoryPlan(where, rung.patch, rung.at_once, record)


def rungs(footprint: Footprint, asked: str = "cpu") -> list[Rung]:
    """Return the ladder, from what was asked for to what takes least.

    Args:
        asked: type of the device: ``cpu``, ``cuda``, or ``mps``, which shares the CPU's memory.
    """
    shares = TILE_SHARES[:1] if footprint.block else TILE_SHARES  # without tiles
    on_cpu = [("cpu", share, 1) for share in shares]
    on_it = [(asked, 1.0, GPU_TILES), *((asked, share, 1) for share in shares)]
    ways = on_cpu if asked == "cpu" else [*on_it, *on_cpu]
    found: list[Rung] = []
    for device, share, at_once in ways:
        tried = replace(footprint, patch=_smaller(footprint, share), at_once=at_once)
        name = _words(share, instead=device != asked) if found else ""
        needed_gpu = 0 if device == "cpu" else round(SLACK * tried.network)
        needed = peak_bytes(tried, on_gpu=device == "cuda")
        found.append(Rung(device, tuple(tried.patch), name, needed, needed_gpu, at_once))
    return found


def _words(share: float, *, instead: bool) -> str:
    """Name a rung by the edges of its tiles, and by whether it is the CPU instead of a GPU."""
    words = [f"tiles of {share:.0%}"] if share < 1 else []
    if instead:
        words.append("on the CPU")
    return ", ".join(words) or "one tile at a time"


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


def _gb(count: int) -> float:
    return round(count / 1e9, 2)
