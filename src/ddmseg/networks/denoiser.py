"""s_theta, the denoiser: light, predicts the clean mask at every step.

Four ways to tell it of the image (``conditioning``):

- ``discrepancy``: image features, and the map of where the mask so far does not
  fit the image;
- ``concat``: image features alone (Wolleb et al. 2022, arXiv 2112.03145);
- ``cross_attention``: the coarsest level attends to the image's coarsest features
  (Rombach et al. 2022, arXiv 2112.10752, section 3.3);
- ``none``: not at all; only guidance can then bring the image in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddmseg.networks.blocks import (
    Coarsen,
    ConvolutionBlock,
    Pointwise,
    Refine,
    ResidualBlock,
    TimeEmbedding,
    at_voxels,
    block_means,
    channels_last,
    class_probabilities,
    fold,
    log_probabilities,
)
from ddmseg.networks.image_encoder import Encoding, FineHead
from ddmseg.types import ClassMap, Mask, PerItem

Conditioning = Literal["discrepancy", "concat", "cross_attention", "none"]
CONDITIONINGS: tuple[Conditioning, ...] = ("discrepancy", "concat", "cross_attention", "none")

PLACE_OCTAVES = 5
"""Waves along each axis, from half of one across the grid to eight."""

MaskGridMap = Float[Tensor, "b k *mask_grid"]
"""Class map where the mask lives: on the image grid or on half of it."""


@dataclass(frozen=True)
class Conditions:
    """What the denoiser reuses at every step and sample of one scan.

    Attributes:
        half: image features on half the grid, in the denoiser's width, or None.
        quarter: the same on a quarter of the grid, or None.
        tokens: image features to attend to (``b n d``), or None.
        prior: what the coarse head says where the mask lives, in the form in which the
            denoiser says it, or None without prior.
        fine_prior: what the coarse head says on the image grid: logits, or probabilities.
        decided: whether these are probabilities.
        embedding: z_I where the mask lives, for a denoiser that compares there, or None.
        blind: whether this is the unconditional branch, which must not see the image.
    """

    stem: Tensor
    half: Tensor | None = None
    quarter: Tensor | None = None
    tokens: Tensor | None = None
    prior: Float[Tensor, "b c *mask_grid"] | None = None
    fine_prior: ClassMap | None = None
    embedding: Tensor | None = None
    blind: bool = False
    decided: bool = False

    def at_voxels(self, voxels: Tensor) -> Conditions:
        """Return them with the prior of some voxels of the flattened image grid alone."""
        if self.fine_prior is None:
            return self
        there = replace(self, fine_prior=at_voxels(self.fine_prior, voxels))
        return replace(there, fine_prior=there.prior_logits, decided=False)

    @property
    def prior_logits(self) -> ClassMap | None:
        """Logits of the coarse head, where the answer starts from them."""
        if self.fine_prior is None or not self.decided:
            return self.fine_prior
        return log_probabilities(self.fine_prior)

    def without_image(self) -> Conditions:
        """The conditions of the unconditional branch of classifier-free guidance."""
        return Conditions(torch.zeros_like(self.stem), blind=True)


class CrossAttention(nn.Module):
    """Voxels of the mask attend to voxels of the image. Residual, pre-normalised.

    Either carries its place, or a noisy voxel could not know which part of the image
    lies under it.

    Source: Rombach et al. 2022, arXiv 2112.10752, eq. 5; places as in Vaswani et al. 2017,
    arXiv 1706.03762, section 3.5, along each axis.
    """

    def __init__(self, dims: int, channels: int, image_channels: int, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.place_of_mask = nn.Linear(2 * dims * PLACE_OCTAVES, channels)
        self.place_of_image = nn.Linear(2 * dims * PLACE_OCTAVES, image_channels)
        self.attention = nn.MultiheadAttention(
            channels, heads, kdim=image_channels, vdim=image_channels, batch_first=True
        )

    def tokens(self, features: Tensor) -> Tensor:
        """Return image features (``b c *grid``) with their places as rows (``b n c``)."""
        rows = features.flatten(2).transpose(1, 2)
        placed: Tensor = rows + self.place_of_image(_places(features))
        return placed

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Return a tensor shaped like x (``b c *grid``)."""
        rows = x.flatten(2).transpose(1, 2)
        queries = self.norm(rows) + self.place_of_mask(_places(x))
        tokens = tokens.expand(rows.shape[0], *tokens.shape[1:])
        attended, _ = self.attention(queries, tokens, tokens, need_weights=False)
        moved: Tensor = attended.transpose(1, 2).reshape(x.shape)
        return x + moved


