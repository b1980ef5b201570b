"""How far what a graph computes agrees with torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.types import Image

LEAST_LABELS = 0.999
"""Share of voxels with torch's label below which a graph is refused."""
MOST_PROBABILITY = 1e-3
"""Difference of a class probability, and of a feature, above which a graph is refused."""

Encode = Callable[[Tensor], Encoding]
"""Computes the image encoder f^I."""


@dataclass(frozen=True)
class Agreement:
    """Two encodings compared by what the coarse head says.

    Attributes:
        labels: share of voxels with the same label, in [0, 1].
        probability: largest difference of a class probability, in [0, 1].
        features: largest difference of a feature over the largest feature, of the stem,
            the embedding or a pyramid level; infinite when shapes differ.
    """

    labels: float
    probability: float
    features: float

    @property
    def suffices(self) -> bool:
        """Whether it is what rounding alone explains."""
        difference = max(self.probability, self.features)
        return self.labels >= LEAST_LABELS and difference <= MOST_PROBABILITY

    def __str__(self) -> str:
        return (
            f"labels agree with torch in {self.labels:.3%} of voxels, "
            f"probabilities within {self.probability:.1g}"
        )


def compare(ours: Encoding, theirs: Encoding) -> Agreement:
    """Return how far an encoding (``theirs``) agrees with torch's."""
    shapes = [x.shape for x in (ours.coarse_logits, *_features(ours))]
    if shapes != [x.shape for x in (theirs.coarse_logits, *_features(theirs))]:
        return Agreement(0.0, 1.0, float("inf"))
    p, q = (torch.softmax(e.coarse_logits, dim=1) for e in (ours, theirs))
    pairs = zip(_features(ours), _features(theirs), strict=True)
    same = (p.argmax(1) == q.argmax(1)).double().mean()
    # NaN compares as wrong, which it is
    difference = (p - q).abs().nan_to_num(1.0).max()
    return Agreement(float(same), float(difference), max(_relative(x, y) for x, y in pairs))


@torch.inference_mode()
def check(model: DiscrepancyDiffusionSegmenter, encode: Encode) -> Agreement:
    """Compare what computes f^I of a model with torch on one small made-up image."""
    image = check_image(model)
    return compare(model.image_encoder(image), encode(image))


def check_image(model: DiscrepancyDiffusionSegmenter) -> Image:
    """Return a small image with large and small structure, always the same for a model."""
    sides = tuple(4 * model.multiple for _ in range(model.dims))
    generator = Generator().manual_seed(0)
    channels = model.image_encoder.channels
    coarse = torch.randn(1, channels, *(n // 4 for n in sides), generator=generator)
    fine = torch.randn(1, channels, *sides, generator=generator)
    return F.interpolate(coarse, size=sides) + 0.1 * fine


def _features(encoding: Encoding) -> tuple[Tensor, ...]:
    return (encoding.stem, encoding.embedding, *encoding.pyramid)


def _relative(ours: Tensor, theirs: Tensor) -> float:
    scale = ours.abs().max().clamp_min(1e-6)
    return float(((ours - theirs).abs() / scale).nan_to_num(float("inf")).max())
