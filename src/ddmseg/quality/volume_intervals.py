"""How far a volume may be off: 95% bounds of the log of the true volume over the one found.

They are around the soft volume, in units of the scan's doubt, as fitted for a structure on heads
whose volumes are known. The volume of the labels always lies within.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_DOUBT, MOST_DOUBT = 0.01, 3.0
"""Below the one no interval gets narrower; above the other a structure is hardly found."""
SMALLEST_SHARE = 1e-3
"""Of the volume found that a centre is at least, so that its logarithm is finite."""
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
    """

    size: float
    hits: float
    missed: float
    soft: float

    @property
    def doubt(self) -> float:
        """Voxels expected to be wrong or missed, over those found."""
        if self.size <= 0:
            return LEAST_DOUBT
        return max((self.size - self.hits + self.missed) / self.size, LEAST_DOUBT)

    def log_share(self, centre: float) -> float:
        """Return the log of a volume over the one found."""
        return math.log(max(centre / self.size, SMALLEST_SHARE))


def by_doubt(sizes: Sizes, bounds: Sequence[float]) -> Ends:
    """Return the ends for one scan.

    Args:
        bounds: of the log of true over soft volume, in units of doubt.
    """
    shift, scale = sizes.log_share(sizes.soft), sizes.doubt
    return shift + bounds[0] * scale, shift + bounds[1] * scale


def holding_the_found(ends: Sequence[float]) -> Ends:
    """Return the ends, moved so that the volume found lies within."""
    return min(ends[0], 0.0), max(ends[1], 0.0)
