"""Volumes in millilitres with their intervals: structures, both sides, totals, asymmetry.

An interval is ``soft * exp(low)`` to ``soft * exp(high)``, where the soft volume counts voxels by
their probability. The bounds of the log ratio of true to soft volume are those that hold for
validation scans in units of doubt (``volume_bounds`` of a card), times the doubt of this scan: so a
bad scan gets wide intervals. The volume of the labels always lies within.
A model of made-up images errs on real scans as they cannot show. Where that was measured
(``drawn_bias``: mean log ratio of volumes drawn by hand to those found), an interval reaches
that much further to this side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.imaging.labels import mirror_index, structure
from ddmseg.imaging.volume import Volume
from ddmseg.maths.expected_dice import Expectation
from ddmseg.models.card import Card
from ddmseg.quality.segmentation import (
    INTRACRANIAL,
    WHOLE_BRAIN,
    Asymmetry,
    StructureVolume,
)

_VENTRICLES = (4, 5, 14, 15, 43, 44)
_FLUID = (*_VENTRICLES, 24)
_WHITE = (2, 7, 41, 46, 77)
_STEM = (16,)
"""Neither grey nor white alone."""
SHELL_MM = (4.0, 12.0)
"""Distance from the labels at which a scan that shows a head has skull, fat and skin."""
GRID_MM = 4.0
"""Of the voxels looked at for that: distances on a finer grid take half a second."""
BRIGHT = 0.1
"""Share of the labels' usual intensity from which a voxel is more than air."""
HEAD_SHARE = 0.2
"""Of bright voxels in the shell, from which a scan shows a head: a stripped one has hardly any."""
SMALLEST_SHARE = 1e-3
"""Of the volume found that the soft one is, so that its logarithm is finite."""
LEAST_DOUBT, MOST_DOUBT = 0.01, 3.0
"""Below the one no interval gets narrower; above the other a structure is hardly found."""


@dataclass(frozen=True)
class Quantity:
    """A structure, a pair of sides or a total: its name and the ids that make it."""

    name: str
    ids: tuple[int, ...]


def structures(labels: Sequence[int]) -> list[Quantity]:
    """Return each structure of a model by itself, background left out."""
    return [Quantity(structure(index).name, (index,)) for index in labels if index]


def pairs(labels: Sequence[int]) -> list[Quantity]:
    """Return left and right together, of structures that a model knows on both sides."""
    found = []
    for index in labels:
        name, other = structure(index).name, mirror_index(index)
        if name.startswith("Left-") and other in labels:
            found.append(Quantity(name.removeprefix("Left-"), (index, other)))
    return found


def totals(labels: Sequence[int]) -> list[Quantity]:
    """Return what structures add up to, of a model that knows the whole brain.

    The brain is what is neither ventricle nor CSF. Grey matter is cortex, deep nuclei,
    hippocampus and amygdala of cerebrum and cerebellum; the brain stem counts as neither.
    """
    known = [index for index in labels if index]
    if len(known) < WHOLE_BRAIN:
        return []
    brain = [index for index in known if index not in _FLUID]
    rows = {
        "Brain": brain,
        "Grey-Matter": [index for index in brain if index not in (*_WHITE, *_STEM)],
        "White-Matter": [index for index in brain if index in _WHITE],
        "Ventricles": [index for index in known if index in _VENTRICLES],
        INTRACRANIAL: known if 24 in known else [],
    }
    return [Quantity(name, tuple(ids)) for name, ids in rows.items() if ids]


def doubt(size: float, hits: float, missed: float) -> float:
    """Return the voxels expected to be wrong or missed, over those found."""
    return max((size - hits + missed) / size, LEAST_DOUBT) if size > 0 else LEAST_DOUBT


