"""What the output of a denoising step means: classes, or the bits of the mask's code.

A step says logits on the mask's grid. Everything that must be made of them is here, so that
sampling, training and distillation ask no denoiser what kind it is. *Choices* are what a
step decides between, along dimension 1: the classes, or the two values of each bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ddmseg.maths.encoding import MaskEncoding
from ddmseg.maths.losses import ClassFractions, code_cross_entropy, soft_cross_entropy
from ddmseg.networks.blocks import class_probabilities
from ddmseg.types import ClassMap, Mask


class OutputHead(ABC):
    """Reads what a step says."""

    def __init__(self, encoding: MaskEncoding) -> None:
        self.encoding = encoding

    @abstractmethod
    def estimate(self, said: Tensor) -> Mask:
        """Return the clean mask, encoded."""

    @abstractmethod
    def class_logits(self, said: Tensor) -> ClassMap:
        """Return logits of the classes."""

    @abstractmethod
    def cross_entropy(self, said: Tensor, fractions: ClassFractions) -> Tensor:
        """Return the loss against the share of each class in each mask voxel, 0-d."""

    @abstractmethod
    def choices(self, said: Tensor) -> Tensor:
        """Return logits of the choices."""

    @abstractmethod
    def choices_of(self, probabilities: ClassMap) -> Tensor:
        """Return probabilities of the choices from those of the classes."""

    @abstractmethod
    def mask_of_choices(self, probabilities: Tensor) -> Mask:
        """Return the expected mask, encoded, from probabilities of the choices."""


class ClassOutput(OutputHead):
    """Logits of the classes (``b k *mask grid``)."""

    def estimate(self, said: Tensor) -> Mask:
        """Return the expectation of the code under the class probabilities."""
        return self.encoding.of_probabilities(class_probabilities(said))

    def class_logits(self, said: Tensor) -> ClassMap:
        """Return what was said."""
        return said

    def cross_entropy(self, said: Tensor, fractions: ClassFractions) -> Tensor:
        """Return the mean cross-entropy of the classes."""
        return soft_cross_entropy(said, fractions)

    def choices(self, said: Tensor) -> Tensor:
        """Return what was said."""
        return said

    def choices_of(self, probabilities: ClassMap) -> Tensor:
        """Return the probabilities as they are."""
        return probabilities

    def mask_of_choices(self, probabilities: Tensor) -> Mask:
        """Return the expectation of the code."""
        return self.encoding.of_probabilities(probabilities)


class CodeOutput(OutputHead):
    """Logits of the code's bits (``b m *mask grid``), each decided by itself."""

    def estimate(self, said: Tensor) -> Mask:
        """Return the expectation of each bit."""
        return self.encoding.of_logits(said)

    def class_logits(self, said: Tensor) -> ClassMap:
        """Return logits of the codes that stand for a class."""
        return self.encoding.class_logits(said)

    def cross_entropy(self, said: Tensor, fractions: ClassFractions) -> Tensor:
        """Return the cross-entropy of the bits, summed over them, mean over the voxels."""
        code = self.encoding.of_probabilities(fractions) / self.encoding.scale
        return code_cross_entropy(said, code)

    def choices(self, said: Tensor) -> Tensor:
        """Return logits of both values of each bit (``b 2 m *mask grid``)."""
        return torch.stack([said, torch.zeros_like(said)], dim=1)

    def choices_of(self, probabilities: ClassMap) -> Tensor:
        """Return the probabilities of both values of each bit."""
        code = self.encoding.of_probabilities(probabilities) / self.encoding.scale
        return torch.stack([1 + code, 1 - code], dim=1) / 2

    def mask_of_choices(self, probabilities: Tensor) -> Mask:
        """Return the expectation of each bit."""
        return self.encoding.scale * (2 * probabilities[:, 0] - 1)
