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
from ddmseg.inference.model_stages import ModelStages
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.scan_stages import ScanRecord
from ddmseg.models.card import LARGEST_CROP_MM
from ddmseg.quality.reasons import Reason, on_side
from ddmseg.quality.segmentation import Quality, Segmentation, StructureVolume, Verdict
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


class HeadThenCrops:
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

    def prepare(self, begun: ScanRecord) -> ScanRecord:
        """Prepare a crop; a head must be searched first."""
        extent = np.multiply(begun.scan.shape, begun.scan.spacing_mm)
        return self.crops.prepare(begun) if extent.max() <= LARGEST_CROP_MM else begun

    def solve(self, begun: ScanRecord) -> ScanRecord:
        """Encode and denoise a crop, or find and segment both sides of a head."""
        if begun.prepared is not None:
            return self.crops.solve(begun)
        scan, deadline = begun.scan, begun.deadline
        whole = self.head.segment(ScanRecord(scan, SegmentOptions(mode="fast"), begun.progress))
        boxes = {name: region_box(scan, whole.labels.data == i) for name, i in SIDES.items()}
        found = {name: box for name, box in boxes.items() if box is not None}
        sides: list[_Side] = []
        for name, box in found.items():
            end = deadline and deadline.part(1 / (len(found) - len(sides)))
            part = ScanRecord(_cut(scan, box), begun.options, begun.progress, end)
            sides.append(_Side(name, box, self.crops.segment(part)))
        if not sides:
            raise ScanError(
                f"{scan.name}: no hippocampus was found by the {self.head.card.name} model; give "
                "a T1 scan of a head, or a crop around one hippocampus"
            )
        joined = _joined(scan, whole, sides)
        if deadline is not None:
            # both sides had a part of the time: of the one short of it the record tells
            parts = [side.result.receipt["budget"] for side in sides]
            short = [part for part in parts if part["stopped_because"] == "no room"]
            shown = (short or parts)[0]
            budget = deadline.record(shown["drawn"], shown["stopped_because"])
            joined = replace(joined, receipt={**joined.receipt, "budget": budget})
        return replace(begun, result=joined)

    def restore(self, solved: ScanRecord) -> Segmentation:
        """Bring a crop back to its own grid; a head is there already."""
        return self.crops.restore(solved) if solved.result is None else solved.result


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
    uncertainty, discrepancy = np.zeros((2, *scan.shape), np.float32)
    for side in sides:
        part, box = side.result, side.box
        labels[box] = np.where(part.labels.data > 0, part.labels.data, labels[box])
        uncertainty[box] = np.maximum(uncertainty[box], part.uncertainty)
        discrepancy[box] = np.maximum(discrepancy[box], part.discrepancy)
    rows = [list(both) for both in zip(*(side.result.volumes for side in sides), strict=True)]
    features = [f for side in sides if (f := side.result.features) is not None]
    asymmetries = [asymmetry_of(*both) for both in rows if len(both) == len(SIDES)]
    return Segmentation(
        scan=scan,
        labels=LabelMap(labels, scan.affine, scan.name, scan.header),
        uncertainty=uncertainty,
        discrepancy=discrepancy,
        volumes=[_added(both) for both in rows],
        asymmetries=[row for row in asymmetries if row is not None],
        quality=_worst(sides, scan.notes),
        receipt=_receipt(whole, sides),
        features=np.stack(features).mean(0) if features else None,
        standing_out=_standing_out(scan, sides),
        **_probabilities(scan, sides),
        **_traces(scan, sides),
    )


def _standing_out(scan: Volume, sides: Sequence[_Side]) -> StandingOut | None:
    """Put together what stands out of each side."""
    parts = [(side.box, out) for side in sides if (out := side.result.standing_out) is not None]
    if len(parts) < len(sides):
        return None
    beyond, regions = np.zeros(scan.shape, bool), []
    for box, part in parts:
        beyond[box] |= part.beyond
        regions += part.regions
    regions.sort(key=lambda one: -one.volume_ml)
    largest = max((part for _, part in parts), key=lambda part: part.unlike_ml)
    return StandingOut(beyond, regions, largest.unlike_ml, largest.unlike_index)


