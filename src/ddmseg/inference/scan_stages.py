"""The record of one scan, which the three stages fill: prepare, solve, restore."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray

from ddmseg.imaging.preprocess import Prepared
from ddmseg.imaging.volume import Volume
from ddmseg.inference.budget import Deadline
from ddmseg.inference.options import SegmentOptions
from ddmseg.networks.ensemble import Answer
from ddmseg.networks.image_encoder import Encoding
from ddmseg.quality.assessment import Assessment
from ddmseg.quality.segmentation import Segmentation

Progress = Callable[[str, float], None]
"""Gets a stage (read, prepare, encode, denoise, restore) and the fraction of it done."""


@dataclass(frozen=True)
class ScanRecord:
    """A scan on its way: each stage returns it with more of it known.

    Attributes:
        deadline: by which all must be done; None for none.
        key: hash of the scan's content.
        prepared: the image on the model grid, once encoded cut to what the answer is of; None
            where the model has to find its place in the scan first.
        device: where the network computes; ``memory`` says how it was chosen.
        encoding: features of the cut image, let go once there is an answer.
        cached: whether the encoder could be skipped.
        features: mean of z_I, for the monitor.
        receipt: all but what is still to do.
        result: of a scan whose parts were restored one by one already.
    """

    scan: Volume
    options: SegmentOptions
    progress: Progress
    deadline: Deadline | None = None
    key: str = ""
    prepared: Prepared | None = None
    device: torch.device | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    encoding: Encoding | None = None
    cached: bool = False
    answer: Answer | None = None
    assessment: Assessment | None = None
    features: NDArray[Any] | None = None
    receipt: dict[str, Any] = field(default_factory=dict)
    result: Segmentation | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