class Measured:
    """Volumes of one label map, and how far each may be off.

    Args:
        card: of the weights, with the bounds in ``calibration``.
        found_ml: volume of each id.
        expected: of each class, in voxels of the model grid.
        expected_voxel_ml: volume of a voxel of the model grid.
    """

    def __init__(
        self,
        card: Card,
        found_ml: Mapping[int, float],
        expected: Expectation,
        *,
        expected_voxel_ml: float,
    ) -> None:
        self._card = card
        self._ml = found_ml
        columns = [expected.size, expected.hits, expected.missed, expected.soft]
        table = torch.stack(columns, dim=-1).tolist()
        self._expected = dict(zip(card.labels, table, strict=True))
        self._expected_voxel_ml = expected_voxel_ml

    def row(self, quantity: Quantity) -> StructureVolume:
        """Return a volume with its interval; the index is 0 where several ids make it."""
        index = quantity.ids[0] if len(quantity.ids) == 1 else 0
        ml = sum(self._ml.get(index, 0.0) for index in quantity.ids)
        return StructureVolume(index, quantity.name, ml, *self._interval(quantity, ml))

    def _interval(self, quantity: Quantity, ml: float) -> tuple[float, float]:
        size, hits, missed, soft = (
            sum(self._expected[index][k] for index in quantity.ids) for k in range(4)
        )
        beyond = missed * self._expected_voxel_ml
        scale = doubt(size, hits, missed)
        if not ml or not size or scale > MOST_DOUBT:  # it may be as large as what is missed
            return 0.0, ml + beyond
        bounds, shift = self._bounds(quantity.name, soft / size)
        bias = self._card.calibration.get("drawn_bias", {}).get(quantity.name, 0.0)
        if bounds is None:  # never measured: what is expected to be wrong, or missed
            return ml * hits / size, ml * (1 + missed / size)
        low, high = (shift + bound * scale for bound in bounds)
        low, high = min(low, 0.0) + min(bias, 0.0), max(high, 0.0) + max(bias, 0.0)
        return ml * math.exp(low), ml * math.exp(high)

    def _bounds(self, name: str, soft_share: float) -> tuple[Sequence[float] | None, float]:
        """Return bounds, and the log of what they are around over the volume found.

        Cards of earlier versions have bounds around the volume found itself.
        """
        known = self._card.calibration
        if name in known.get("volume_bounds", {}):
            return known["volume_bounds"][name], math.log(max(soft_share, SMALLEST_SHARE))
        return known.get("volume_ratios", {}).get(name), 0.0

    def asymmetry(self, pair: Quantity) -> Asymmetry | None:
        """Return how far left and right of a pair differ; None where either is not there."""
        left, right = (self._ml.get(index, 0.0) for index in pair.ids)
        bounds = self._card.calibration.get("asymmetry_ratios", {}).get(pair.name)
        if not left or not right:
            return None
        ratio = math.log(left / right)
        low, high = bounds or (-math.inf, math.inf)
        return Asymmetry(pair.name, *(_percent(x) for x in (ratio, ratio + low, ratio + high)))


def asymmetry_of(left: StructureVolume, right: StructureVolume) -> Asymmetry | None:
    """Return how far two rows of one structure differ, by the ends of both intervals.

    None where either is not there.
    """
    if not left.volume_ml or not right.volume_ml:
        return None
    ratios = (
        _log(left.volume_ml, right.volume_ml),
        _log(left.interval_low_ml, right.interval_high_ml),
        _log(left.interval_high_ml, right.interval_low_ml),
    )
    return Asymmetry(left.name, *map(_percent, ratios))


def _log(above: float, below: float) -> float:
    if above and below:
        return math.log(above / below)
    return math.inf if above else -math.inf


def _percent(log_ratio: float) -> float:
    """Return ``200 (left - right) / (left + right)`` of the log of left over right."""
    return 200 * math.tanh(log_ratio / 2)


def shows_head(scan: Volume, labels: NDArray[np.integer]) -> bool:
    """Return whether there is a head around the labels, rather than a brain cut out of it."""
    from scipy.ndimage import distance_transform_edt

    steps = [max(1, round(GRID_MM / s)) for s in scan.spacing_mm]
    thin = tuple(slice(None, None, step) for step in steps)
    inside, data = labels[thin] > 0, scan.data[thin]
    if not inside.any():
        return False
    spacing = [s * step for s, step in zip(scan.spacing_mm, steps, strict=True)]
    away = distance_transform_edt(~inside, sampling=spacing)
    shell = data[(away > SHELL_MM[0]) & (away < SHELL_MM[1])]
    floor = float(scan.data.min())
    bright = floor + BRIGHT * (float(np.median(data[inside])) - floor)
    return bool(shell.size and (shell > bright).mean() > HEAD_SHARE)


def not_measured(
    scan: Volume, labels: NDArray[np.integer], known: Sequence[int], *, cut: bool
) -> dict[str, str]:
    """Return the totals that a scan does not allow, with the reason.

    Args:
        scan: as it was read.
        labels: FreeSurfer ids on its grid.
        known: ids of the model.
        cut: whether part of the brain lies outside the scan.
    """
    rows = totals(known)
    if cut:
        return {row.name: "part of the brain lies outside the image" for row in rows}
    if any(row.name == INTRACRANIAL for row in rows) and not shows_head(scan, labels):
        return {INTRACRANIAL: "the scan shows no head around the brain"}
    return {}