def _places(x: Tensor) -> Tensor:
    """Return sines and cosines of each voxel's place in the grid (``n features``)."""
    axes = [(torch.arange(n, device=x.device, dtype=x.dtype) + 0.5) / n for n in x.shape[2:]]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
    rates = torch.pi * 2 ** torch.arange(PLACE_OCTAVES, device=x.device, dtype=x.dtype)
    angles = (places[..., None] * rates).flatten(1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Denoiser(nn.Module):
    """Two levels, on half and a quarter of the image grid.

    Args:
        dims: 2 or 3.
        classes: labels, background included.
        image_widths: channels of the encoder at the image grid and below it.
        width: inner channels on half the grid; twice as many on a quarter.
        mask_stride: 1 when the mask lives on the image grid, 2 on half of it.
        corrects: whether the output begins at zero: a correction of the coarse logits, or the
            mean of the noise.
    """

    def __init__(
        self,
        dims: int,
        classes: int,
        channels: int,
        image_widths: Sequence[int],
        *,
        width: int = 16,
        mask_stride: int = 1,
        conditioning: Conditioning = "discrepancy",
        corrects: bool = True,
    ) -> None:
        super().__init__()
        block = 2**dims
        self.conditioning = conditioning
        self.mask_stride = mask_stride
        # The records were made with the discrepancy of every step and all voxels decided.
        self.estimate_tolerance = 0.0
        self.trusts_coarse_head = False
        self.sees_discrepancy = conditioning == "discrepancy"
        inputs = channels * (block if mask_stride == 1 else 1) + block * self.sees_discrepancy
        self.enter = Pointwise(inputs, width)
        self.time = TimeEmbedding(4 * width)
        self.half_block = ResidualBlock(dims, width, condition=4 * width)
        self.down = Coarsen(dims, width, 2 * width)
        self.quarter_block = ResidualBlock(dims, 2 * width, condition=4 * width)
        self.up = Refine(dims, 2 * width, width)
        self.joined = ConvolutionBlock(dims, width, width)
        if conditioning in ("discrepancy", "concat"):
            self.see_half = Pointwise(image_widths[1], width)
            self.see_quarter = Pointwise(image_widths[2], 2 * width)
        if conditioning == "cross_attention":
            self.attend = CrossAttention(dims, 2 * width, image_widths[-1])
        self.step_head = Pointwise(width, classes) if mask_stride == 2 else None
        self.fine_head = FineHead(dims, width, image_widths[0], classes, blocks=0)
        if corrects:
            begin_at_zero(self.step_head, self.fine_head.logits)

    def conditions(self, encoding: Encoding, *, coarse_prior: bool = True) -> Conditions:
        """Project the image features once, for all steps and samples."""
        seen = self.conditioning in ("discrepancy", "concat")
        attends = self.conditioning == "cross_attention"
        prior = fine_prior = None
        if coarse_prior:
            # The denoiser corrects the coarse head but must not bend it.
            fine_prior = encoding.coarse_logits.detach()
            prior = fine_prior if self.mask_stride == 1 else pooled_logits(fine_prior)
        stem = encoding.stem
        return Conditions(
            torch.zeros_like(stem) if self.conditioning == "none" else stem,
            self.see_half(encoding.pyramid[0]) if seen else None,
            self.see_quarter(encoding.pyramid[1]) if seen else None,
            self.attend.tokens(encoding.pyramid[-1]) if attends else None,
            prior,
            fine_prior,
        )

    def forward(
        self,
        x_t: Mask,
        log_snr: PerItem,
        conditions: Conditions,
        D: Tensor | None,
        *,
        add_prior: bool = True,
    ) -> tuple[ClassMap, Tensor]:
        """Return the output on the mask's grid and hidden features.

        The output is logits of the clean mask, or for a model that is trained so, the noise.

        Args:
            D: folded discrepancy map of the estimate so far, for that conditioning.
            add_prior: whether the output is added to the coarse logits, where there are any.
        """
        parts = [fold(x_t) if self.mask_stride == 1 else x_t]
        if self.sees_discrepancy:
            if D is None:
                raise ValueError("conditioning by discrepancy needs the discrepancy map")
            # Beyond some size a discrepancy says "wrong" and nothing more.
            parts.append(1 - torch.exp(-D))
        x = self.enter(channels_last(torch.cat(parts, dim=1)))
        if conditions.half is not None:
            x = x + conditions.half
        time = self.time(log_snr)
        x = self.half_block(x, time)
        y = self.down(x)
        if conditions.quarter is not None:
            y = y + conditions.quarter
        y = self.quarter_block(y, time)
        if conditions.tokens is not None:
            y = self.attend(y, conditions.tokens)
        hidden = self.joined(x + self.up(y))
        if not add_prior:
            return self.fine_head(hidden, conditions.stem), hidden
        if self.step_head is None:
            return fine_logits(self.fine_head, hidden, conditions), hidden
        logits: Tensor = self.step_head(hidden)
        return logits if conditions.prior is None else logits + conditions.prior, hidden


def begin_at_zero(*heads: nn.Linear | None) -> None:
    """Have heads say what the coarse head says, before training.

    Not where there is no coarse head to start from: then a zero start kept rare
    classes at nothing for a thousand steps (docs/decisions.md).
    """
    for head in heads:
        if head is not None:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)


def fine_logits(
    head: nn.Module, hidden: Tensor, conditions: Conditions, voxels: Tensor | None = None
) -> ClassMap:
    """Return class logits on the image grid, from the hidden features of the last step.

    With ``voxels``, places on the flattened grid (``n``) that the prior is of, logits ``b k n``.
    """
    logits: Tensor = head(hidden, conditions.stem, voxels)
    prior = conditions.prior_logits
    return logits if prior is None else logits + prior


def pooled_logits(logits: ClassMap) -> MaskGridMap:
    """Return the log of the class probabilities averaged over 2-voxel blocks."""
    return block_means(class_probabilities(logits)).clamp_min(1e-6).log()
