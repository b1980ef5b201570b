"""How much memory a scan will take at its peak, from sizes alone.

Bytes are counted array by array; what the count leaves out (workspaces of
convolutions, fragments, allocator) is one measured constant, ``SLACK``. Checked against
the peak of whole runs by ``ddmseg_lab.speed.memory``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BASE = 400 * 10**6
"""Bytes of the process with torch, scipy and nibabel loaded and nothing to do."""
SLACK = 1.25
"""Measured peak over counted bytes, the base left out."""
SCAN_BYTES = 28
"""A voxel of the scan: as read, labels before and after cleaning, two maps, and what
cleaning and writing hold beside them, at most 4 bytes each."""
WAITING_BYTES = 24
"""A voxel of a scan that is being read or written while another is with the network."""
_FLOAT = 4


@dataclass(frozen=True)
class Footprint:
    """Sizes that memory depends on.

    Attributes:
        widths: channels of the encoder, image grid first.
        embedding: channels of z_I.
        classes: labels, background included.
        probabilities: whether those are brought back to the scan's grid.
        samples: whether any may be drawn, and not the coarse head's answer alone.
        block: whether the encoder works on blocks.
    """

    widths: Sequence[int]
    embedding: int
    classes: int
    scan_voxels: int
    grid: Sequence[int]
    probabilities: bool = False
    samples: bool = True
    block: bool = False

    @classmethod
    def of(cls, settings: dict[str, Any], classes: int, **sizes: Any) -> Footprint:
        """Return the footprint of a model by its settings and the sizes of a scan."""
        model = settings["model"]
        block = model.get("encoder_form") == "block"
        return cls(model["widths"], model["embedding"], classes, block=block, **sizes)

    @property
    def network(self) -> float:
        """Bytes at the peak where the network computes, counted."""
        voxels = math.prod(self.grid)
        if self.block:
            samples = _FLOAT * 2.0 * self.classes if self.samples else 0.0
            return voxels * (self._features + max(self._workspace, samples))
        # the features of the whole grid, and with them those of the crop
        encoding = self._features * 2 + self._workspace
        drawing = self._drawing if self.samples else 0
        return voxels * max(encoding, self._features + drawing)

    @property
    def scan(self) -> int:
        """Bytes at the peak on the grid of the scan, counted."""
        classes = _FLOAT * self.classes if self.probabilities else 0
        return self.scan_voxels * (SCAN_BYTES + classes)

    @property
    def waiting(self) -> int:
        """Bytes of such a scan while another one is with the network."""
        return self.scan_voxels * WAITING_BYTES + math.prod(self.grid) * _FLOAT * self.classes

    @property
    def _features(self) -> float:
        """Bytes of everything the encoder leaves, a voxel of the grid."""
        levels = self.widths if self.block else self.widths[1:]
        pyramid = sum(w * 0.125**level for level, w in enumerate(levels, start=1))
        stem = 1 if self.block else self.widths[0]  # the image, folded
        return _FLOAT * (stem + self.embedding + self.classes + pyramid)

    @property
    def _workspace(self) -> float:
        """Bytes that one pass holds beside its results: inputs and outputs of a layer."""
        return _FLOAT * 3 * self.widths[0] * (0.125 if self.block else 1)

    @property
    def _drawing(self) -> float:
        """Bytes of drawing a sample: its logits with prior, its softmax, the mean of those
        before, features of the last decision, and masks on half the grid."""
        return _FLOAT * (3 * self.classes + 3 * self.widths[0] + self.classes)


def peak_bytes(footprint: Footprint, *, on_gpu: bool = False) -> int:
    """Return what a process is expected to hold at its peak while it segments one scan.

    Args:
        on_gpu: leave out what a GPU holds in a memory of its own.
    """
    network = 0 if on_gpu else footprint.network
    kept = math.prod(footprint.grid) * _FLOAT * footprint.classes
    # labels and maps are made when the features are gone, but the scan is there all along
    counted = max(
        network + footprint.scan_voxels * _FLOAT, footprint.scan + kept + footprint.scan_voxels
    )
    return round(BASE + SLACK * counted)
