"""What the output of a denoising step means: classes, or the bits of the mask's code.

A step says logits on the mask's grid. Everything that must be made of them is here, so that
sampling, training and distillation ask no denoiser what kind it is. *Choices* are what a
step decides between, along dimension 1: the classes, or the two values of each bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddmseg.maths.encoding import MaskEncoding
from ddmseg.maths.losses import ClassFractions, code_cross_entropy, soft_cross_entropy
from ddmseg.networks.blocks import class_probabilities
from ddmseg.types import ClassMap, Mask


@dataclass(frozen=True)
class OutputHead:
    """Reads what a step says.

    Attributes:
        of_code: whether that is logits of the code's bits (``b m *mask grid``), each decided by
            itself, rather than of the classes (``b k *mask grid``).
    """

    encoding: MaskEncoding
    of_code: bool

    def estimate(self, said: Tensor) -> Mask:
        """Return the clean mask, encoded: the expectation of the code."""
        if self.of_code:
            return self.encoding.of_logits(said)
        return self.encoding.of_probabilities(class_probabilities(said))

    def class_logits(self, said: Tensor) -> ClassMap:
        """Return logits of the classes, or of the codes that stand for one."""
        return self.encoding.class_logits(said) if self.of_code else said

    def cross_entropy(self, said: Tensor, fractions: ClassFractions) -> Tensor:
        """Return the loss against the share of each class in each mask voxel, 0-d."""
        if self.of_code:
            return code_cross_entropy(said, self._bits(fractions))
        return soft_cross_entropy(said, fractions)

    def choices(self, said: Tensor) -> Tensor:
        """Return logits of the choices."""
        return torch.stack([said, torch.zeros_like(said)], dim=1) if self.of_code else said

    def choices_of(self, probabilities: ClassMap) -> Tensor:
        """Return probabilities of the choices from those of the classes."""
        if not self.of_code:
            return probabilities
        code = self._bits(probabilities)
        return torch.stack([1 + code, 1 - code], dim=1) / 2

    def mask_of_choices(self, probabilities: Tensor) -> Mask:
        """Return the expected mask, encoded, from probabilities of the choices."""
        if self.of_code:
            return self.encoding.scale * (2 * probabilities[:, 0] - 1)
        return self.encoding.of_probabilities(probabilities)

    def _bits(self, probabilities: ClassMap) -> Tensor:
        return self.encoding.of_probabilities(probabilities) / self.encoding.scale
