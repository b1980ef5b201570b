"""The walk of a sampler through an encoded batch, position by position.

The denoiser is light and the encoding is at hand, so students are taught at the very masks
that a sampler meets on its way down rather than at masks noised for the purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ddmseg.maths.distillation import ode_step
from ddmseg.maths.schedule import Schedule
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.types import Mask

Maps = tuple[Tensor, ...]
"""One class map where the mask lives; a second on the image grid where that is finer.

A light denoiser says bits: its first map holds the two values of each, ``b 2 m *mask grid``.
"""


@dataclass(frozen=True)
class Position:
    """Where a walk stands: all that a denoiser is asked with.

    Attributes:
        x_t: noisy mask.
        t: time, 0-d.
        estimate: the clean mask as said at the time before, encoded.
    """

    x_t: Mask
    t: Tensor
    estimate: Mask


class EncodedDenoiser:
    """A denoiser before an encoded batch.

    Args:
        model: whose denoiser it is.
        encoding: of the batch, by the encoder that the model has.
        schedule: noise levels over time.
    """

    def __init__(
        self, model: DiscrepancyDiffusionSegmenter, encoding: Encoding, schedule: Schedule
    ) -> None:
        self.model = model
        self.encoding = encoding
        self.schedule = schedule
        self.conditions = model.conditions(encoding)

    def begin(self, generator: Generator) -> Position:
        """Return the start of a walk: noise alone at time 1."""
        model, coarse = self.model, self.encoding.coarse_logits
        grid = [n // model.mask_stride for n in coarse.shape[2:]]
        x = torch.randn(len(coarse), model.mask_encoding.channels, *grid, generator=generator)
        x = x.to(coarse.device)
        first = model.first_estimate(self.conditions, x)
        return Position(x, torch.ones((), dtype=torch.float64), first)

    def logits(self, here: Position) -> Maps:
        """Return the logits of the clean mask as said at a position."""
        log_snr = self.schedule.log_snr(here.t.to(here.x_t)).expand(len(here.x_t))
        logits, hidden = self.model.denoise(
            here.x_t, log_snr, self.conditions, self.encoding, here.estimate
        )
        logits = self.model.output_head.choices(logits)
        if self.model.mask_stride == 1:
            return (logits,)
        return logits, self.model.decode(hidden, self.conditions)

    def probabilities(self, here: Position) -> Maps:
        """Return the class probabilities as said at a position."""
        return tuple(torch.softmax(logits.float(), dim=1) for logits in self.logits(here))

    def step(self, here: Position, said: Maps, s: Tensor) -> Position:
        """Go on to the time s with what was said where the mask lives."""
        clean = self.model.output_head.mask_of_choices(said[0])
        x_s = ode_step(here.x_t, clean, here.t, s, schedule=self.schedule)
        return Position(x_s, s, clean)

    def walk(self, start: Position, times: Tensor) -> Position:
        """Go on over all of ``times``, decreasing."""
        here = start
        for s in times:
            here = self.step(here, self.probabilities(here), s)
        return here
