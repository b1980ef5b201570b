"""The discrepancy-based diffusion model: encode once, denoise often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ddmseg.errors import SettingsError
from ddmseg.maths.discrepancy import discrepancy_map
from ddmseg.maths.encoding import ONE_HOT_LIMIT, MaskEncoding
from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.blocks import block_means, unfold
from ddmseg.networks.denoiser import Conditioning, Conditions, Denoiser, fine_logits
from ddmseg.networks.image_encoder import Encoding, FeatureEncoder, ImageEncoder
from ddmseg.networks.light_denoiser import LightDenoiser
from ddmseg.networks.normalisation import EachVoxel, batch_statistics, normalise_with
from ddmseg.networks.output_head import OutputHead
from ddmseg.networks.segmentation_encoder import SegmentationEncoder, folded_discrepancy
from ddmseg.networks.views import Mirrored, Views
from ddmseg.types import ClassMap, Image, Mask, PerItem, VoxelMap

SMALLEST_ALPHA = 1e-3
"""Below it x_t is noise alone and says nothing of x_0."""
SMALLEST_SHARE = 1e-4
"""Of a class in predicted probabilities, so that their logarithm is finite."""
DISCREPANCY_SLAB = 8
"""Blocks along the first axis whose features z_S are made at once, beside one more on each side."""


class DiscrepancyDiffusionSegmenter(nn.Module):
    """f^I, f^S and the denoiser, joined by the discrepancy of their features.

    With ``diffusion=False`` it is the plain network: the image encoder and its
    coarse head, trained from the same code.

    Args:
        dims: 2 or 3.
        classes: labels, background included.
        encoder_form: ``voxel``: f^I begins on the image grid; ``block``: it computes on half
            of it alone, and so do f^S and the denoiser.
        level_blocks: the same for each level by itself, of a ``block`` encoder; empty
            takes ``blocks`` for all.
        denoiser_form: ``full``, or ``light`` for a mask on half the grid, which costs a
            quarter.
        mask_stride: 1: the mask is noised on the image grid; 2: on half of it.
        coarse_prior: whether it starts from the coarse logits.
        target: what the denoiser's output means: the clean mask, or the noise in x_t.
        normalisation: ``instance``, by what is in view, or ``batch``, by running statistics in f^I
            and the channels of each voxel beside it, as a ``block`` encoder has it always.

    Attributes:
        views: looks at a scan by whose mean the coarse head decides; None for f^I's own alone.
            They are given to weights when these are loaded, and are no part of them.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        classes: int,
        *,
        encoder_form: Literal["voxel", "block"] = "voxel",
        widths: Sequence[int] = (16, 32, 64, 128),
        blocks: int = 1,
        level_blocks: Sequence[int] = (),
        fine_blocks: int = 0,
        embedding: int = 8,
        mask_width: int = 16,
        denoiser_width: int = 16,
        denoiser_form: Literal["full", "light"] = "full",
        mask_stride: int = 1,
        input_scale: float = 1.0,
        conditioning: Conditioning = "discrepancy",
        coarse_prior: bool = True,
        target: Literal["clean", "noise"] = "clean",
        diffusion: bool = True,
        normalisation: Literal["instance", "batch"] = "instance",
    ) -> None:
        super().__init__()
        if target == "noise" and classes > ONE_HOT_LIMIT:
            raise SettingsError(
                f"target: got noise with {classes} classes; at most {ONE_HOT_LIMIT} are one-hot "
                "masks whose noise can be predicted"
            )
        self.dims = dims
        self.classes = classes
        self.mask_stride = mask_stride
        self.coarse_prior = coarse_prior
        self.target = target
        self.mask_encoding = MaskEncoding(classes, input_scale)
        sizes: dict[str, Any] = {"widths": widths, "embedding": embedding}
        self.image_encoder: FeatureEncoder = (
            BlockEncoder(dims, channels, classes, blocks=level_blocks or blocks, **sizes)
            if encoder_form == "block"
            else ImageEncoder(
                dims, channels, classes, blocks=blocks, fine_blocks=fine_blocks, **sizes
            )
        )
        light = denoiser_form == "light"
        self.output_head = OutputHead(self.mask_encoding, light)
        self.segmentation_encoder: SegmentationEncoder | None = None
        self.denoiser: Denoiser | LightDenoiser | None = None
        self.views: Views | Mirrored | None = None
        if diffusion:
            self.segmentation_encoder = SegmentationEncoder(
                dims, self.mask_encoding.channels, width=mask_width, embedding=embedding
            )
            corrects = coarse_prior or target == "noise"
            shape: dict[str, Any] = {"width": denoiser_width, "corrects": corrects}
            self.denoiser = (
                LightDenoiser(dims, self.mask_encoding, self.image_encoder, **shape)
                if light
                else Denoiser(
                    *(dims, classes, self.mask_encoding.channels, widths),
                    mask_stride=mask_stride,
                    conditioning=conditioning,
                    **shape,
                )
            )
        if encoder_form == "block" or normalisation == "batch":
            normalise_with(self.image_encoder, partial(batch_statistics, dims=dims))
            # What is left beside f^I; none of it may depend on what else is in view either.
            normalise_with(self, EachVoxel)

    @property
    def multiple(self) -> int:
        """The image grid must be a multiple of this on each axis."""
        return self.image_encoder.multiple

    def forward(self, image: Image) -> ClassMap:
        """Return the coarse logits: the answer of the plain network."""
        return self.encode(image).coarse_logits

    def encode(self, image: Image) -> Encoding:
        """Run f^I, once a scan; with views, and without gradient, all looks of them."""
        if self.views is not None and not torch.is_grad_enabled():
            return self.views.encode(image)
        return cast(Encoding, self.image_encoder(image))

    def conditions(self, encoding: Encoding) -> Conditions:
        """Prepare what every denoising step of this scan reuses."""
        return self._denoiser.conditions(encoding, coarse_prior=self.coarse_prior)

    def predict(
        self,
        x_t: Mask,
        log_snr: PerItem,
        conditions: Conditions,
        encoding: Encoding,
        estimate: Mask,
        D: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the denoiser's bare output and hidden features; see :meth:`denoise`."""
        if D is None:
            D = self.seen_discrepancy(conditions, encoding, estimate)
        add_prior = self.target == "clean"
        said = self._denoiser(x_t, log_snr, conditions, D, add_prior=add_prior)
        return cast(tuple[Tensor, Tensor], said)

    def seen_discrepancy(
        self, conditions: Conditions, encoding: Encoding, estimate: Mask
    ) -> Tensor | None:
        """Return D as the denoiser sees it, zeros where it must not know of the image.

        None where the denoiser sees none.
        """
        if not self._denoiser.sees_discrepancy:
            return None
        if isinstance(self.denoiser, LightDenoiser):
            if conditions.blind or conditions.embedding is None:
                return torch.zeros_like(estimate[:, :1])
            z_mask = self._segmentation_encoder.block_features(estimate)
            return discrepancy_map(conditions.embedding, z_mask)
        D = self.folded_discrepancy(encoding, estimate, stride=self.mask_stride)
        return torch.zeros_like(D) if conditions.blind else D

    def denoise(
        self,
        x_t: Mask,
        log_snr: PerItem,
        conditions: Conditions,
        encoding: Encoding,
        estimate: Mask,
        D: Tensor | None = None,
    ) -> tuple[ClassMap, Tensor]:
        """Predict the clean mask once.

        Returns:
            What it says on the mask's grid, for :attr:`output_head`, and hidden features for
            :meth:`decode`.
        """
        output, hidden = self.predict(x_t, log_snr, conditions, encoding, estimate, D)
        if self.target == "noise":
            output = self.clean_logits(output, x_t, log_snr)
        return output, hidden

    def clean_logits(self, eps: Mask, x_t: Mask, log_snr: PerItem) -> ClassMap:
        """Return logits of the clean mask that predicted noise stands for.

        The clean mask follows from x_t = alpha x_0 + sigma eps; each channel of x_0 in
        [-b, b] is read as the probability of its class.
        """
        room = (-1, *(1,) * (x_t.dim() - 1))
        alpha = torch.sigmoid(log_snr).sqrt().reshape(room)
        sigma = torch.sigmoid(-log_snr).sqrt().reshape(room)
        x_0 = (x_t - sigma * eps) / alpha.clamp_min(SMALLEST_ALPHA)
        shares = (x_0 / self.mask_encoding.scale + 1) / 2
        return shares.clamp(SMALLEST_SHARE, 1).log()

    def first_estimate(self, conditions: Conditions, like: Mask) -> Mask:
        """Return the encoded mask to begin with: the coarse head's, or "anything"."""
        if conditions.prior is not None:
            return self.output_head.estimate(conditions.prior)
        uniform = like.new_full((1, self.classes, *(1,) * self.dims), 1 / self.classes)
        return self.mask_encoding.of_probabilities(uniform).expand_as(like)

    def decode(
        self, hidden: Tensor, conditions: Conditions, voxels: Tensor | None = None
    ) -> ClassMap:
        """Return logits on the image grid, from the last step's hidden features.

        With ``voxels``, places on the flattened grid (``n``), logits of these alone (``b k n``).
        """
        return fine_logits(self._denoiser.fine_head, hidden, conditions, voxels)

    def folded_discrepancy(self, encoding: Encoding, mask: Mask, *, stride: int = 1) -> Tensor:
        """Return D of an encoded mask, folded: 2-voxel blocks in the channels."""
        z_mask = self._segmentation_encoder(mask, stride=stride)
        return folded_discrepancy(encoding.embedding, z_mask, self.dims)

    def discrepancy_map(self, encoding: Encoding, labels: Tensor) -> VoxelMap:
        """Return D at each voxel of a label map of class indices (``b *grid``).

        Where nothing depends on what else is in view, slab by slab: a scan's features z_S
        would take as much memory as its class probabilities.
        """
        blocks = labels.shape[1] // 2
        step = DISCREPANCY_SLAB if isinstance(self.image_encoder, BlockEncoder) else blocks
        slabs = []
        for start in range(0, blocks, step):
            # f^S looks one block around.
            low, high = max(0, start - 1), min(blocks, start + step + 1)
            part = replace(encoding, embedding=encoding.embedding[:, :, low:high])
            mask = self.mask_encoding.of_labels(labels[:, 2 * low : 2 * high])
            D = self.folded_discrepancy(part, mask)
            slabs.append(D[:, :, start - low : min(blocks, start + step) - low])
        return unfold(torch.cat(slabs, dim=2))

    def block_discrepancy(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Return D of a label map (``b *grid``) in one channel on half its grid."""
        mask = block_means(self.mask_encoding.of_labels(labels))
        return discrepancy_map(embedding, self._segmentation_encoder.block_features(mask))

    @property
    def _segmentation_encoder(self) -> SegmentationEncoder:
        if self.segmentation_encoder is None:
            raise ValueError("the plain network has no discrepancy")
        return self.segmentation_encoder

    @property
    def _denoiser(self) -> Denoiser | LightDenoiser:
        if self.denoiser is None:
            raise ValueError("the plain network has no denoiser")
        return self.denoiser
