"""Volumes in millilitres with their intervals: structures, both sides, totals, asymmetry.

How far a volume may be off is told by ``volume_intervals``. A model of made-up images errs on real
scans as they cannot show. Where that was measured (``drawn_bias`` of a card: mean log ratio of
volumes drawn by hand to those found), an interval reaches that much further to this side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from statistics import median

import torch

from ddmseg.maths.expected_dice import Expectation
from ddmseg.models.card import Card
from ddmseg.networks.ensemble import Answer
from ddmseg.quality.quantities import Quantity, structures
from ddmseg.quality.segmentation import Asymmetry, StructureVolume
from ddmseg.quality.volume_intervals import (
    MOST_DOUBT,
    Ends,
    Sizes,
    by_doubt,
    by_samples,
    holding_the_found,
)

SAMPLE_BOUNDS = "sample_bounds"
"""Of a card's ``calibration``, where intervals by samples were found to be the better ones."""
USUAL_WIDTH = "usual_width"
"""Of intervals, as :meth:`Measured.width` has it: that of three in four intact made-up heads. In
scans with wider ones mode ``auto`` draws samples."""


class Measured:
    """Volumes of one label map, and how far each may be off.

    Args:
        card: of the weights, with the bounds in ``calibration``.
        found_ml: volume of each id.
        expected: of each class, in voxels of the model grid.
        expected_voxel_ml: volume of a voxel of the model grid.
        answer: with the samples behind it, if there are any.
    """

    def __init__(
        self,
        card: Card,
        found_ml: Mapping[int, float],
        expected: Expectation,
        *,
        expected_voxel_ml: float,
        answer: Answer | None = None,
    ) -> None:
        self._card = card
        self._ml = found_ml
        columns = [expected.size, expected.hits, expected.missed, expected.soft]
        self._expected = torch.stack(columns, dim=-1).double().cpu()
        self._expected_voxel_ml = expected_voxel_ml
        self._samples = None if answer is None or not reads_samples(card, answer) else answer

    def row(self, quantity: Quantity) -> StructureVolume:
        """Return a volume with its interval; the index is 0 where several ids make it."""
        index = quantity.ids[0] if len(quantity.ids) == 1 else 0
        ml = sum(self._ml.get(index, 0.0) for index in quantity.ids)
        return StructureVolume(index, quantity.name, ml, *self._interval(quantity, ml))

    def sizes(self, quantity: Quantity) -> Sizes:
        """Return a quantity in voxels of the model grid."""
        places = [self._card.labels.index(index) for index in quantity.ids]
        size, hits, missed, soft = self._expected[places].sum(0).tolist()
        if self._samples is None:
            return Sizes(size, hits, missed, soft)
        drawn = self._samples.sample_volumes[:, places].double().sum(1).tolist()
        return Sizes(size, hits, missed, soft, drawn, self._samples.weights.double().tolist())

    def _interval(self, quantity: Quantity, ml: float) -> tuple[float, float]:
        sizes = self.sizes(quantity)
        if not ml or not sizes.size or sizes.doubt > MOST_DOUBT:
            # it may be as large as what is missed
            return 0.0, ml + sizes.missed * self._expected_voxel_ml
        ends = self._ends(quantity.name, sizes)
        if ends is None:  # never measured: what is expected to be wrong, or missed
            return ml * sizes.hits / sizes.size, ml * (1 + sizes.missed / sizes.size)
        bias = self._card.calibration.get("drawn_bias", {}).get(quantity.name, 0.0)
        low, high = holding_the_found(ends)
        return ml * math.exp(low + min(bias, 0.0)), ml * math.exp(high + max(bias, 0.0))

    def _ends(self, name: str, sizes: Sizes) -> Ends | None:
        known = self._card.calibration
        if self._samples is not None and name in known[SAMPLE_BOUNDS]:
            return by_samples(sizes, known[SAMPLE_BOUNDS][name])
        if name in known.get("volume_bounds", {}):
            return by_doubt(sizes, known["volume_bounds"][name])
        # Cards of earlier versions have bounds around the volume found itself.
        ratios = known.get("volume_ratios", {}).get(name)
        return None if ratios is None else by_doubt(replace(sizes, soft=sizes.size), ratios)

    def width(self) -> float | None:
        """Return how wide intervals are in units of the volume found, median over structures.

        As wide as the scan makes them: without the part that drawn scans asked for. None where no
        structure has bounds.
        """
        widths = []
        for quantity in structures(self._card.labels):
            sizes = self.sizes(quantity)
            ends = self._ends(quantity.name, sizes) if sizes.size else None
            if ends is not None and sizes.doubt > MOST_DOUBT:
                widths.append(1 + sizes.missed / sizes.size)
            elif ends is not None:
                low, high = holding_the_found(ends)
                widths.append(math.exp(high) - math.exp(low))
        return median(widths) if widths else None

    def asymmetry(self, pair: Quantity) -> Asymmetry | None:
        """Return how far left and right of a pair differ; None where either is not there."""
        left, right = (self._ml.get(index, 0.0) for index in pair.ids)
        bounds = self._card.calibration.get("asymmetry_ratios", {}).get(pair.name)
        if not left or not right:
            return None
        ratio = math.log(left / right)
        low, high = bounds or (-math.inf, math.inf)
        return Asymmetry(pair.name, *map(_percent, (ratio, ratio + low, ratio + high)))


def reads_samples(card: Card, answer: Answer) -> bool:
    """Say whether intervals are read off an answer's samples.

    Of as many as the bounds were fitted with, or more: fewer tell a spread worse.
    """
    if SAMPLE_BOUNDS not in card.calibration:
        return False
    enough: bool = answer.samples >= card.settings["sampling"]["samples"]
    return enough


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
