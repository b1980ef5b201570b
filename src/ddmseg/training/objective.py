"""One training example to one loss: L = L_disc + lambda L_diff + coarse head.

With *recycling* the mask that is noised is the model's own estimate rather than the truth, with
a probability that may depend on the time, and the label is the truth all the same. The
denoiser then learns that the noisy mask says nothing of the truth that the image does not: its
samples are good masks that hardly differ. Without, they differ as the truth may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.maths.losses import class_fractions, discrepancy_loss, segmentation_loss
from ddmseg.maths.schedule import Schedule, make_schedule, noise
from ddmseg.models.checkpoint import Network
from ddmseg.models.settings import LossSettings
from ddmseg.networks.block_head import voxels_of_blocks
from ddmseg.networks.blocks import fold, unfold
from ddmseg.networks.denoiser import Conditions
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training.corruption import corrupt

Stage = Literal["image_encoder", "encoders", "denoiser", "on_features", "joint"]
"""Which parts learn: f^I with its coarse head; f^I and f^S; the denoiser; all but the features
of f^I and their head; all."""
ESTIMATED = 0.75
"""Share of the steps in which the denoiser gets an estimate that was asked for before."""


@dataclass(frozen=True)
class Losses:
    """The joint loss and its parts, for the curve."""

    total: Tensor
    coarse: Tensor
    diffusion: Tensor
    discrepancy: Tensor


class LossFunction(Protocol):
    """What a training asks for the losses of each batch."""

    def __call__(
        self, image: Tensor, labels: Tensor, generator: Generator, *, stage: Stage = "joint"
    ) -> Losses:
        """Return the losses of one batch (``b c *grid`` and ``b *grid``)."""


class Objective:
    """Computes the joint loss of a model on a batch."""

    def __init__(self, model: Network, settings: LossSettings) -> None:
        self.model = model
        self.settings = settings
        self.schedule: Schedule = make_schedule(settings.schedule, settings.schedule_shift)

    def __call__(
        self, image: Tensor, labels: Tensor, generator: Generator, *, stage: Stage = "joint"
    ) -> Losses:
        """Return the losses of one batch (``b c *grid`` and class indices, ``b *grid``).

        Args:
            generator: on the CPU; fixes times, noise and corruptions.
            stage: which parts learn; a plain network knows one alone.
        """
        settings, model = self.settings, self.model
        if not isinstance(model, DiscrepancyDiffusionSegmenter):
            return _alone(self._segmentation(model(image), labels))
        learns = stage not in ("denoiser", "on_features")
        joint = model.denoiser is not None and stage != "image_encoder"
        voxels = self._scored_voxels(labels, generator)
        with torch.set_grad_enabled(learns):
            encoding, coarse = self._encoded(image, labels, voxels, whole=joint)
        if encoding is None:
            return _alone(coarse)
        zero = torch.zeros_like(coarse)
        encoding = model.image_encoder.with_share(encoding, settings.encoder_share if learns else 0)
        diffusion, disc, fine = zero, zero, lambda: encoding.coarse_logits
        if stage in ("denoiser", "on_features", "joint"):
            diffusion, fine = self._diffusion(encoding, labels, voxels, generator)
        if stage in ("encoders", "on_features", "joint") and settings.discrepancy_weight > 0:
            disc = self._discrepancy(encoding, labels, fine, generator)
        total = settings.diffusion_weight * diffusion + settings.discrepancy_weight * disc
        if stage == "denoiser":
            total = diffusion
        elif learns:
            total = total + settings.coarse_weight * coarse
        return Losses(total, coarse.detach(), diffusion.detach(), disc.detach())

    def _scored_voxels(self, labels: Tensor, generator: Generator) -> Tensor | None:
        """Draw the voxels on which segmentations are scored; None for all."""
        shares = (self.settings.background_share, self.settings.foreground_share)
        if shares == (1, 1):
            return None
        grid = [n // 2 for n in labels.shape[1:]]
        inside = fold(labels[:, None]).amax(dim=(0, 1)).flatten() > 0
        share = torch.where(inside, shares[1], shares[0])
        drawn = _uniform(len(inside), generator).to(share.device) < share
        return voxels_of_blocks(drawn.nonzero().flatten(), grid)

    def _encoded(
        self, image: Tensor, labels: Tensor, voxels: Tensor | None, *, whole: bool
    ) -> tuple[Encoding | None, Tensor]:
        """Return the encoding, where it is asked for ``whole``, and the coarse head's loss."""
        model = self._ddm
        if voxels is None:
            encoding = model.encode(image)
            return encoding if whole else None, self._segmentation(encoding.coarse_logits, labels)
        encoder = model.image_encoder
        stem, pyramid = encoder.features(image)
        there = encoder.head(pyramid[0], stem, voxels)
        coarse = self._segmentation(there, labels.flatten(1)[:, voxels])
        if not whole:
            return None, coarse
        with torch.no_grad():  # the denoiser and f^S are told of them, but do not bend them
            logits = encoder.head(pyramid[0], stem).float()
        return encoder.completed(stem, pyramid, logits=logits), coarse

    @property
    def _ddm(self) -> DiscrepancyDiffusionSegmenter:
        assert isinstance(self.model, DiscrepancyDiffusionSegmenter)
        return self.model

    def _segmentation(self, logits: Tensor, labels: Tensor) -> Tensor:
        return segmentation_loss(logits, labels, dice_weight=self.settings.dice_weight)

    def _coarser(self, said: Tensor, fractions: Tensor) -> Tensor:
        """Return the loss of what is said where the mask lives on half the image grid.

        Args:
            fractions: share of each class in each mask voxel.
        """
        return self._ddm.output_head.cross_entropy(said, fractions)

    def _diffusion(
        self, encoding: Encoding, labels: Tensor, voxels: Tensor | None, generator: Generator
    ) -> tuple[Tensor, Callable[[], Tensor]]:
        """Return L_diff and what makes the fine logits that it was taken of."""
        model, settings = self._ddm, self.settings
        fractions = class_fractions(labels, model.classes, model.mask_stride)
        truth = model.mask_encoding.of_probabilities(fractions)
        conditions = model.conditions(encoding)
        if settings.drop_image_probability > _uniform(1, generator).item():
            conditions = conditions.without_image()
        t = _uniform(truth.shape[0], generator).to(truth.device)
        eps = _normal(truth, generator)
        with torch.no_grad():
            x_t, estimate = self._noised(truth, eps, encoding, conditions, t, generator)
        log_snr = self.schedule.log_snr(t)
        if model.target == "noise":
            predicted, _ = model.predict(x_t, log_snr, conditions, encoding, estimate)
            clean = model.clean_logits(predicted, x_t, log_snr)
            return F.mse_loss(predicted, eps), lambda: clean
        logits, hidden = model.denoise(x_t, log_snr, conditions, encoding, estimate)
        if model.mask_stride == 1:
            return self._segmentation(logits, labels), lambda: logits
        coarser = self._coarser(logits.float(), fractions)
        if voxels is None:
            fine = model.decode(hidden, conditions)
            return self._segmentation(fine, labels) + coarser, lambda: fine
        there = model.decode(hidden, conditions.at_voxels(voxels), voxels)
        loss = self._segmentation(there, labels.flatten(1)[:, voxels])
        return loss + coarser, lambda: model.decode(hidden, conditions)

    def _noised(
        self,
        truth: Tensor,
        eps: Tensor,
        encoding: Encoding,
        conditions: Conditions,
        t: Tensor,
        generator: Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return the noisy mask, and the estimate that comes with it.

        The estimate is made of the same noisy mask (Chen, Zhang and Hinton 2023, arXiv
        2208.04202, section 2.2): another look at the truth, under other noise, would tell more
        of it than sampling ever knows, and samples would not differ. Where the mask is recycled,
        the estimate was made at an earlier, noisier time and *is* what is noised.
        """
        low, high = self.settings.recycling_clean_end, self.settings.recycling_noise_end
        recycled = _uniform(len(t), generator).to(t.device) < low + (high - low) * t
        at = recycled.reshape(-1, *(1,) * (truth.dim() - 1))
        model, schedule = self._ddm, self.schedule
        x_t = noise(truth, eps, t, schedule)
        estimate = first = model.first_estimate(conditions, truth)
        if _uniform(1, generator).item() < ESTIMATED:
            earlier = t + (1 - t) * _uniform(len(t), generator).to(t.device)
            x_earlier = noise(first, _normal(truth, generator), earlier, schedule)
            seen, time = torch.where(at, x_earlier, x_t), torch.where(recycled, earlier, t)
            logits, _ = model.denoise(seen, schedule.log_snr(time), conditions, encoding, first)
            estimate = model.output_head.estimate(logits)
        return torch.where(at, noise(estimate, eps, t, schedule), x_t), estimate

    def _discrepancy(
        self, encoding: Encoding, labels: Tensor, fine: Callable[[], Tensor], generator: Generator
    ) -> Tensor:
        """Return L_disc over the model's own answer and a corrupted mask.

        Args:
            fine: makes the logits of the denoiser's answer.
            generator: fixes which answer, and the corruption.
        """
        model, sigma_D, push = self._ddm, self.settings.temperature, self.settings.push
        refined = _uniform(1, generator).item() < 0.5
        with torch.no_grad():
            own = (fine() if refined else encoding.coarse_logits).argmax(1)
        sound = own if _uniform(1, generator).item() < 0.5 else labels
        losses = []
        for mask in (own, corrupt(sound, model.classes, generator)):
            encoded = model.mask_encoding.of_labels(mask)
            D = unfold(model.folded_discrepancy(encoding, encoded).float())
            right = (mask == labels)[:, None].to(D.dtype)
            losses.append(discrepancy_loss(D, right, temperature=sigma_D, push=push))
        return torch.stack(losses).mean()


def _alone(coarse: Tensor) -> Losses:
    """Return the losses of a network without anything but its segmentation."""
    zero = torch.zeros_like(coarse).detach()
    return Losses(coarse, coarse.detach(), zero, zero)


def stage_at(step: int, settings: LossSettings) -> Stage:
    """Return which parts learn at a step of the run."""
    if settings.freeze_encoders:
        return "denoiser"
    if settings.freeze_features:
        return "on_features"
    if settings.encoders_until_step:
        return "encoders" if step < settings.encoders_until_step else "denoiser"
    return "joint" if step >= settings.joint_from_step else "image_encoder"


def _uniform(count: int, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator)


def _normal(like: Tensor, generator: Generator) -> Tensor:
    # Drawn on the CPU and moved, so that a seed means the same on every device.
    return torch.randn(like.shape, generator=generator).to(like.device)
