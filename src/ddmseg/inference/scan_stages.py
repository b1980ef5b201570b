"""Three stages of one scan, and what goes from one to the next.

A scan is prepared, solved with the network, and restored to its own grid.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ddmseg.imaging.preprocess import Prepared
from ddmseg.imaging.volume import Volume
from ddmseg.inference.budget import Deadline
from ddmseg.inference.options import SegmentOptions
from ddmseg.models.card import Card
from ddmseg.networks.ensemble import Answer
from ddmseg.quality.assessment import Assessment
from ddmseg.quality.segmentation import Segmentation

Progress = Callable[[str, float], None]
"""Gets a stage (read, prepare, encode, denoise, restore) and the fraction of it done."""


@dataclass(frozen=True)
class PreparedScan:
    """A scan that waits for the network.

    Attributes:
        prepared: the image on the model grid; None where the model has to find its place
            in the scan first.
        key: hash of the scan's content.
        deadline: by which all must be done; None for none.
    """

    scan: Volume
    options: SegmentOptions
    progress: Progress
    prepared: Prepared | None = None
    key: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    deadline: Deadline | None = None


@dataclass(frozen=True)
class SolvedScan:
    """A scan that the network is done with: nothing here needs the encoder's features.

    Attributes:
        prepared: cut to what the answer is of.
        answer: class probabilities on the model grid.
        assessment: what to expect of them.
        features: mean of z_I, for the monitor.
        receipt: all but the time of what is still to do.
    """

    begun: PreparedScan
    prepared: Prepared
    answer: Answer
    assessment: Assessment
    features: NDArray[Any] | None
    receipt: dict[str, Any]


@dataclass(frozen=True)
class FinishedScan:
    """A scan whose parts were restored one by one already."""

    result: Segmentation


class ScanStages(ABC):
    """What takes a scan through the three stages, which may run in threads of their own."""

    card: Card

    @abstractmethod
    def prepare(
        self,
        scan: Volume,
        options: SegmentOptions,
        progress: Progress,
        deadline: Deadline | None = None,
    ) -> PreparedScan:
        """Bring a scan to the model's grid: the first of three stages.

        Raises:
            ScanError: when the scan is not usable.
        """

    @abstractmethod
    def solve(self, begun: PreparedScan) -> SolvedScan | FinishedScan:
        """Encode and denoise: the stage that uses the network.

        Raises:
            ScanError: when the memory does not do; says how much would.
        """

    @abstractmethod
    def restore(self, solved: SolvedScan | FinishedScan) -> Segmentation:
        """Bring everything back to the scan's own grid."""

    def segment_volume(
        self,
        scan: Volume,
        options: SegmentOptions,
        progress: Progress,
        deadline: Deadline | None = None,
    ) -> Segmentation:
        """Segment a scan that has been read: one stage after the other."""
        return self.restore(self.solve(self.prepare(scan, options, progress, deadline)))

    def start_clock(self, options: SegmentOptions) -> Deadline | None:
        """Start the clock of a scan's budget; None where there is none."""
        return None if math.isinf(options.budget) else Deadline(options.budget)


class StageClock:
    """Seconds of each stage, in ``seconds``."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds = {} if seconds is None else seconds

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
