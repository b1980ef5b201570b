"""Many samples, one answer and its doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ddmseg.maths.discrepancy import ensemble_weights
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.sampling import MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.types import ClassMap


@dataclass(frozen=True)
class Answer:
    """Class probabilities (``1 k *grid``) and what was spent on them.

    Attributes:
        probabilities: of the classes.
        weights: of each sample; empty when only the coarse head answered.
        sample_volumes: expected voxels of each class in each sample (``n k``).
        steps: of each sample.
        sample_labels: class indices of each sample (``n *grid``).
        step_labels: class indices of the first sample after each of its steps, for who
            wants to watch (``t *mask grid``); None where it was not asked for.
    """

    probabilities: ClassMap
    weights: Tensor
    sample_volumes: Tensor
    steps: int
    sample_labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.uint8))
    step_labels: Tensor | None = None

    @property
    def samples(self) -> int:
        """Samples drawn."""
        return len(self.weights)


def coarse_answer(encoding: Encoding) -> Answer:
    """Return the coarse head's answer: no sample, no step."""
    p = torch.softmax(encoding.coarse_logits, dim=1)
    return Answer(p, torch.zeros(0), torch.zeros(0, p.shape[1]), 0)


def sampled_answer(
    model: DiscrepancyDiffusionSegmenter,
    sampler: MaskSampler,
    *,
    algorithm: str,
    steps: int,
    samples: int,
    temperature: float,
    coarse_share: float,
    generator: Generator,
    progress: Callable[[float], None] | None = None,
    trace: bool = False,
) -> Answer:
    """Draw samples, weigh them by discrepancy and join them with the coarse head.

    The answer is ``coarse_share`` times the coarse probabilities plus the rest times
    the weighted mean of the samples: a mean is a better estimate than any one sample.

    Args:
        model: the network.
        sampler: of the encoded scan.
        algorithm: name of the sampler.
        steps: of each sample.
        samples: how many.
        temperature: sigma_D of the weights.
        coarse_share: in [0, 1].
        generator: on the CPU; fixes the samples.
        progress: gets the fraction done.
        trace: keep what each step of the first sample made of the mask.
    """
    done = 0
    watched: list[Tensor] = []

    def count(step: int, p: ClassMap) -> None:
        nonlocal done
        done += 1
        if trace and done <= steps:
            watched.append(_indices(p))
        if progress is not None:
            progress(done / (steps * samples))

    drawn, discrepancies, volumes, labels = [], [], [], []
    for _ in range(samples):
        p = sampler(sampler=algorithm, steps=steps, generator=generator, observe=count)
        labels.append(_indices(p))
        D = model.discrepancy_map(sampler.encoding, labels[-1].long())
        discrepancies.append(D.mean())
        volumes.append(p.sum(dim=tuple(range(2, p.dim())))[0])
        drawn.append(p)
    weights = ensemble_weights(torch.stack(discrepancies), temperature=temperature)
    return Answer(
        _joined(sampler.encoding, drawn, weights, coarse_share),
        weights,
        torch.stack(volumes),
        steps,
        torch.cat(labels),
        torch.cat(watched) if trace else None,
    )


def _joined(
    encoding: Encoding, drawn: Sequence[ClassMap], weights: Tensor, coarse_share: float
) -> ClassMap:
    mean = torch.softmax(encoding.coarse_logits, dim=1).mul_(coarse_share)
    for weight, p in zip(weights, drawn, strict=True):
        mean.add_(p, alpha=float(weight) * (1 - coarse_share))
    return mean


def _indices(p: ClassMap) -> Tensor:
    """Return the winning classes (``1 *grid``) in a byte each where that holds them."""
    return p.argmax(1).to(torch.uint8 if p.shape[1] <= 256 else torch.int16)
