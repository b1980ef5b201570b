"""The part of the grid that samples decide: close around the coarse foreground.

Elsewhere the coarse head's answer stands. It is the narrower of two boxes: the features that
all modes share keep a wider margin, since quality checks and monitoring look at them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ddmseg.inference.scan_encoding import QUARTER, crop_encoding, foreground_box
from ddmseg.networks.ensemble import Answer
from ddmseg.networks.image_encoder import Encoding

REACH_VOXELS = 2
"""How far beyond the coarse foreground samples may say something else."""


@dataclass(frozen=True)
class SampledRegion:
    """A box of the image grid.

    Attributes:
        box: sides in voxels.
    """

    box: tuple[slice, ...]
    grid: tuple[int, ...]

    @classmethod
    def of(cls, encoding: Encoding, patch: Sequence[int]) -> SampledRegion:
        """Find the region of an encoded scan.

        Args:
            patch: voxels of the training patches. A grid hardly larger is taken whole: what
                the network normalises by should be as in training.
        """
        if encoding.decided:  # is cut to the brain's box already, and large to copy
            return cls.whole(encoding)
        logits = encoding.coarse
        box = foreground_box(logits, QUARTER, margin=REACH_VOXELS)
        sides = [side.stop - side.start for side in box]
        narrow = any(n < least for n, least in zip(sides, patch, strict=True))
        return cls.whole(encoding) if narrow else cls(box, tuple(logits.shape[2:]))

    @classmethod
    def whole(cls, encoding: Encoding, patch: Sequence[int] = ()) -> SampledRegion:
        """Return the whole grid; arguments as of :meth:`of`."""
        grid = tuple(encoding.coarse.shape[2:])
        return cls(tuple(slice(0, n) for n in grid), grid)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return all(side == slice(0, n) for side, n in zip(self.box, self.grid, strict=True))

    def encoding(self, whole: Encoding) -> Encoding:
        """Return the features that samples need."""
        return whole if self.is_whole else crop_encoding(whole, self.box)

    def completed(self, answer: Answer, whole: Encoding) -> Answer:
        """Return the answer of the region with the coarse head's around it.

        Args:
            answer: of the samples of :meth:`encoding`.
            whole: features of the whole grid.
        """
        if self.is_whole:
            return answer
        p = whole.coarse_probabilities
        inside = (slice(None), slice(None), *self.box)
        axes = tuple(range(2, p.dim()))
        around = (p.sum(axes) - p[inside].sum(axes))[0]
        p[inside] = answer.probabilities
        steps = answer.step_labels
        return replace(
            answer,
            probabilities=p,
            sample_volumes=answer.sample_volumes + around,
            sample_labels=self._placed(answer.sample_labels),
            step_labels=None if steps is None else self._placed(steps),
        )

    def _placed(self, labels: Tensor) -> Tensor:
        """Return label maps (``n *box``, or coarser by a whole factor) on the whole grid.

        Around the region is background: the coarse foreground lies within.
        """
        factor = (self.box[0].stop - self.box[0].start) // labels.shape[1]
        placed = labels.new_zeros(len(labels), *(n // factor for n in self.grid))
        sides = (slice(side.start // factor, side.stop // factor) for side in self.box)
        placed[(slice(None), *sides)] = labels
        return placed
