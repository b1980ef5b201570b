"""One subject through f^I once, and everything a study asks of it afterwards.

All answers lie on the subject's own grid, whether the network works in 3-D or on slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from ddmseg.datasets.subject import Subject
from ddmseg.imaging.augmentation import centre
from ddmseg.maths.discrepancy import ensemble_weights, right_probability
from ddmseg.maths.expected_dice import expectation
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.ensemble import Answer
from ddmseg.networks.sampling import Guidance, MaskSampler, Observer
from ddmseg.quality.assessment import Assessment, calibrated
from ddmseg_lab.comparison.predict import MULTIPLE, SLICES_AT_ONCE, uncentred
from ddmseg_lab.study import Trained


class EncodedSubject:
    """A subject's features, computed once; of another image on its grid where one is given."""

    def __init__(self, trained: Trained, subject: Subject, image: Tensor | None = None) -> None:
        self.trained = trained
        self.subject = subject
        self.own = trained.settings.sampling
        loss = trained.settings.loss
        self._schedule = make_schedule(loss.schedule, loss.schedule_shift)
        parts = self._parts(subject.image if image is None else image)
        self._encodings = [trained.model.encode(part) for part in parts]
        self._samplers: dict[tuple[Guidance, bool], list[MaskSampler]] = {}

    @property
    def own_guidance(self) -> Guidance:
        """The guidance of the card."""
        own = self.own
        return Guidance(own.guidance, own.guidance_scale, self.trained.settings.loss.temperature)

    def coarse(self) -> Tensor:
        """Return the coarse head's class probabilities (``k i j k``)."""
        return self._joined([torch.softmax(e.coarse_logits, dim=1) for e in self._encodings])

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
        map is hidden from the denoiser; ``observe`` gets each step, batch by batch.
        """
        samplers = self._prepared(guidance or self.own_guidance, sees_discrepancy)
        chosen: dict[str, Any] = {
            "sampler": algorithm or self.own.sampler,
            "steps": steps or self.own.steps,
        }
        return self._joined(
            [one(**chosen, generator=generator, observe=observe) for one in samplers]
        )

    def samples(self, generator: Generator, count: int, **how: Any) -> list[Tensor]:
        """Draw several masks, one after the other."""
        return [self.sample(generator, **how) for _ in range(count)]

    def discrepancy(self, labels: Tensor) -> Tensor:
        """Return D at each voxel of a mask of class indices (``i j k``)."""
        model = self.trained.model
        parts = self._parts(labels[None].float())
        maps = [
            model.discrepancy_map(encoding, part[:, 0].long())
            for encoding, part in zip(self._encodings, parts, strict=True)
        ]
        return self._joined(maps)[0]

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

    def _prepared(self, guidance: Guidance, sees_discrepancy: bool) -> list[MaskSampler]:
        key = (guidance, sees_discrepancy)
        if key not in self._samplers:
            made = [
                MaskSampler(self.trained.model, encoding, self._schedule, guidance)
                for encoding in self._encodings
            ]
            if not sees_discrepancy:
                for sampler in made:
                    sampler.conditions = replace(sampler.conditions, blind=True)
            self._samplers[key] = made
        return self._samplers[key]

    def _parts(self, whole: Tensor) -> list[Tensor]:
        """Pad ``c i j k`` for the network and cut it into batches (``b c *grid``)."""
        network = self.trained.model
        multiple = max(network.multiple, MULTIPLE)
        if network.dims == 3:
            shape = tuple(-(-n // multiple) * multiple for n in whole.shape[1:])
            return [centre(whole, whole[0], shape)[0][None]]
        slices = whole.movedim(1 + self.subject.slice_axis, 0)
        shape = tuple(-(-n // multiple) * multiple for n in slices.shape[2:])
        even = torch.stack([centre(one, one[0], shape)[0] for one in slices])
        return list(torch.split(even, SLICES_AT_ONCE))

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Undo :meth:`_parts`: batches back to ``c i j k`` on the subject's grid."""
        shape = self.subject.labels.shape
        if self.trained.model.dims == 3:
            return uncentred(parts[0][0], shape)
        axis = self.subject.slice_axis
        flat = [n for a, n in enumerate(shape) if a != axis]
        slices = uncentred(torch.cat(list(parts)), flat)
        return slices.movedim(0, 1).movedim(1, 1 + axis)


def weighted_mean(samples: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return the mean of samples with weights that sum to 1."""
    mean = torch.zeros_like(samples[0])
    for weight, p in zip(weights, samples, strict=True):
        mean.add_(p, alpha=float(weight))
    return mean
