"""Many steps to one or two: consistency and progressive distillation of the denoiser.

Both encoders stay as the teacher has them. So one encoding serves teacher and student, the
discrepancy keeps its meaning, and a training step costs no backward pass through f^I. The denoiser
is light, so students are taught at the very masks that a sampler meets on its way down rather
than at masks noised for the purpose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ddmseg.maths.distillation import (
    consistency_target,
    divergence,
    first_share,
    ode_step,
    two_step_target,
    walk_times,
)
from ddmseg.maths.losses import segmentation_loss
from ddmseg.maths.schedule import Schedule, make_schedule
from ddmseg.models.settings import Settings
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training.objective import Losses, Stage
from ddmseg.training.trainer import freeze_encoders
from ddmseg.types import Mask

Maps = tuple[Tensor, ...]
"""One class map where the mask lives; a second on the image grid where that is finer.

A light denoiser says bits: its first map holds the two values of each, ``b 2 m *mask grid``.
"""


@dataclass(frozen=True)
class Position:
    """Where a walk stands: noisy mask, time, and the encoded clean mask as said before."""

    x_t: Mask
    t: Tensor
    estimate: Mask


class EncodedDenoiser:
    """A denoiser before a batch that its model's encoder has encoded."""

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
        for s in times:
            start = self.step(start, self.probabilities(start), s)
        return start


class StepObjective(ABC):
    """Teaches a denoiser what to say at one position of its teacher's walk.

    Args:
        student: the model in training; its encoders are frozen here.
        teacher: network with the same encoders, never changed.
        steps: of the walk.
    """

    def __init__(
        self,
        student: DiscrepancyDiffusionSegmenter,
        teacher: DiscrepancyDiffusionSegmenter,
        settings: Settings,
        *,
        steps: int,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.settings = settings
        self.times = walk_times(steps)
        self.schedule = make_schedule(settings.loss.schedule, settings.loss.schedule_shift)
        freeze_encoders(student)

    def __call__(
        self, image: Tensor, labels: Tensor, generator: Generator, *, stage: Stage = "joint"
    ) -> Losses:
        """Return the losses of one batch; arguments as of :class:`Objective`.

        The generator fixes the walk and the place on it; the denoiser alone learns at any stage.
        """
        with torch.no_grad():
            encoding = self.teacher.encode(image)
            guide = EncodedDenoiser(self.teacher, encoding, self.schedule)
            here, target = self.lesson(guide, generator)
        said = EncodedDenoiser(self.student, encoding, self.schedule).logits(here)
        taught = torch.stack([divergence(*pair) for pair in zip(said, target, strict=True)]).sum()
        share = self.settings.distillation.truth_share
        total = (1 - share) * taught
        if share:
            truth = segmentation_loss(said[-1], labels, dice_weight=self.settings.loss.dice_weight)
            total = total + share * truth
        zero = torch.zeros_like(taught)
        return Losses(total, zero, taught.detach(), zero)

    @abstractmethod
    def lesson(self, guide: EncodedDenoiser, generator: Generator) -> tuple[Position, Maps]:
        """Return a position and the probabilities that the student must name there."""

    def _drawn(self, count: int, generator: Generator) -> int:
        return int(torch.randint(count, (), generator=generator))


class ConsistencyObjective(StepObjective):
    """The student says at each time of the walk what it says at the next; at the last, the end.

    Args:
        average: of the student's weights over the steps; it is what is asked at the next time.

    Source: Song et al. 2023, arXiv 2303.01469, algorithm 2.
    """

    def __init__(
        self,
        student: DiscrepancyDiffusionSegmenter,
        average: DiscrepancyDiffusionSegmenter,
        teacher: DiscrepancyDiffusionSegmenter,
        settings: Settings,
    ) -> None:
        super().__init__(student, teacher, settings, steps=settings.distillation.teacher_steps)
        self.average = average

    def lesson(self, guide: EncodedDenoiser, generator: Generator) -> tuple[Position, Maps]:
        """Return a time of the walk and the average's answer one step of the teacher later."""
        n = self._drawn(len(self.times) - 1, generator)
        here = guide.walk(guide.begin(generator), self.times[1 : n + 1])
        arrived = guide.probabilities(here)
        next_to_it = guide.step(here, arrived, self.times[n + 1])

        def average_says() -> Maps:
            asked = EncodedDenoiser(self.average, guide.encoding, self.schedule)
            return asked.probabilities(next_to_it)

        return here, consistency_target(average_says, arrived, next_to_it.t)


class ProgressiveObjective(StepObjective):
    """One step of the student lands where two of its teacher do.

    Args:
        settings: of the run; ``sampling.steps`` are the student's, half the teacher's.

    Source: Salimans and Ho 2022, arXiv 2202.00512, algorithm 2.
    """

    def __init__(
        self,
        student: DiscrepancyDiffusionSegmenter,
        teacher: DiscrepancyDiffusionSegmenter,
        settings: Settings,
    ) -> None:
        super().__init__(student, teacher, settings, steps=2 * settings.sampling.steps)

    def lesson(self, guide: EncodedDenoiser, generator: Generator) -> tuple[Position, Maps]:
        """Return a time of the student's walk and what one step from there must take."""
        n = 2 * self._drawn(self.settings.sampling.steps, generator)
        here = guide.walk(guide.begin(generator), self.times[1 : n + 1])
        t, m, s = self.times[n : n + 3]
        first = guide.probabilities(here)
        second = guide.probabilities(guide.step(here, first, m))
        share = first_share(t, m, s, schedule=self.schedule)
        target = tuple(
            two_step_target(*pair, share=share) for pair in zip(first, second, strict=True)
        )
        return here, target
