"""Make intervals of volumes honest: fit the bounds of a card on cases whose volumes are known.

Each bound holds for 95% of new cases like these: the median of a log ratio, and as much to both
sides as split conformal prediction asks for.

Source: Lei et al. 2018, arXiv 1604.04173, section 2.2, on scaled log ratios.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddmseg.maths.calibration import conformal_bound
from ddmseg.maths.expected_dice import Expectation
from ddmseg.models.card import Card
from ddmseg.quality.quantities import Quantity, pairs, structures, totals
from ddmseg.quality.volume_intervals import LEAST_SPREAD, MOST_DOUBT, Sizes, drawn_to_usual
from ddmseg.quality.volumes import Measured

COVERAGE = 0.95
FEWEST_VOXELS = 50
"""Of a structure, found and true, whose ratio counts: at the edge of a patch there are slivers."""


@dataclass(frozen=True)
class SizedCase:
    """Voxels of each class in one mask, by the order of the card.

    Attributes:
        size: found.
        hits: expected to be right.
        missed: expected elsewhere.
        soft: by their probability.
        true: in truth.
        drawn: by their probability in each sample; empty without samples.
        shares: weight of each sample; they sum to 1.
    """

    size: tuple[float, ...]
    hits: tuple[float, ...]
    missed: tuple[float, ...]
    soft: tuple[float, ...]
    true: tuple[float, ...]
    drawn: tuple[tuple[float, ...], ...] = ()
    shares: tuple[float, ...] = ()

    @classmethod
    def of(cls, expected: Expectation, true: Tensor) -> SizedCase:
        """Gather them; ``true`` leaves the background out."""
        columns = (expected.size, expected.hits, expected.missed, expected.soft)
        size, hits, missed, soft = (tuple(x.tolist()) for x in columns)
        return cls(size, hits, missed, soft, (0.0, *true.tolist()))

    def measured(self, card: Card) -> Measured:
        """Return its volumes, in voxels, as a scan's are."""
        columns = (self.size, self.hits, self.missed, self.soft)
        expected = Expectation(*(torch.tensor(x, dtype=torch.float64) for x in columns))
        voxels = dict(zip(card.labels, self.size, strict=True))
        return Measured(card, voxels, expected, expected_voxel_ml=1.0)

    def sizes(self, ids: Sequence[int], labels: Sequence[int]) -> tuple[Sizes, float]:
        """Return what is known of some classes together, and their true volume."""
        places = [labels.index(index) for index in ids]

        def total(row: Sequence[float]) -> float:
            return float(sum(row[place] for place in places))

        size, hits, missed, soft = map(total, (self.size, self.hits, self.missed, self.soft))
        drawn = [total(sample) for sample in self.drawn]
        return Sizes(size, hits, missed, soft, drawn, self.shares), total(self.true)

    def log_ratio(self, quantity: Quantity, labels: Sequence[int]) -> float:
        """Return the log of true over soft volume in units of doubt; NaN of too little."""
        sizes, true = self.sizes(quantity.ids, labels)
        return math.nan if _too_little(sizes, true) else math.log(true / sizes.soft) / sizes.doubt

    def sampled_ratio(self, quantity: Quantity, labels: Sequence[int]) -> tuple[float, float]:
        """Return the log of true over the samples' mean volume, and their spread, or NaN."""
        sizes, true = self.sizes(quantity.ids, labels)
        if _too_little(sizes, true) or not sizes.drawn:
            return math.nan, math.nan
        return math.log(true / sizes.size) - sizes.log_share(sizes.mean), sizes.spread

    def side_ratio(self, pair: Quantity, labels: Sequence[int]) -> float:
        """Return the log ratio of left less that of right, true against found."""
        sides = (self.sizes((index,), labels) for index in pair.ids)
        (left, true_left), (right, true_right) = sides
        if min(left.size, right.size, true_left, true_right) < FEWEST_VOXELS:
            return math.nan
        return math.log(true_left / true_right) - math.log(left.size / right.size)


def _too_little(sizes: Sizes, true: float) -> bool:
    return min(sizes.size, true) < FEWEST_VOXELS or sizes.doubt > MOST_DOUBT


def volume_bounds(card: Card, cases: Sequence[SizedCase]) -> dict[str, Any]:
    """Return what makes intervals by the discrepancy cover, for a card's ``calibration``.

    What too few cases show, one for each validation subject, gets no bounds.
    """
    labels = card.labels
    ratios = {q.name: [case.log_ratio(q, labels) for case in cases] for q in _quantities(labels)}
    both = pairs(labels)
    sides = {q.name: [case.side_ratio(q, labels) for case in cases] for q in both}
    return {"volume_bounds": _all_ends(ratios), "asymmetry_ratios": _all_ends(sides)}


def sample_bounds(card: Card, cases: Sequence[SizedCase]) -> dict[str, list[float]]:
    """Return the same for intervals by samples: usual spread and bounds, by name."""
    found = {}
    for quantity in _quantities(card.labels):
        tried = np.array([case.sampled_ratio(quantity, card.labels) for case in cases])
        known = tried[~np.isnan(tried[:, 0])]
        if told := bounds_by_spread(*known.T.tolist()):
            found[quantity.name] = told
    return found


def bounds_by_spread(ratios: Sequence[float], spreads: Sequence[float]) -> list[float]:
    """Return usual spread and bounds, as ``volume_intervals.by_samples`` has them, or nothing.

    Args:
        ratios: logs of true over the samples' mean volume.
        spreads: of the log volumes of the samples, for each.
    """
    if not ratios:
        return []
    usual = max(float(np.median(spreads)), LEAST_SPREAD)
    scales = [drawn_to_usual(spread, usual) for spread in spreads]
    ends = bounds([ratio / scale for ratio, scale in zip(ratios, scales, strict=True)])
    return [round(usual, 6), *(round(end, 4) for end in ends)] if ends else []


def _quantities(labels: Sequence[int]) -> list[Quantity]:
    return [*structures(labels), *pairs(labels), *totals(labels)]


def _all_ends(ratios: dict[str, list[float]]) -> dict[str, list[float]]:
    found = {}
    for name, values in ratios.items():
        if ends := bounds(values):
            # What an interval is around never lies outside it.
            found[name] = [round(min(ends[0], 0.0), 4), round(max(ends[1], 0.0), 4)]
    return found


def bounds(ratios: Sequence[float] | np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """Return the lower and the upper bound; none where NaN leaves too few values."""
    known = np.array([value for value in ratios if not math.isnan(value)])
    if not len(known):
        return []
    middle = float(np.median(known))
    reach = conformal_bound(np.abs(known - middle), COVERAGE)
    return [middle - reach, middle + reach] if math.isfinite(reach) else []
