"""The answers of two levels in one: sums of weighted patches over level 1's, on the fine grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddmseg.imaging.grid import IndexMap, three
from ddmseg.imaging.preprocess import Prepared
from ddmseg.imaging.resample import resample
from ddmseg.maths.discrepancy import right_probability
from ddmseg.networks.tiling import bell
from ddmseg.pipeline.ensemble import Answer
from ddmseg.pipeline.patch_choice import Box
from ddmseg.pipeline.quality.assessment import Assessment

WEIGHT_OF_FIRST = 0.02
"""Of level 1's answer in the blend, against 1 in the middle of a patch."""


@dataclass(frozen=True)
class Blend:
    """Sums of weighted answers on the fine grid, level 1's among them.

    Attributes:
        p: class probabilities times weight (``k i j k``).
        first: labels of level 1.
        first_D: discrepancy of these.
        change: of the discrepancy, times weight.
        weight: the weights.
        own: of the classes, those that level 2 decides.
        inside: where level 1 sees structures of these.
        doubt: probability that level 1's label is wrong there.
    """

    p: Tensor
    first: Tensor
    first_D: Tensor
    change: Tensor
    weight: Tensor
    own: Tensor
    inside: Tensor
    doubt: Tensor

    @classmethod
    def of_first(
        cls,
        prepared: Prepared,
        to_first: IndexMap,
        answer: Answer,
        assessment: Assessment,
        *,
        temperature: float,
        own: Tensor,
    ) -> Blend:
        """Begin with level 1's answer, interpolated; level 2 decides the classes ``own``."""
        shape = three(prepared.image.shape)
        coarse = answer.probabilities[0].float().cpu()
        p = torch.zeros((len(coarse), *shape))
        of_own = torch.zeros(shape)
        for number, values in enumerate(coarse):
            fill = float(number == 0)
            p[number] = torch.from_numpy(resample(values.numpy(), to_first, shape, fill=fill))
            if number and own[number]:
                of_own += p[number]
        first_D = assessment.discrepancy[0, 0].float().cpu()
        D = torch.from_numpy(resample(first_D.numpy(), to_first, shape))
        inside = of_own > 0.5
        doubt = (1 - right_probability(D, temperature=temperature)) * inside
        labels = p.argmax(0).to(torch.uint8)
        weight = torch.full(shape, WEIGHT_OF_FIRST)
        p.mul_(WEIGHT_OF_FIRST)
        return cls(p, labels, D, torch.zeros(shape), weight, own, inside, doubt)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the fine grid."""
        return tuple(self.weight.shape)

    def joined(self, box: Box, p: Tensor) -> Tensor:
        """Return level 2's probabilities of its own structures beside level 1's of the others.

        Where level 2 does not decide all, they add up to one no more: the sums would else not
        keep what level 1 said. :meth:`result` sees to it.
        """
        others = ~self.own
        if others.any():
            # what was added of the others was level 1's: the sum over the weight is it still
            p[others] = self.p[(slice(None), *box)][others] / self.weight[box]
        return p

    def add(self, box: Box, p: Tensor, change: Tensor) -> None:
        """Add a patch: probabilities (``k i j k``) and change of the discrepancy (``i j k``)."""
        share = bell(tuple(change.shape), change)
        self.p[(slice(None), *box)].addcmul_(p, share[None])
        self.change[box].addcmul_(change, share)
        self.weight[box].add_(share)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return probabilities and discrepancy; the sums are used up."""
        p = self.p.div_(self.weight if self.own.all() else self.p.sum(0))
        return p, self.change.div_(self.weight).add_(self.first_D).clamp_min_(0.0)
