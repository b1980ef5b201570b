"""What goes from stage to stage of one scan: prepared, solved, and then a segmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ddmseg.imaging.preprocess import Prepared
from ddmseg.imaging.volume import Volume
from ddmseg.inference.options import SegmentOptions
from ddmseg.networks.ensemble import Answer
from ddmseg.quality.assessment import Assessment

if TYPE_CHECKING:
    from ddmseg.inference.budget import Deadline
    from ddmseg.quality.segmentation import Segmentation

Progress = Callable[[str, float], None]
"""Gets a stage (read, prepare, encode, denoise, restore) and the fraction of it done."""


@dataclass(frozen=True)
class PreparedScan:
    """A scan that waits for the network.

    Attributes:
        scan: as read.
        options: what to do.
        progress: gets stage and fraction.
        prepared: the image on the model grid; None where the model has to find its place
            in the scan first.
        key: hash of the scan's content.
        seconds: of each stage so far.
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
        begun: what the network was given.
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
