"""How many scans may be in work at a time, from what their headers say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.errors import ScanError
from ddmseg.imaging.nifti_guard import MAX_VOXELS, read_header
from ddmseg.inference.memory.estimate import Footprint
from ddmseg.inference.memory.plan import first_that_fits, rungs, scans_at_once
from ddmseg.models.available_memory import memory_for_this_process

if TYPE_CHECKING:
    from ddmseg.inference.segmenter import Segmenter

HEAD_MM = (200.0, 240.0, 240.0)
"""Box that holds a head, for its model grid is not known before the scan was read."""


def scans_in_flight(segmenter: Segmenter, voxels: Sequence[int], *, most: int) -> int:
    """Return how many scans the memory has room for, from 1 to ``most``.

    Args:
        voxels: of each scan; 0 where that is not known. The largest counts.
        most: more would not help.
    """
    card = segmenter.card
    data = card.settings["data"]
    grid: Sequence[int] = data["patch"]
    if card.crops_to_head:
        grid = [math.ceil(edge / data["spacing_mm"]) for edge in HEAD_MM]
    footprint = _footprint(segmenter, max(voxels, default=0), grid)
    return scans_at_once(footprint, most, on_gpu=segmenter.model_stages.device.type == "cuda")


def require_room(segmenter: Segmenter, voxels: int) -> None:
    """Refuse a scan that is too large for the memory whatever is done, before it is read.

    Args:
        voxels: of the scan; 0 where that is not known.

    Raises:
        ScanError: says how much is needed at least, and how much there is.
    """
    patch = segmenter.card.settings["data"]["patch"]
    if not 0 < voxels <= MAX_VOXELS or len(patch) != 3:
        return  # of one that promises too much something better is said
    # The model's grid is not known before the scan is read: one patch is a guess at the least.
    first_that_fits(rungs(_footprint(segmenter, voxels, patch)), memory_for_this_process(), None)


def _footprint(segmenter: Segmenter, voxels: int, grid: Sequence[int]) -> Footprint:
    card = segmenter.card
    return Footprint.of(
        card.settings,
        len(card.labels),
        scan_voxels=voxels,
        grid=grid,
    )


def voxels_in_header(path: Path) -> int:
    """Return the voxels of one volume of a NIfTI file; 0 when the header cannot be read.

    What is wrong with the file is said when it is read. A pipe is not opened: that would wait
    for a writer.
    """
    try:
        return math.prod(read_header(path, volume=0)[1].shape)
    except ScanError:
        return 0
