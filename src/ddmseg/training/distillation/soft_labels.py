"""A light student: another, smaller network taught by its teacher's probabilities.

Source: Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Network
from ddmseg.models.settings import DistillationSettings, Settings
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training.objective import Losses, Objective, Stage
from ddmseg.types import ClassMap

SMALLEST_PROBABILITY = 1e-8
"""Below it a probability is softened as if it were this."""


def softened(probabilities: ClassMap, *, temperature: float) -> ClassMap:
    """Return probabilities raised to 1 / temperature and normalised; at 1 they stay.

    For those of a softmax it is the softmax of its logits divided by the temperature.

    Source: Hinton et al. 2015, eq. 1.
    """
    if temperature == 1:
        return probabilities
    return torch.softmax(probabilities.clamp_min(SMALLEST_PROBABILITY).log() / temperature, dim=1)


def divergence(logits: ClassMap, target: ClassMap, *, temperature: float = 1.0) -> Tensor:
    """Return the mean Kullback-Leibler divergence of a student from its teacher, at least 0.

    Args:
        temperature: by which both are softened; the loss is multiplied by its square, so
            that the gradient keeps its size.

    Source: Hinton et al. 2015, section 2.1.
    """
    said = F.log_softmax(logits.float() / temperature, dim=1)
    each = F.kl_div(said, target.float(), reduction="none").sum(dim=1)
    return temperature**2 * each.mean()


@torch.no_grad()
def soft_labels(
    teacher: DiscrepancyDiffusionSegmenter,
    own: Settings,
    asked: DistillationSettings,
    image: Tensor,
    generator: Generator,
) -> ClassMap:
    """Return a teacher's softened probabilities (``b k *grid``), as ``ddmseg segment`` joins them.

    In single precision, whatever the student is trained in.

    Args:
        own: the settings that the teacher was trained with.
        image: normalised (``b c *grid``).
    """
    with torch.autocast(image.device.type, enabled=False):
        encoding = teacher.encode(image)
        answer = torch.softmax(encoding.coarse_logits.float(), dim=1)
        if asked.teacher_samples:
            sampling, loss = own.sampling, own.loss
            guidance = Guidance(sampling.guidance, sampling.guidance_scale, loss.temperature)
            schedule = make_schedule(loss.schedule, loss.schedule_shift)
            draw = MaskSampler(teacher, encoding, schedule, guidance)
            drawn = [
                draw(sampler=sampling.sampler, steps=asked.teacher_steps, generator=generator)
                for _ in range(asked.teacher_samples)
            ]
            answer = torch.stack(drawn).mean(dim=0).lerp(answer, sampling.coarse_share)
        return softened(answer, temperature=asked.temperature)


class SoftLabelObjective(Objective):
    """The joint loss, where segmentations are held against the teacher's as well as the truth.

    Coarse head and denoiser learn from both; the discrepancy, which says where a mask is
    wrong, from the truth alone.

    Args:
        model: the student in training.
        teacher: never changed.
        own: the settings that the teacher was trained with.
    """

    def __init__(
        self,
        model: Network,
        settings: Settings,
        teacher: DiscrepancyDiffusionSegmenter,
        own: Settings,
    ) -> None:
        super().__init__(model, settings.loss)
        self.teacher = teacher
        self.own = own
        self.asked = settings.distillation
        self._taught: ClassMap | None = None

    def __call__(
        self, image: Tensor, labels: Tensor, generator: Generator, *, stage: Stage = "joint"
    ) -> Losses:
        """Return the losses of one batch; arguments as of :class:`Objective`."""
        self._taught = soft_labels(self.teacher, self.own, self.asked, image, generator)
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
        head = self._ddm.output_head
        pooled = head.choices_of(pool(self._taught, self._ddm.mask_stride))
        taught = divergence(head.choices(said), pooled, temperature=self.asked.temperature)
        return share * super()._coarser(said, fractions) + (1 - share) * taught
