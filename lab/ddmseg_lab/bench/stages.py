"""The parts of the network on one scan: one plain pass, and what samples cost beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch

from ddmseg.imaging.nifti import read_volume
from ddmseg.inference.budget import Draw
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.scan_encoding import EncodedScan
from ddmseg.inference.segmenter import Segmenter

PLAIN_PASS = "one plain pass"
"""Of the image encoder over the whole model grid, without tiles."""
ENCODING = "encoding"
"""The same in the tiles of training, and blended."""
SAMPLE_STEPS = "50 sample-steps"
SAMPLE_STEPS_DRAW = Draw(steps=10, samples=5)
STAGES = (PLAIN_PASS, ENCODING, SAMPLE_STEPS)


class NetworkStages:
    """What is timed of the network on one scan.

    Args:
        segmenter: of the model.
        path: of the scan.

    Raises:
        ScanError: when the scan cannot be read.
    """

    def __init__(self, segmenter: Segmenter, path: Path) -> None:
        self._segmenter = segmenter
        self._options = SegmentOptions(mode="fast")
        self._begun = segmenter.prepare(read_volume(path), self._options, _silent)

    def work(self, name: str) -> Callable[[], object] | None:
        """Return what to time; None where the scan is searched before it is prepared.

        Args:
            name: one of ``STAGES``.
        """
        if self._begun.prepared is None:
            return None
        return {
            PLAIN_PASS: self._plain_pass,
            ENCODING: self._encode,
            SAMPLE_STEPS: self._sample,
        }[name]

    @torch.inference_mode()
    def _plain_pass(self) -> object:
        assert self._begun.prepared is not None
        image = torch.from_numpy(self._begun.prepared.image)[None, None]
        own = self._segmenter.model_stages
        return own.model.encode(image.to(own.device))

    @torch.inference_mode()
    def _encode(self) -> EncodedScan:
        memory = self._segmenter.model_stages.plan_memory(self._begun)
        return self._segmenter.model_stages.encode(self._begun, memory, cached=False)

    @torch.inference_mode()
    def _sample(self) -> object:
        draw = self._segmenter.model_stages.answering.draw
        return draw(self._encoded, self._options, _silent, SAMPLE_STEPS_DRAW)

    @cached_property
    def _encoded(self) -> EncodedScan:
        return self._encode()


def _silent(stage: str, fraction: float) -> None:
    """Show nothing."""
