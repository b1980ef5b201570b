"""Draw masks from the trained model: the samplers and guidances put to work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from ddmseg.maths.discrepancy import guidance as energy_guidance
from ddmseg.maths.samplers import find_sampler, time_grid
from ddmseg.maths.schedule import Schedule, clean_to_score, score_to_clean
from ddmseg.networks.blocks import channels_last, class_probabilities
from ddmseg.networks.denoiser import Conditions, pooled_logits
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.uncertain_voxels import UncertainVoxels
from ddmseg.types import ClassMap, Mask

VOXELS_AT_ONCE = 1 << 17
"""Uncertain voxels that are decided at once."""
GuidanceKind = Literal["none", "energy", "classifier_free", "classifier"]
GUIDANCES: tuple[GuidanceKind, ...] = ("none", "energy", "classifier_free", "classifier")


@dataclass(frozen=True)
class Guidance:
    """How the score is bent towards the image while sampling.

    Attributes:
        kind: ``energy``: s - grad D / sigma_D^2; ``classifier``: the coarse head is
            the classifier, s + grad log p(mask | image); ``classifier_free``:
            conditional and unconditional prediction extrapolated (Ho and Salimans
            2022, arXiv 2207.12598, eq. 6); ``none``.
        scale: strength, 0 switches off.
        temperature: sigma_D of the energy, above 0.
    """

    kind: GuidanceKind = "none"
    scale: float = 1.0
    temperature: float = 1.0


Observer = Callable[[int, Callable[[], ClassMap]], None]
"""Gets each step's number, and a function that returns what the step said as class
probabilities on the mask's grid; whoever does not ask does not pay for them."""


