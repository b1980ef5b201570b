"""A light student: another, smaller network taught by its teacher's probabilities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.maths.distillation import divergence, softened
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Network
from ddmseg.models.settings import DistillationSettings, Settings
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training.objective import Losses, Objective, Stage
from ddmseg.types import ClassMap


class SoftLabels:
    """What a teacher makes of a batch, as ``ddmseg segment`` joins it.

    Args:
        model: the teacher, never changed.
        own: the settings it was trained with; its sampler and share of the coarse head.
        asked: how many samples of how many steps, and how soft.
    """

    def __init__(
        self, model: DiscrepancyDiffusionSegmenter, own: Settings, asked: DistillationSettings
    ) -> None:
        self.model = model
        self.own = own
        self.asked = asked
        self.schedule = make_schedule(own.loss.schedule, own.loss.schedule_shift)

    @torch.no_grad()
    def __call__(self, image: Tensor, generator: Generator) -> ClassMap:
        """Return softened class probabilities (``b k *grid``) of normalised images.

        In single precision, whatever the student is trained in.
        """
        with torch.autocast(image.device.type, enabled=False):
            return self._softened(image, generator)

    def _softened(self, image: Tensor, generator: Generator) -> ClassMap:
        encoding = self.model.encode(image)
        answer = torch.softmax(encoding.coarse_logits.float(), dim=1)
        if self.asked.teacher_samples:
            sampling, sigma_D = self.own.sampling, self.own.loss.temperature
            guidance = Guidance(sampling.guidance, sampling.guidance_scale, sigma_D)
            draw = MaskSampler(self.model, encoding, self.schedule, guidance)
            drawn = [
                draw(sampler=sampling.sampler, steps=self.asked.teacher_steps, generator=generator)
                for _ in range(self.asked.teacher_samples)
            ]
            answer = torch.stack(drawn).mean(dim=0).lerp(answer, sampling.coarse_share)
        return softened(answer, temperature=self.asked.temperature)


class SoftLabelObjective(Objective):
    """The joint loss, where segmentations are held against the teacher's as well as the truth.

    Coarse head and denoiser learn from both; the discrepancy, which says where a mask is
    wrong, from the truth alone.

    Args:
        model: the student in training.
        teacher: its soft labels.
    """

    def __init__(self, model: Network, settings: Settings, teacher: SoftLabels) -> None:
        super().__init__(model, settings.loss)
        self.teacher = teacher
        self.asked = settings.distillation
        self._taught: ClassMap | None = None

    def __call__(
        self, image: Tensor, labels: Tensor, generator: Generator, *, stage: Stage = "joint"
    ) -> Losses:
        """Return the losses of one batch; arguments as of :class:`Objective`."""
        self._taught = self.teacher(image, generator)
        return super().__call__(image, labels, generator, stage=stage)

    def _segmentation(self, logits: Tensor, labels: Tensor) -> Tensor:
        assert self._taught is not None  # every batch begins with the teacher's answer
        share = self.asked.truth_share
        taught = divergence(logits, self._taught, temperature=self.asked.temperature)
        if not share:
            return taught
        return share * super()._segmentation(logits, labels) + (1 - share) * taught

    def _coarser(self, said: Tensor, fractions: Tensor) -> Tensor:
        assert self._taught is not None
        share = self.asked.truth_share
        pool = F.avg_pool3d if self._ddm.dims == 3 else F.avg_pool2d
        pooled = self._ddm.output_head.choices_of(pool(self._taught, self._ddm.mask_stride))
        taught = divergence(
            self._ddm.output_head.choices(said), pooled, temperature=self.asked.temperature
        )
        return share * super()._coarser(said, fractions) + (1 - share) * taught
