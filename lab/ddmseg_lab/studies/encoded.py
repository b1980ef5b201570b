"""One subject through f^I once, and everything a study asks of it afterwards.

All answers lie on the subject's own grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from ddmseg.datasets.source import padded
from ddmseg.datasets.subject import Subject
from ddmseg.maths.discrepancy import ensemble_weights, right_probability
from ddmseg.maths.expected_dice import expectation
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.ensemble import Answer
from ddmseg.networks.sampling import Guidance, MaskSampler, Observer
from ddmseg.quality.assessment import Assessment, calibrated
from ddmseg_lab.comparison.predict import MULTIPLE, uncentred
from ddmseg_lab.study import Trained


class EncodedSubject:
    """A subject's features, computed once; of another image on its grid where one is given."""

    def __init__(self, trained: Trained, subject: Subject, image: Tensor | None = None) -> None:
        self.trained = trained
        self.subject = subject
        self.own = trained.settings.sampling
        loss = trained.settings.loss
        self._schedule = make_schedule(loss.schedule, loss.schedule_shift)
        whole = subject.image if image is None else image
        self._encoding = trained.model.encode(self._padded(whole))
        self._samplers: dict[tuple[Guidance, bool], MaskSampler] = {}

    def coarse(self) -> Tensor:
        """Return the coarse head's class probabilities (``k i j k``)."""
        return self._cut(torch.softmax(self._encoding.coarse_logits, dim=1))

    def sample(
        self,
        generator: Generator,
        *,
        algorithm: str | None = None,
        steps: int | None = None,
        guidance: Guidance | None = None,
        sees_discrepancy: bool = True,
        observe: Observer | None = None,
    ) -> Tensor:
        """Draw one mask from noise of the generator; return its class probabilities (``k i j k``).

        Sampler, steps and guidance are the card's unless given. Without ``sees_discrepancy`` the
        map is hidden from the denoiser; ``observe`` gets each step.
        """
        own = self.own
        if guidance is None:
            temperature = self.trained.settings.loss.temperature
            guidance = Guidance(own.guidance, own.guidance_scale, temperature)
        sampler = self._sampler(guidance, sees_discrepancy)
        names: dict[str, Any] = {"sampler": algorithm or own.sampler, "steps": steps or own.steps}
        return self._cut(sampler(**names, generator=generator, observe=observe))

    def samples(self, generator: Generator, count: int, **how: Any) -> list[Tensor]:
        """Draw several masks, one after the other."""
        return [self.sample(generator, **how) for _ in range(count)]

    def discrepancy(self, labels: Tensor) -> Tensor:
        """Return D at each voxel of a mask of class indices (``i j k``)."""
        whole = self._padded(labels[None])[:, 0]
        return self._cut(self.trained.model.discrepancy_map(self._encoding, whole))[0]

    def right(self, D: Tensor) -> Tensor:
        """Return the probability exp(-D / sigma_D^2) that each voxel is right."""
        return right_probability(D, temperature=self.trained.settings.loss.temperature)

    def weights(self, samples: Sequence[Tensor], temperature: float) -> Tensor:
        """Return the weights of samples by their mean discrepancy."""
        D = torch.stack([self.discrepancy(p.argmax(0)).mean() for p in samples])
        return ensemble_weights(D, temperature=temperature)

    def answer(self, samples: Sequence[Tensor]) -> Tensor:
        """Join samples with each other and with the coarse head as the card says."""
        mean = weighted_mean(samples, self.weights(samples, self.own.temperature))
        share = self.own.coarse_share
        return share * self.coarse() + (1 - share) * mean

    def own_answer(self, generator: Generator) -> Tensor:
        """Return what the card's own settings give (``k i j k``)."""
        return self.answer(self.samples(generator, self.own.samples))

    def score(self, p: Tensor) -> dict[str, float]:
        """Return what the winning classes score against the truth, see :meth:`Trained.score`."""
        return self.trained.score(self.subject, p.argmax(0).numpy())

    def assess(self, p: Tensor, labels: Tensor | None = None) -> Assessment:
        """Return what the discrepancy says of an answer, or of another mask in its place."""
        labels = p.argmax(0) if labels is None else labels
        D = self.discrepancy(labels)
        expected = expectation(labels, self.right(D), p)
        dice = calibrated(self.trained.card, expected.mean_dice)
        return Assessment(labels[None], D[None, None], expected, dice)

    def spent(self, p: Tensor) -> Answer:
        """Wrap an answer of the card's settings as the quality checks take it."""
        count = self.own.samples
        return Answer(p[None], torch.full((count,), 1 / count), torch.zeros(0), self.own.steps)

    def _sampler(self, guidance: Guidance, sees_discrepancy: bool) -> MaskSampler:
        key = (guidance, sees_discrepancy)
        if key not in self._samplers:
            made = MaskSampler(self.trained.model, self._encoding, self._schedule, guidance)
            if not sees_discrepancy:
                made.conditions = replace(made.conditions, blind=True)
            self._samplers[key] = made
        return self._samplers[key]

    def _padded(self, whole: Tensor) -> Tensor:
        """Pad ``c i j k`` for the network, as a batch of one."""
        return padded(whole, whole[0], max(self.trained.model.multiple, MULTIPLE))[0][None]

    def _cut(self, batch: Tensor) -> Tensor:
        """Undo the padding of a batch of one: ``c i j k`` on the subject's grid."""
        return uncentred(batch[0], self.subject.labels.shape)


def weighted_mean(samples: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return the mean of samples with weights that sum to 1."""
    mean = torch.zeros_like(samples[0])
    for weight, p in zip(weights, samples, strict=True):
        mean.add_(p, alpha=float(weight))
    return mean