class MaskSampler:
    """Samples masks of one encoded scan; the image side is prepared once."""

    def __init__(
        self,
        model: DiscrepancyDiffusionSegmenter,
        encoding: Encoding,
        schedule: Schedule,
        guidance: Guidance | None = None,
    ) -> None:
        self.model = model
        self.encoding = encoding
        self.schedule = schedule
        self.guidance = guidance or Guidance()
        self.conditions = model.conditions(encoding)
        coarse = encoding.coarse
        grid = [n // model.mask_stride for n in coarse.shape[2:]]
        like = coarse.new_empty((len(coarse), model.mask_encoding.channels, *grid))
        self.first_estimate = model.first_estimate(self.conditions, like)

    @cached_property
    def uncertain(self) -> UncertainVoxels | None:
        """The voxels that samples decide; None where they decide all."""
        denoiser, prior = self.model.denoiser, self.conditions.fine_prior
        if denoiser is None or not denoiser.trusts_coarse_head or prior is None:
            return None
        # Guidance may lead anywhere.
        if self.guidance.kind != "none" or len(prior) > 1:
            return None
        return UncertainVoxels.of(self.encoding.coarse_probabilities)

    def __call__(self, **options: Any) -> ClassMap:
        """Draw one mask an item as :meth:`decide` does; return it on the whole image grid."""
        p = self.decide(**options)
        return p if self.uncertain is None else self.uncertain.probabilities(p)

    def decide(
        self,
        *,
        sampler: str = "ddim",
        steps: int = 10,
        generator: Generator | None = None,
        observe: Observer | None = None,
    ) -> Tensor:
        """Draw one mask an item; return its class probabilities.

        They are of the voxels that samples decide (``1 k n``), or of the image grid where that
        is all of it.

        Args:
            sampler: name in ``maths.samplers.SAMPLERS``.
            steps: evaluations of the denoiser, at least 1.
            generator: on the CPU; fixes the noise.
        """
        like, times = self.first_estimate, time_grid(steps)
        # In the layout that the network computes in, or every step would mix two.
        x_T = channels_last(torch.randn(like.shape, generator=generator).to(like.device))
        walk = _Walk(self, observe)
        draw = find_sampler(sampler)
        draw(walk.clean, x_T, schedule=self.schedule, times=times, generator=generator)
        return walk.probabilities()

    def decided(self, hidden: Tensor) -> Tensor:
        """Return the class probabilities that a last step's features stand for.

        Of uncertain voxels some at a time: the logits of all of them, and what these are made
        of, would take five times the memory of the answer.
        """
        if self.uncertain is None:
            return class_probabilities(self.model.decode(hidden, self.conditions))
        voxels = self.uncertain.voxels
        p = hidden.new_empty((len(hidden), len(voxels), self.model.classes)).movedim(-1, 1)
        for start in range(0, len(voxels), VOXELS_AT_ONCE):
            part = slice(start, start + VOXELS_AT_ONCE)
            there = self.conditions.at_voxels(voxels[part])
            p[..., part] = class_probabilities(self.model.decode(hidden, there, voxels[part]))
        return p

    def discrepancy(self, labels: Tensor) -> Tensor:
        """Return the mean discrepancy of a drawn mask (``b *grid``) with the image, 0-d.

        Where the denoiser compares on the mask's grid, so does this: a fraction of the cost
        of :meth:`DiscrepancyDiffusionSegmenter.discrepancy_map`.
        """
        embedding = self.conditions.embedding
        if embedding is None:
            return self.model.discrepancy_map(self.encoding, labels).mean()
        return self.model.block_discrepancy(embedding, labels).mean()


class _Walk:
    """One trajectory: remembers the estimate so far, which the discrepancy is of."""

    def __init__(self, owner: MaskSampler, observe: Observer | None) -> None:
        self.owner = owner
        self.observe = observe
        self.estimate = owner.first_estimate
        self.logits: Tensor | None = None
        self.hidden: Tensor | None = None
        self.steps = 0
        self._seen: tuple[Mask, Tensor | None] | None = None

    def clean(self, x_t: Mask, t: Tensor) -> Mask:
        """Predict the clean mask, guided; what the samplers call."""
        owner, model = self.owner, self.owner.model
        log_snr = owner.schedule.log_snr(t).reshape(1).expand(x_t.shape[0])
        self.logits, self.hidden = self._predict(x_t, log_snr, owner.conditions)
        if owner.guidance.kind == "classifier_free":
            free, _ = self._predict(x_t, log_snr, owner.conditions.without_image())
            self.logits = self.logits + owner.guidance.scale * (self.logits - free)
        if self.observe is not None:
            said, head = self.logits, model.output_head
            self.observe(self.steps, lambda: class_probabilities(head.class_logits(said)))
        self.steps += 1
        self.estimate = self._guided(model.output_head.estimate(self.logits), x_t, t)
        return self.estimate

    def _predict(self, x_t: Mask, log_snr: Tensor, conditions: Conditions) -> tuple[Tensor, Tensor]:
        owner = self.owner
        D = self._discrepancy_of_estimate(conditions)
        return owner.model.denoise(x_t, log_snr, conditions, owner.encoding, self.estimate, D)

    def _discrepancy_of_estimate(self, conditions: Conditions) -> Tensor | None:
        """Return D of the estimate; the last one where the estimate has hardly moved since."""
        owner, model = self.owner, self.owner.model
        tolerance = 0.0 if model.denoiser is None else model.denoiser.estimate_tolerance
        if tolerance and not conditions.blind and self._seen is not None:
            before, D = self._seen
            if (self.estimate - before).abs().mean() < tolerance * model.mask_encoding.scale:
                return D
        D = model.seen_discrepancy(conditions, owner.encoding, self.estimate)
        # The unconditional branch of classifier-free guidance sees none, and leaves none behind.
        if not conditions.blind:
            self._seen = (self.estimate, D)
        return D

    def _guided(self, x_0: Mask, x_t: Mask, t: Tensor) -> Mask:
        """Add the guidance to the score that x_0 stands for."""
        owner, guidance = self.owner, self.owner.guidance
        if guidance.kind == "energy":
            pull = self._energy_pull(x_0)
        elif guidance.kind == "classifier":
            coarse = owner.encoding.coarse_logits
            coarse = coarse if owner.model.mask_stride == 1 else pooled_logits(coarse)
            log_p = torch.log_softmax(coarse, dim=1)
            # Only differences of the classes count: without this every channel is pushed up.
            log_p = log_p - log_p.mean(dim=1, keepdim=True)
            pull = owner.model.mask_encoding.of_probabilities(log_p)
        else:
            return x_0
        score = clean_to_score(x_0, x_t, t, owner.schedule)
        guided = score_to_clean(score + guidance.scale * pull, x_t, t, owner.schedule)
        limit = owner.model.mask_encoding.scale
        return guided.clamp(-limit, limit)

    def _energy_pull(self, x_0: Mask) -> Mask:
        """Return -grad D / sigma_D^2 at a clean mask."""
        owner, model = self.owner, self.owner.model
        # In inference mode a gradient needs copies that are ordinary tensors.
        with torch.inference_mode(False):
            encoding = replace(owner.encoding, embedding=owner.encoding.embedding.clone())
            return energy_guidance(
                lambda mask: model.folded_discrepancy(encoding, mask, stride=model.mask_stride),
                x_0.clone(),
                temperature=owner.guidance.temperature,
            )

    def probabilities(self) -> ClassMap:
        """Class probabilities of the last step, on the image grid."""
        if self.logits is None or self.hidden is None:
            raise ValueError("the sampler never asked the network")
        if self.owner.model.mask_stride > 1:
            return self.owner.decided(self.hidden)
        return class_probabilities(self.logits)
