"""A model of one structure on a whole head: find each side coarsely, refine inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import ScanError
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.inference.budget import Deadline
from ddmseg.inference.model_stages import ModelStages
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.scan_stages import (
    FinishedScan,
    PreparedScan,
    Progress,
    ScanStages,
    SolvedScan,
)
from ddmseg.models.card import LARGEST_CROP_MM
from ddmseg.quality.reasons import Reason, on_side
from ddmseg.quality.segmentation import (
    Asymmetry,
    Quality,
    Segmentation,
    StructureVolume,
    Verdict,
)
from ddmseg.quality.standing_out import StandingOut
from ddmseg.quality.volumes import asymmetry_of

SIDES = {"left": 17, "right": 53}
"""FreeSurfer ids of the hippocampus, which the anatomy model finds."""
REGION_MM = (36.0, 50.0, 36.0)
"""Size of a region along right-left, front-back and up-down: that of the training crops."""
MARGIN_MM = 7.0
"""Kept around a structure that would not fit the region otherwise. With 5 the end of the demo
head's right tail was cut off, which `anatomy` draws too short."""
FEWEST_ML = 0.3
"""Below this the coarse structure is taken as not found: an atrophied one has 1 ml."""
_RANK: dict[str, int] = {"pass": 0, "warn": 1, "fail": 2}


@dataclass(frozen=True)
class _Side:
    name: str
    box: tuple[slice, slice, slice]
    result: Segmentation


class HeadThenCrops(ScanStages):
    """Segments one structure on crops directly, on heads in two steps.

    On a head the coarse head of another model finds both sides first. Head and
    body carry the same ids on either side; volumes are of both sides together, and
    ``receipt["regions"]`` has them side by side.

    Args:
        load_head: loads the model that finds it, the first time that a head comes.
    """

    def __init__(self, crops: ModelStages, load_head: Callable[[], ModelStages]) -> None:
        self.crops = crops
        self.card = crops.card
        self._load_head = load_head

    @cached_property
    def head(self) -> ModelStages:
        """The model that finds both sides."""
        return self._load_head()

    def prepare(
        self,
        scan: Volume,
        options: SegmentOptions,
        progress: Progress,
        deadline: Deadline | None = None,
    ) -> PreparedScan:
        """Prepare a crop; a head must be searched first."""
        extent = np.multiply(scan.shape, scan.spacing_mm)
        if extent.max() <= LARGEST_CROP_MM:
            return self.crops.prepare(scan, options, progress, deadline)
        return PreparedScan(scan, options, progress, deadline=deadline)

    def solve(self, begun: PreparedScan) -> SolvedScan | FinishedScan:
        """Encode and denoise a crop, or find and segment both sides of a head."""
        if begun.prepared is not None:
            return self.crops.solve(begun)
        scan, deadline = begun.scan, begun.deadline
        whole = self.head.segment_volume(scan, SegmentOptions(mode="fast"), begun.progress)
        boxes = {name: region_box(scan, whole.labels.data == i) for name, i in SIDES.items()}
        found = {name: box for name, box in boxes.items() if box is not None}
        sides: list[_Side] = []
        for name, box in found.items():
            end = None if deadline is None else deadline.part(1 / (len(found) - len(sides)))
            part = _cut(scan, box)
            result = self.crops.segment_volume(part, begun.options, begun.progress, end)
            sides.append(_Side(name, box, result))
        if not sides:
            raise ScanError(
                f"{scan.name}: no hippocampus was found by the {self.head.card.name} model; give "
                "a T1 scan of a head, or a crop around one hippocampus"
            )
        joined = _joined(scan, whole, sides)
        if deadline is not None:
            joined = replace(joined, receipt={**joined.receipt, "budget": _spent(deadline, sides)})
        return FinishedScan(joined)

    def restore(self, solved: SolvedScan | FinishedScan) -> Segmentation:
        """Bring a crop back to its own grid; a head is there already."""
        return solved.result if isinstance(solved, FinishedScan) else self.crops.restore(solved)


