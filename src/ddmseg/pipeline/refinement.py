"""Level 2 after level 1: whether there is room, whose answer stays, what the receipt tells."""

from __future__ import annotations

from dataclasses import replace

import torch

from ddmseg.errors import ScanError
from ddmseg.maths.encoding import MaskEncoding
from ddmseg.pipeline.level_two import LevelTwo
from ddmseg.pipeline.memory.available import memory_for_this_process
from ddmseg.pipeline.memory.estimate import refining_bytes
from ddmseg.pipeline.throughput.scan_stages import SolvedScan

WORSE = 0.02
"""More of the voxels that level 2 decides expected to be wrong than of level 1's, from which
level 1's answer stays. Where level 2 was right the difference was up to 0.005: the discrepancy
does not tell apart answers this near each other, but those of a level gone astray."""


class NoRoomError(ScanError):
    """Level 2 takes more memory than there is."""


def finer(second: LevelTwo, solved: SolvedScan, device: torch.device) -> SolvedScan:
    """Return a solved scan with level 2's answer in place of level 1's.

    Unless level 2 was asked for, level 1's stays where it is expected to be clearly better, and
    where the memory does not do for more.

    Args:
        second: the second level of the model that solved it.
        solved: by level 1.
        device: where to compute.

    Raises:
        NoRoomError: when level 2 was asked for and the memory does not do.
    """
    begun = solved.begun
    asked_for = begun.options.level == "2"
    try:
        refined = second.refine(
            begun.scan,
            solved.prepared,
            solved.answer,
            solved.assessment,
            device=device,
            progress=lambda fraction: begun.progress("refine", fraction),
            require_room=lambda voxels: _require(_bytes_needed(second, solved, voxels)),
        )
    except NoRoomError as error:
        if asked_for:
            raise
        return _told(solved, {"left_out": str(error)})
    needed = _bytes_needed(second, solved, refined.prepared.image.size)
    told = {
        "weights_sha256": second.card.checksum,
        "estimated_gb": round(needed / 1e9, 2),
        "decides_freesurfer_id": list(second.decides),
        "patches": refined.patches,
        "expected_wrong_before": round(refined.wrong_before, 4),
        "expected_wrong_after": round(refined.wrong_after, 4),
    }
    if refined.wrong_after > refined.wrong_before + WORSE and not asked_for:
        return _told(solved, told)
    return replace(
        _told(solved, told),
        prepared=refined.prepared,
        answer=refined.answer,
        assessment=refined.assessment,
        first_level=(solved.prepared, solved.answer),
    )


def _told(solved: SolvedScan, told: dict[str, object]) -> SolvedScan:
    return replace(solved, receipt={**solved.receipt, "level_two": told})


def _bytes_needed(second: LevelTwo, solved: SolvedScan, fine_voxels: int) -> int:
    """Return what refining a scan takes at its peak."""
    classes = len(second.card.labels)
    return refining_bytes(
        fine_voxels,
        classes=classes,
        guides=MaskEncoding(classes).channels,
        scan_voxels=solved.begun.scan.data.size,
        probabilities=solved.begun.options.probabilities,
    )


def _require(needed: int) -> None:
    """Refuse what the process may not have.

    Raises:
        NoRoomError: says how much is needed, and how much there is.
    """
    there = memory_for_this_process()
    if there is not None and needed > there:
        raise NoRoomError(
            f"level 2 needs {needed / 1e9:.1f} GB of memory and {there / 1e9:.1f} GB is there; "
            "close other programs, or leave it out with --level 1"
        )
