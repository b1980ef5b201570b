"""Many samples, one answer and its doubt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ddmseg.maths.discrepancy import ensemble_weights
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.sampling import MaskSampler
from ddmseg.networks.uncertain_voxels import winners
from ddmseg.types import ClassMap


@dataclass(frozen=True)
class Choice:
    """What mode ``auto`` weighed, and what the samples bought.

    Attributes, where widths are those of volume intervals:
        usual_width: above it samples are drawn; None where the card does not tell.
        coarse_width: of the coarse head's answer; None where it found nothing.
        sampled_width: once samples were drawn.
        drawn: those samples.
        stopped_because: why there are none, or no more.
    """

    usual_width: float | None
    coarse_width: float | None
    sampled_width: float | None = None
    drawn: tuple[Drawn, ...] = ()
    stopped_because: str = "intervals as wide as usual"


@dataclass(frozen=True)
class Drawn:
    """A set of samples and what was expected of their answer."""

    steps: int
    samples: int
    expected_dice: float


@dataclass(frozen=True)
class Answer:
    """Class probabilities (``1 k *grid``) and what was spent on them.

    Attributes:
        weights: of each sample; empty when only the coarse head answered.
        sample_volumes: expected voxels of each class in each sample (``n k``).
        sample_labels: class indices of each sample (``n *grid``).
        step_labels: class indices of the first sample after each of its steps, for who
            wants to watch (``t *mask grid``); None where it was not asked for.
        choice: how it came to be chosen; None where nothing was to choose.
    """

    probabilities: ClassMap
    weights: Tensor
    sample_volumes: Tensor
    steps: int
    sample_labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.uint8))
    step_labels: Tensor | None = None
    choice: Choice | None = None

    @property
    def samples(self) -> int:
        """Samples drawn."""
        return len(self.weights)


def coarse_answer(encoding: Encoding) -> Answer:
    """Return the coarse head's answer: no sample, no step."""
    p = encoding.coarse_probabilities
    return Answer(p, torch.zeros(0), torch.zeros(0, p.shape[1]), 0)


def sampled_answer(
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
    go_on: Callable[[int], bool] | None = None,
    last: bool = False,
) -> Answer:
    """Draw samples, weigh them by discrepancy and join them with the coarse head.

    The answer is ``coarse_share`` times the coarse probabilities plus the rest times
    the weighted mean of the samples: a mean is a better estimate than any one sample.
    Only that mean is kept, so that memory does not grow with the samples.

    Args:
        coarse_share: in [0, 1].
        generator: on the CPU; fixes the samples.
        trace: keep what each step of the first sample made of the mask.
        go_on: is asked after each sample but the last whether to draw another; gets how
            many there are.
        last: nobody draws from this encoding again: the answer may be written over its coarse
            probabilities, which are the largest array of a scan.
    """
    done = 0
    watched: list[Tensor] = []

    def count(step: int, said: Callable[[], ClassMap]) -> None:
        nonlocal done
        done += 1
        if trace and done <= steps:
            watched.append(_indices(said()))
        if progress is not None:
            progress(done / (steps * samples))

    discrepancies, volumes, labels = [], [], []
    mean = weights = torch.zeros(0)
    for number in range(samples):
        if number and go_on is not None and not go_on(number):
            break
        p = sampler.decide(sampler=algorithm, steps=steps, generator=generator, observe=count)
        winning, there = _indices(p), sampler.uncertain
        labels.append(winning if there is None else there.whole_labels(winning))
        discrepancies.append(sampler.discrepancy(labels[-1].long()))
        volumes.append(p.sum(dim=tuple(range(2, p.dim())))[0])
        weights = ensemble_weights(torch.stack(discrepancies), temperature=temperature)
        # Weights of earlier samples keep their ratios: the newest alone tells the new mean.
        mean = mean.lerp_(p, weights[-1].to(p)) if number else p
        del p  # as large as the mean: the next sample takes its place
    sure = 0.0 if sampler.uncertain is None else sampler.uncertain.sure_volumes
    return Answer(
        _joined(sampler, mean, coarse_share, in_place=last),
        weights,
        torch.stack(volumes) + sure,
        steps,
        torch.cat(labels),
        torch.cat(watched) if trace else None,
    )


def _joined(sampler: MaskSampler, mean: Tensor, coarse_share: float, *, in_place: bool) -> ClassMap:
    """Return the mean of the samples joined with the coarse head, on the whole grid."""
    there = sampler.uncertain
    coarse = sampler.encoding.coarse_probabilities if there is None else there.of_coarse
    mean = mean.mul_(1 - coarse_share).add_(coarse, alpha=coarse_share)
    return mean if there is None else there.probabilities(mean, in_place=in_place)


def _indices(p: ClassMap) -> Tensor:
    """Return the winning classes (``1 *grid``)."""
    return winners(p.argmax(1), p.shape[1])
