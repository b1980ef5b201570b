"""Dice of coarse and of sampled masks on fixed examples, during training.

What chooses the weights is a proper score of samples Y, Y' of a model against the truth y,

    1 - E d(Y, y) + 1/2 E d(Y, Y'),   d = 1 - Dice

which asks for samples that differ as much as they err: by the Dice of a single sample the best
would be those that do not differ. Where they do not, it is their Dice. It is proper because Dice
is a positive definite kernel: the size of an intersection is one, so is 1 / (m + n), and
so is their product.

Source: Gneiting and Raftery 2007, section 5.1 (kernel scores).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddmseg.datasets.source import padded
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Network
from ddmseg.models.settings import Settings
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.randomness import seeded

DRAWN = 2
"""Samples of each example: the fewest that can differ."""


@dataclass(frozen=True)
class ValidationScores:
    """Means over the examples; Dice over the foreground classes present.

    ``sampled_dice`` is of one sampled mask (the coarse mask for a plain network),
    ``sampled_score`` the proper score of two of them, see the module, and ``all_empty`` says that
    none of these masks holds any foreground.
    """

    coarse_dice: float
    sampled_dice: float
    sampled_score: float
    all_empty: bool


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
    found = []
    for number, example in enumerate(examples):
        image, truth = padded(*example, model.multiple)
        truth = truth.to(device)
        first, draw = _answers(model, image[None].to(device), settings)
        masks = [first] if draw is None else [draw(number, k) for k in range(DRAWN)]
        coarse, *dice = (mean_dice(mask, truth, model.classes) for mask in (first, *masks))
        alike = _among(_class_dice(masks[0], masks[-1], model.classes), truth, model.classes)
        score = sum(dice) / len(dice) + (1 - alike) / 2
        found.append((coarse, dice[0], score, not bool((masks[0] > 0).any())))
    *scores, empty = zip(*found, strict=True)
    means = [sum(of) / len(found) for of in scores]
    return ValidationScores(means[0], means[1], means[2], all(empty))


def _answers(
    model: Network, image: Tensor, settings: Settings
) -> tuple[Tensor, Callable[[int, int], Tensor] | None]:
    """Return the coarse mask and, of a network with a denoiser, what draws masks.

    It gets the numbers of the example and of the sample.
    """
    if not isinstance(model, DiscrepancyDiffusionSegmenter) or model.denoiser is None:
        return model(image).argmax(1)[0], None
    sampling, encoding = settings.sampling, model.encode(image)
    guidance = Guidance(sampling.guidance, sampling.guidance_scale, settings.loss.temperature)
    schedule = make_schedule(settings.loss.schedule, settings.loss.schedule_shift)
    sampler = MaskSampler(model, encoding, schedule, guidance)

    def draw(example: int, number: int) -> Tensor:
        generator = seeded(number, example)
        p = sampler(sampler=sampling.sampler, steps=sampling.steps, generator=generator)
        return p.argmax(1)[0]

    return encoding.coarse_logits.argmax(1)[0], draw


def mean_dice(answer: Tensor, truth: Tensor, classes: int) -> float:
    """Return the Dice over the foreground classes of the truth; 1 when it has none."""
    return _among(_class_dice(answer, truth, classes), truth, classes)


def _class_dice(a: Tensor, b: Tensor, classes: int) -> Tensor:
    """Return the Dice of each foreground class, 1 where neither mask has it."""
    both = torch.bincount(b[a == b].flatten(), minlength=classes)[1:]
    sizes = torch.bincount(torch.cat([a.flatten(), b.flatten()]), minlength=classes)[1:]
    return torch.where(sizes > 0, 2 * both / sizes.clamp_min(1), torch.ones(()).to(sizes.device))


def _among(dice: Tensor, truth: Tensor, classes: int) -> float:
    """Return the mean over the foreground classes of the truth; 1 when it has none."""
    present = torch.bincount(truth.flatten(), minlength=classes)[1:] > 0
    return float(dice[present].mean()) if present.any() else 1.0
