"""Many steps to one or two: consistency and progressive distillation of the denoiser.

Both encoders stay as the teacher has them. So one encoding serves teacher and student, the
discrepancy keeps its meaning, and a training step costs no backward pass through f^I.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from ddmseg.maths.distillation import (
    consistency_target,
    divergence,
    first_share,
    two_step_target,
    walk_times,
)
from ddmseg.maths.losses import segmentation_loss
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.settings import Settings
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training.distillation.trajectory import EncodedDenoiser, Maps, Position
from ddmseg.training.objective import Losses, Stage
from ddmseg.training.trainer import freeze_encoders


class StepObjective(ABC):
    """Teaches a denoiser what to say at one position of its teacher's walk.

    Args:
        student: the model in training; its encoders are frozen here.
        teacher: network with the same encoders, never changed.
    """

    def __init__(
        self,
        student: DiscrepancyDiffusionSegmenter,
        teacher: DiscrepancyDiffusionSegmenter,
        settings: Settings,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.settings = settings
        self.schedule = make_schedule(settings.loss.schedule, settings.loss.schedule_shift)
        freeze_encoders(student)

    def __call__(
        self, image: Tensor, labels: Tensor, generator: Generator, *, stage: Stage = "joint"
    ) -> Losses:
        """Return the losses of one batch (``b c *grid`` and ``b *grid``).

        Args:
            labels: class indices.
            generator: on the CPU; fixes the walk and the place on it.
            stage: of no account: the denoiser alone learns.
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
        teacher: network with the same encoders.

    Source: Song et al. 2023, arXiv 2303.01469, algorithm 2.
    """

    def __init__(
        self,
        student: DiscrepancyDiffusionSegmenter,
        average: DiscrepancyDiffusionSegmenter,
        teacher: DiscrepancyDiffusionSegmenter,
        settings: Settings,
    ) -> None:
        super().__init__(student, teacher, settings)
        self.average = average
        self.times = walk_times(settings.distillation.teacher_steps)

    def lesson(self, guide: EncodedDenoiser, generator: Generator) -> tuple[Position, Maps]:
        """Return a time of the walk and the average's answer one step of the teacher later."""
        n = self._drawn(len(self.times) - 1, generator)
        here = guide.walk(guide.begin(generator), self.times[1 : n + 1])
        arrived = guide.probabilities(here)
        next_to_it = guide.step(here, arrived, self.times[n + 1])
        target = consistency_target(
            lambda: self._average_says(guide.encoding, next_to_it), arrived, next_to_it.t
        )
        return here, target

    def _average_says(self, encoding: Encoding, there: Position) -> Maps:
        return EncodedDenoiser(self.average, encoding, self.schedule).probabilities(there)


class ProgressiveObjective(StepObjective):
    """One step of the student lands where two of its teacher do.

    Args:
        teacher: network with the same encoders.
        settings: of the run; ``sampling.steps`` are the student's, half the teacher's.

    Source: Salimans and Ho 2022, arXiv 2202.00512, algorithm 2.
    """

    def __init__(
        self,
        student: DiscrepancyDiffusionSegmenter,
        teacher: DiscrepancyDiffusionSegmenter,
        settings: Settings,
    ) -> None:
        super().__init__(student, teacher, settings)
        self.times = walk_times(2 * settings.sampling.steps)

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
