"""Label maps as vectors that can be noised: one-hot or analog bits in {-b, +b}.

Up to 16 classes each class has a channel; above that the class index is written
in binary, so that 33 classes need 6 channels.

Source: Chen, Zhang and Hinton 2023, arXiv 2208.04202 (analog bits and scale b).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ddmseg.errors import SettingsError

ONE_HOT_LIMIT = 16
SMALLEST_SHARE = 1e-3
"""Of a bit's two values, in logits made of an expected mask: keeps them correctable."""


@dataclass(frozen=True)
class MaskEncoding:
    """How ``classes`` labels become ``channels`` numbers of size ``scale``.

    Args:
        classes: number of classes, background included, at least 2.
        scale: b, the size of a clean channel, above 0.
    """

    classes: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise SettingsError(f"classes: got {self.classes}; at least 2 are needed")
        if not self.scale > 0:
            raise SettingsError(f"input_scale: got {self.scale}; it must be above 0")

    @property
    def channels(self) -> int:
        """Channels of an encoded mask."""
        if self.classes <= ONE_HOT_LIMIT:
            return self.classes
        return math.ceil(math.log2(self.classes))

    @cached_property
    def codebook(self) -> Tensor:
        """The code of each class: ``classes`` rows of -b and +b."""
        if self.classes <= ONE_HOT_LIMIT:
            bits = torch.eye(self.classes)
        else:
            powers = torch.arange(self.channels)
            bits = ((torch.arange(self.classes)[:, None] >> powers) & 1).float()
        return self.scale * (2 * bits - 1)

    def logits_of(self, mask: Tensor) -> Tensor:
        """Return, for an expected mask (``b m *grid``), logits that a channel is +b."""
        shares = (mask.float() / self.scale + 1) / 2  # in half precision 1 - eps would be 1
        return torch.logit(shares, eps=SMALLEST_SHARE)

    def of_logits(self, logits: Tensor) -> Tensor:
        """Return the expected mask that logits of the channels stand for."""
        return self.scale * torch.tanh(logits / 2)

    def class_logits(self, logits: Tensor) -> Tensor:
        """Return logits of the classes (``b k *grid``) of those that a channel is +b.

        The probability of a class is the product of those of its bits, over the codes
        that stand for a class.
        """
        bits = self.codebook.to(logits) / (2 * self.scale)
        return F.linear(logits.movedim(1, -1), bits).movedim(-1, 1)

    def of_labels(self, labels: Tensor) -> Tensor:
        """Encode class indices (``b *grid``) as a mask (``b m *grid``)."""
        return F.embedding(labels, self.codebook.to(labels.device)).movedim(-1, 1)

    def of_probabilities(self, probabilities: Tensor) -> Tensor:
        """Encode class probabilities (``b k *grid``) as the expected mask.

        The expectation of the code under the probabilities is what a clean-mask
        predictor must return (Song et al. 2021, appendix C).
        """
        codebook = self.codebook.to(probabilities)
        return F.linear(probabilities.movedim(1, -1), codebook.T).movedim(-1, 1)