def _spent(deadline: Deadline, sides: Sequence[_Side]) -> dict[str, Any]:
    """Return the record of a budget of which both sides had a part: the one short of time."""
    parts = [side.result.receipt["budget"] for side in sides]
    short = [part for part in parts if part["stopped_because"] == "no room"]
    shown = (short or parts)[0]
    return deadline.record(shown["drawn"], shown["stopped_because"])


def region_box(scan: Volume, inside: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Return the box of voxels around a structure, or None when there is too little of it."""
    if inside.sum() * scan.voxel_ml < FEWEST_ML:
        return None
    places = np.argwhere(inside)
    # A few stray voxels must not stretch the region.
    low, high = np.percentile(places, [0.5, 99.5], axis=0)
    towards = np.abs(scan.affine[:3, :3]).argmax(axis=0)
    box = []
    for axis, n in enumerate(scan.shape):
        spacing = scan.spacing_mm[axis]
        wanted = max(REGION_MM[towards[axis]], (high - low)[axis] * spacing + 2 * MARGIN_MM)
        middle = (low + high)[axis] / 2
        start = max(0, round(middle - wanted / spacing / 2))
        box.append(slice(start, min(n, start + max(1, round(wanted / spacing)))))
    return box[0], box[1], box[2]


def _cut(scan: Volume, box: tuple[slice, slice, slice]) -> Volume:
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return Volume(np.ascontiguousarray(scan.data[box]), affine, scan.name, None)


def _joined(scan: Volume, whole: Segmentation, sides: Sequence[_Side]) -> Segmentation:
    labels = np.zeros(scan.shape, np.int32)
    uncertainty = np.zeros(scan.shape, np.float32)
    discrepancy = np.zeros(scan.shape, np.float32)
    for side in sides:
        part = side.result
        labels[side.box] = np.where(part.labels.data > 0, part.labels.data, labels[side.box])
        uncertainty[side.box] = np.maximum(uncertainty[side.box], part.uncertainty)
        discrepancy[side.box] = np.maximum(discrepancy[side.box], part.discrepancy)
    first = sides[0].result
    return Segmentation(
        scan=scan,
        labels=LabelMap(labels, scan.affine, scan.name, scan.header),
        uncertainty=uncertainty,
        discrepancy=discrepancy,
        volumes=[_added([s.result.volumes[i] for s in sides]) for i in range(len(first.volumes))],
        asymmetries=_asymmetries(sides),
        quality=_worst(sides, scan.notes),
        receipt=_receipt(whole, sides),
        features=_mean_features(sides),
        standing_out=_standing_out(scan, sides),
        **_probabilities(scan, sides),
        **_traces(scan, sides),
    )


def _standing_out(scan: Volume, sides: Sequence[_Side]) -> StandingOut | None:
    """Put together what stands out of each side."""
    beyond = np.zeros(scan.shape, bool)
    regions = []
    for side in sides:
        part = side.result.standing_out
        if part is None:
            return None
        beyond[side.box] |= part.beyond
        regions += part.regions
    largest = max((side.result.standing_out for side in sides), key=_unlike_ml)
    return StandingOut(
        beyond,
        sorted(regions, key=lambda one: -one.volume_ml),
        _unlike_ml(largest),
        largest.unlike_index if largest else 0,
    )


def _unlike_ml(found: StandingOut | None) -> float:
    return 0.0 if found is None else found.unlike_ml


def _mean_features(sides: Sequence[_Side]) -> NDArray[np.float32] | None:
    found = [s.result.features for s in sides if s.result.features is not None]
    return np.stack(found).mean(0) if found else None


def _added(rows: Sequence[StructureVolume]) -> StructureVolume:
    return replace(
        rows[0],
        volume_ml=sum(row.volume_ml for row in rows),
        interval_low_ml=sum(row.interval_low_ml for row in rows),
        interval_high_ml=sum(row.interval_high_ml for row in rows),
    )


def _asymmetries(sides: Sequence[_Side]) -> list[Asymmetry]:
    if len(sides) != len(SIDES):
        return []
    left, right = (side.result.volumes for side in sides)
    rows = (asymmetry_of(a, b) for a, b in zip(left, right, strict=True))
    return [row for row in rows if row is not None]


def _worst(sides: Sequence[_Side], notes: Sequence[str]) -> Quality:
    """The verdict of the worse side, and not a pass where the scan has notes of its own.

    Expected Dice is the mean of both.
    """
    qualities = [side.result.quality for side in sides]
    verdict: Verdict = max((q.verdict for q in qualities), key=_RANK.__getitem__)
    if notes and verdict == "pass":
        verdict = "warn"
    reasons: list[str] = [*notes]
    reasons += [
        on_side(side.name, reason) for side in sides for reason in side.result.quality.reasons
    ]
    missing = [name for name in SIDES if name not in {side.name for side in sides}]
    if missing:
        told = f"no hippocampus was found on the {missing[0]} side"
        reasons.append(Reason(told, "side_missing", {"side": missing[0]}))
        verdict = "fail"
    by_structure = {
        f"{name} ({side.name})": dice
        for side in sides
        for name, dice in side.result.quality.expected_dice_by_structure.items()
    }
    agreements = [q.sample_agreement for q in qualities if q.sample_agreement is not None]
    distances = [q.training_distance for q in qualities if q.training_distance is not None]
    expected = sum(q.expected_dice for q in qualities) / len(qualities)
    return Quality(
        verdict,
        expected,
        by_structure,
        reasons,
        max(q.steps for q in qualities),
        max(q.samples for q in qualities),
        min(agreements, default=None),
        {side.name: side.result.quality.postprocessing for side in sides},
        max(distances, default=None),
    )


def _receipt(whole: Segmentation, sides: Sequence[_Side]) -> dict[str, Any]:
    receipt = dict(sides[0].result.receipt)
    receipt["input"] = whole.receipt["input"]
    receipt["seconds"] = {
        "locate": round(sum(whole.receipt["seconds"].values()), 3),
        **{side.name: round(sum(side.result.receipt["seconds"].values()), 3) for side in sides},
    }
    receipt["located_by"] = whole.receipt["model"]
    receipt["regions"] = {
        side.name: {
            "voxels": [[edge.start, edge.stop] for edge in side.box],
            "volumes_ml": {row.name: round(row.volume_ml, 4) for row in side.result.volumes},
            "spent": side.result.receipt["spent"],
        }
        for side in sides
    }
    return receipt


def _probabilities(scan: Volume, sides: Sequence[_Side]) -> dict[str, Any]:
    first = sides[0].result
    if first.probabilities is None:
        return {}
    p = np.zeros((*scan.shape, first.probabilities.shape[-1]), np.float32)
    p[..., 0] = 1.0
    for side in sides:
        if side.result.probabilities is not None:
            p[side.box] = side.result.probabilities
    return {"probabilities": p, "probability_labels": first.probability_labels}


def _traces(scan: Volume, sides: Sequence[_Side]) -> dict[str, Any]:
    """Samples and steps of both sides in one frame each, as far as either side has them."""
    found = {}
    for name in ("sample_labels", "step_labels"):
        traced = [(side.box, getattr(side.result, name)) for side in sides]
        traced = [(box, frames) for box, frames in traced if frames is not None]
        if not traced:
            continue
        joined = np.zeros((*scan.shape, max(f.shape[-1] for _, f in traced)), np.int32)
        for box, frames in traced:
            # A side that took fewer steps stays as its last one left it.
            last = np.minimum(np.arange(joined.shape[-1]), frames.shape[-1] - 1)
            joined[box] = np.where(frames[..., last] > 0, frames[..., last], joined[box])
        found[name] = joined
    return found