def _added(rows: Sequence[StructureVolume]) -> StructureVolume:
    names = ("volume_ml", "interval_low_ml", "interval_high_ml")
    return replace(rows[0], **{name: sum(getattr(row, name) for row in rows) for name in names})


def _worst(sides: Sequence[_Side], notes: Sequence[str]) -> Quality:
    """The verdict of the worse side, and not a pass where the scan has notes of its own.

    Expected Dice is the mean of both.
    """
    qualities = [side.result.quality for side in sides]
    verdict: Verdict = max((q.verdict for q in qualities), key=_RANK.__getitem__)
    if notes and verdict == "pass":
        verdict = "warn"
    found = [on_side(side.name, one) for side in sides for one in side.result.quality.reasons]
    reasons: list[str] = [*notes, *found]
    missing = [name for name in SIDES if name not in {side.name for side in sides}]
    if missing:
        told = f"no hippocampus was found on the {missing[0]} side"
        reasons.append(Reason(told, "side_missing", {"side": missing[0]}))
        verdict = "fail"
    agreements = [q.sample_agreement for q in qualities if q.sample_agreement is not None]
    distances = [q.training_distance for q in qualities if q.training_distance is not None]
    return Quality(
        verdict=verdict,
        expected_dice=sum(q.expected_dice for q in qualities) / len(qualities),
        expected_dice_by_structure={
            f"{name} ({side.name})": dice
            for side in sides
            for name, dice in side.result.quality.expected_dice_by_structure.items()
        },
        reasons=reasons,
        steps=max(q.steps for q in qualities),
        samples=max(q.samples for q in qualities),
        sample_agreement=min(agreements, default=None),
        postprocessing={side.name: side.result.quality.postprocessing for side in sides},
        training_distance=max(distances, default=None),
    )


def _receipt(whole: Segmentation, sides: Sequence[_Side]) -> dict[str, Any]:
    def seconds(of: Segmentation) -> float:
        return float(round(sum(of.receipt["seconds"].values()), 3))

    return {
        **sides[0].result.receipt,
        "input": whole.receipt["input"],
        "seconds": {"locate": seconds(whole), **{s.name: seconds(s.result) for s in sides}},
        "located_by": whole.receipt["model"],
        "regions": {
            side.name: {
                "voxels": [[edge.start, edge.stop] for edge in side.box],
                "volumes_ml": {row.name: round(row.volume_ml, 4) for row in side.result.volumes},
                "spent": side.result.receipt["spent"],
            }
            for side in sides
        },
    }


def _probabilities(scan: Volume, sides: Sequence[_Side]) -> dict[str, Any]:
    first = sides[0].result
    if first.probabilities is None:
        return {}
    p = np.zeros((*scan.shape, first.probabilities.shape[-1]), np.float32)
    p[..., 0] = 1.0
    for side in sides:
        p[side.box] = side.result.probabilities
    return {"probabilities": p, "probability_labels": first.probability_labels}


def _traces(scan: Volume, sides: Sequence[_Side]) -> dict[str, Any]:
    """Samples and steps of both sides in one frame each, as far as either side has them."""
    found = {}
    for name in ("sample_labels", "step_labels"):
        both = [(side.box, getattr(side.result, name)) for side in sides]
        traced = [(box, frames) for box, frames in both if frames is not None]
        if traced:
            joined = np.zeros((*scan.shape, max(f.shape[-1] for _, f in traced)), np.int32)
            for box, frames in traced:
                # A side that took fewer steps stays as its last one left it.
                last = np.minimum(np.arange(joined.shape[-1]), frames.shape[-1] - 1)
                joined[box] = np.where(frames[..., last] > 0, frames[..., last], joined[box])
            found[name] = joined
    return found
