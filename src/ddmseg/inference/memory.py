"""How much memory a scan takes at its peak, where it is computed, and how many fit at a time.

Bytes are counted array by array from sizes alone; what the count leaves out (workspaces of
convolutions, fragments, allocator) is one measured constant, ``SLACK``. Checked against the peak
of whole runs by ``ddmseg_lab.speed.memory``. When the estimate exceeds what a GPU has, the CPU
takes its place, and the receipt says so. How many samples are drawn does not matter: only their
mean is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ddmseg.errors import ScanError
from ddmseg.imaging.nifti_guard import MAX_VOXELS, open_raw
from ddmseg.models.available_memory import memory_for_this_process
from ddmseg.models.card import Card
from ddmseg.models.device import free_gpu_bytes

if TYPE_CHECKING:
    from ddmseg.inference.segmenter import Segmenter

BASE = 400 * 10**6
"""Bytes of the process with torch, scipy and nibabel loaded and nothing to do."""
SLACK = 1.25
"""Measured peak over counted bytes, the base left out."""
SCAN_BYTES = 28
"""A voxel of the scan: as read, labels before and after cleaning, two maps, and what
cleaning and writing hold beside them, at most 4 bytes each."""
WAITING_BYTES = 24
"""A voxel of a scan that is being read or written while another is with the network."""
HEAD_MM = (200.0, 240.0, 240.0)
"""Box that holds a head, for its model grid is not known before the scan was read."""
_FLOAT = 4


@dataclass(frozen=True)
class Footprint:
    """Sizes that memory depends on.

    Attributes:
        widths: channels of the encoder, image grid first.
        embedding: channels of z_I.
        classes: labels, background included.
        probabilities: whether those are brought back to the scan's grid.
        samples: whether any may be drawn, and not the coarse head's answer alone.
        block: whether the encoder works on blocks.
    """

    widths: Sequence[int]
    embedding: int
    classes: int
    scan_voxels: int
    grid: Sequence[int]
    probabilities: bool = False
    samples: bool = True
    block: bool = False

    @classmethod
    def of(cls, card: Card, **sizes: Any) -> Footprint:
        """Return the footprint of a model with the sizes of a scan."""
        model = card.settings["model"]
        block = model.get("encoder_form") == "block"
        return cls(model["widths"], model["embedding"], len(card.labels), block=block, **sizes)

    @property
    def network(self) -> float:
        """Bytes at the peak where the network computes, counted."""
        levels = self.widths if self.block else self.widths[1:]
        pyramid = sum(w * 0.125**level for level, w in enumerate(levels, start=1))
        stem = 1 if self.block else self.widths[0]  # the image, folded
        # bytes a voxel of the grid: all that the encoder leaves, inputs and outputs of a layer
        features = _FLOAT * (stem + self.embedding + self.classes + pyramid)
        workspace = _FLOAT * 3 * self.widths[0] * (0.125 if self.block else 1)
        if self.block:
            # a sample and the mean of those before, at uncertain voxels: at most half of the grid
            drawing = _FLOAT * 1.0 * self.classes if self.samples else 0.0
            return math.prod(self.grid) * (features + max(workspace, drawing))
        # of a sample: its logits with prior, its softmax, the mean of those before, features of
        # the last decision, and masks on half the grid
        drawing = _FLOAT * (4 * self.classes + 3 * self.widths[0]) if self.samples else 0
        # the features of the whole grid, and with them those of the crop
        return math.prod(self.grid) * max(features * 2 + workspace, features + drawing)

    @property
    def scan(self) -> int:
        """Bytes at the peak on the grid of the scan, counted."""
        classes = _FLOAT * self.classes if self.probabilities else 0
        return self.scan_voxels * (SCAN_BYTES + classes)

    @property
    def kept(self) -> int:
        """Bytes of the probabilities on the model's grid."""
        return math.prod(self.grid) * _FLOAT * self.classes

    @property
    def waiting(self) -> int:
        """Bytes of such a scan while another one is with the network."""
        return self.scan_voxels * WAITING_BYTES + self.kept


