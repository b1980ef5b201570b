"""How far a volume may be off: 95% bounds of the log of the true volume over the one found.

Two rules, each fitted for a structure on heads whose volumes are known. By the discrepancy:
around the soft volume, bounds in units of the scan's doubt. By samples, where enough were drawn
and the card has such bounds: around their mean volume, bounds in units of how far they differ.
The volume of the labels always lies within.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_DOUBT, MOST_DOUBT = 0.01, 3.0
"""Below the one no interval gets narrower; above the other a structure is hardly found."""
SMALLEST_SHARE = 1e-3
"""Of the volume found that a centre is at least, so that its logarithm is finite."""
MOST_SPREAD = 3.0
"""Times the usual spread, above which none is believed: few samples give wild ones."""
LEAST_SPREAD = 1e-9
"""Of the log volume, where all samples are equal."""

Ends = tuple[float, float]
"""Lower and upper bound of the log of a true volume over the one found."""


@dataclass(frozen=True)
class Sizes:
    """One quantity in a scan, in voxels of the model grid.

    Attributes:
        size: found.
        hits: expected to be right.
        missed: expected elsewhere.
        soft: by their probability.
        drawn: by their probability in each sample; empty without samples.
        shares: weight of each sample; they sum to 1.
    """

    size: float
    hits: float
    missed: float
    soft: float
    drawn: Sequence[float] = ()
    shares: Sequence[float] = ()

    @property
    def doubt(self) -> float:
        """Voxels expected to be wrong or missed, over those found."""
        if self.size <= 0:
            return LEAST_DOUBT
        return max((self.size - self.hits + self.missed) / self.size, LEAST_DOUBT)

    @property
    def mean(self) -> float:
        """Weighted mean of the samples' volumes."""
        return sum(w * v for w, v in zip(self.shares, self.drawn, strict=True))

    @property
    def spread(self) -> float:
        """Weighted standard deviation of the log of the samples' volumes, bias taken out.

        A sample without a voxel counts as one voxel.
        """
        logs = [math.log(max(v, 1.0)) for v in self.drawn]
        middle = sum(w * x for w, x in zip(self.shares, logs, strict=True))
        squares = sum(w * (x - middle) ** 2 for w, x in zip(self.shares, logs, strict=True))
        alike = sum(w**2 for w in self.shares)  # 1 where one sample has all the weight
        return math.sqrt(squares / max(1 - alike, 1e-9))

    def log_share(self, centre: float) -> float:
        """Return the log of a volume over the one found."""
        return math.log(max(centre / self.size, SMALLEST_SHARE))


def by_doubt(sizes: Sizes, bounds: Sequence[float]) -> Ends:
    """Return the ends by the discrepancy's rule.

    Args:
        bounds: of the log of true over soft volume, in units of doubt.
    """
    shift, scale = sizes.log_share(sizes.soft), sizes.doubt
    return shift + bounds[0] * scale, shift + bounds[1] * scale


def by_samples(sizes: Sizes, bounds: Sequence[float]) -> Ends:
    """Return the ends by how the samples differ.

    Args:
        bounds: usual spread; lower and upper bound of the log of true volume over the samples'
            mean, in units of what :func:`drawn_to_usual` makes of the spread.
    """
    usual, low, high = bounds
    shift, scale = sizes.log_share(sizes.mean), drawn_to_usual(sizes.spread, usual)
    return shift + low * scale, shift + high * scale


def holding_the_found(ends: Sequence[float]) -> Ends:
    """Return the ends, moved so that the volume found lies within."""
    return min(ends[0], 0.0), max(ends[1], 0.0)


def drawn_to_usual(spread: float, usual: float) -> float:
    """Return a spread drawn towards the usual one: one to four times that."""
    return min(spread, MOST_SPREAD * usual) + usual
