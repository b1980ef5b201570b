"""Dice of coarse and of sampled masks on fixed examples, during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ddmseg.datasets.source import padded
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Network
from ddmseg.models.settings import Settings
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.randomness import seeded


@dataclass(frozen=True)
class ValidationScores:
    """Means over the examples; Dice over the foreground classes present.

    ``sampled_dice`` is of one sampled mask (the coarse mask for a plain network), and
    ``all_empty`` says that none of these masks holds any foreground.
    """

    coarse_dice: float
    sampled_dice: float
    all_empty: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self)


@torch.no_grad()
def validate(
    model: Network,
    examples: Sequence[tuple[Tensor, Tensor]],
    settings: Settings,
    device: torch.device,
) -> ValidationScores:
    """Score a model on examples of unequal shapes, one at a time.

    Args:
        examples: images and class indices, at least one.
        settings: of the run; its schedule and sampling are used.
    """
    sampling = settings.sampling
    guidance = Guidance(sampling.guidance, sampling.guidance_scale, settings.loss.temperature)
    schedule = make_schedule(settings.loss.schedule, settings.loss.schedule_shift)
    coarse, sampled, empty = [], [], []
    for number, example in enumerate(examples):
        image, truth = padded(*example, model.multiple)
        truth = truth.to(device)
        image = image[None].to(device)
        if not isinstance(model, DiscrepancyDiffusionSegmenter) or model.denoiser is None:
            answer = model(image).argmax(1)[0]
            coarse.append(mean_dice(answer, truth, model.classes))
        else:
            encoding = model.encode(image)
            answer = encoding.coarse_logits.argmax(1)[0]
            coarse.append(mean_dice(answer, truth, model.classes))
            draw = MaskSampler(model, encoding, schedule, guidance)
            p = draw(sampler=sampling.sampler, steps=sampling.steps, generator=seeded(0, number))
            answer = p.argmax(1)[0]
        sampled.append(mean_dice(answer, truth, model.classes))
        empty.append(not bool((answer > 0).any()))
    return ValidationScores(sum(coarse) / len(coarse), sum(sampled) / len(sampled), all(empty))


def mean_dice(answer: Tensor, truth: Tensor, classes: int) -> float:
    """Return the Dice over the foreground classes of the truth; 1 when it has none."""
    both = torch.bincount(truth[answer == truth].flatten(), minlength=classes)[1:]
    sizes = torch.bincount(truth.flatten(), minlength=classes)[1:]
    found = torch.bincount(answer.flatten(), minlength=classes)[1:]
    present = sizes > 0
    if not present.any():
        return 1.0
    return float((2 * both[present] / (sizes + found)[present]).mean())