def peak_bytes(footprint: Footprint, *, on_gpu: bool = False) -> int:
    """Return what a process is expected to hold at its peak while it segments one scan.

    Args:
        on_gpu: leave out what a GPU holds in a memory of its own.
    """
    network = 0 if on_gpu else footprint.network
    # labels and maps are made when the features are gone, but the scan is there all along
    counted = max(
        network + footprint.scan_voxels * _FLOAT,
        footprint.scan + footprint.kept + footprint.scan_voxels,
    )
    return round(BASE + SLACK * counted)


def plan_memory(
    card: Card, *, device: torch.device, **sizes: Any
) -> tuple[torch.device, dict[str, Any]]:
    """Return the device, or the CPU where it lacks memory, with the record for the receipt.

    ScanError when neither does; says how much is needed and how much there is. A Mac's GPU
    (``mps``) shares the memory of the CPU.

    Args:
        sizes: of the scan, as :class:`Footprint` has them.
    """
    footprint, there = Footprint.of(card, **sizes), memory_for_this_process()
    least = needed = peak_bytes(footprint, on_gpu=device.type == "cuda")
    own, rungs = round(SLACK * footprint.network), []
    fits = _fits(needed, there) and _fits(own, free_gpu_bytes(device))
    if device.type != "cpu" and not fits:
        device, needed, rungs = torch.device("cpu"), peak_bytes(footprint), ["on the CPU"]
    _require(needed, there, least)
    record: dict[str, Any] = {"estimated_gb": _gb(needed), "rungs": rungs}
    if rungs:  # else it would only make receipts of equal runs differ
        record["available_gb"] = None if there is None else _gb(there)
    return device, record


def _fits(needed: int, there: int | None) -> bool:
    return there is None or needed <= there


def _require(needed: int, there: int | None, least: int) -> None:
    """Refuse a scan that does not fit; tell the least that would do."""
    if there is not None and needed > there:
        raise ScanError(
            f"this scan needs {_gb(least):.1f} GB of memory and {_gb(there):.1f} GB is there; "
            "close other programs, or crop or resample the scan"
        )


def scans_in_flight(segmenter: Segmenter, voxels: Sequence[int], *, most: int) -> int:
    """Return how many scans of these voxels (0: not known) there is room for, 1 to ``most``."""
    card, there = segmenter.card, memory_for_this_process()
    if there is None:
        return most
    data = card.settings["data"]
    grid: Sequence[int] = data["patch"]
    if card.crops_to_head:
        grid = [math.ceil(edge / data["spacing_mm"]) for edge in HEAD_MM]
    footprint = Footprint.of(card, scan_voxels=max(voxels, default=0), grid=grid)
    on_gpu = segmenter.model_stages.device.type == "cuda"
    spare = there - peak_bytes(footprint, on_gpu=on_gpu)
    return min(most, 1 + max(0, spare // footprint.waiting))


def require_room(segmenter: Segmenter, voxels: int) -> None:
    """Raise ScanError for a scan too large for the memory whatever is done, before it is read.

    Args:
        voxels: of the scan; 0 where that is not known.
    """
    patch = segmenter.card.settings["data"]["patch"]
    if not 0 < voxels <= MAX_VOXELS or len(patch) != 3:
        return  # of one that promises too much something better is said
    # The model's grid is not known before the scan is read: one patch is a guess at the least.
    least = peak_bytes(Footprint.of(segmenter.card, scan_voxels=voxels, grid=patch))
    _require(least, memory_for_this_process(), least)


def voxels_in_header(path: Path) -> int:
    """Return the voxels of one volume of a NIfTI file; 0 when the header cannot be read.

    What is wrong with the file is said when it is read. A pipe is not opened: that would wait
    for a writer.
    """
    try:
        return math.prod(open_raw(path, volume=0).layout.shape)
    except ScanError:
        return 0


def _gb(count: int) -> float:
    return round(count / 1e9, 2)
