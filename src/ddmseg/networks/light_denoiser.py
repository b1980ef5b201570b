"""s_theta in its light form: 50 steps of it cost a few passes of the image encoder.

The image is encoded once, but the denoiser runs at every step of every sample, so that what
it costs is what diffusion costs. This form computes on the mask's own grid only what must
be there, looks around on half of it, and says the code of the mask instead of its classes:
6 numbers a voxel for 33 classes. The discrepancy it sees is one number a mask voxel, of the
features averaged over the block of image voxels that the mask voxel covers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddmseg.maths.encoding import MaskEncoding
from ddmseg.networks.blocks import (
    Coarsen,
    Pointwise,
    Refine,
    ResidualBlock,
    TimeEmbedding,
    block_means,
    channels_last,
)
from ddmseg.networks.denoiser import Conditions, begin_at_zero
from ddmseg.networks.image_encoder import Encoding, FeatureEncoder
from ddmseg.networks.normalisation import Normalisation
from ddmseg.types import Mask, PerItem


class LightDenoiser(nn.Module):
    """Pointwise on the mask's grid, half the image grid, and one residual block on half of that.

    Its output is logits of the code's bits (``b m *mask grid``), see ``MaskEncoding``. In
    sampling, the discrepancy is computed anew when the estimate has moved by more than
    ``estimate_tolerance`` of a clean mask's size, mean over voxels and channels, and where the
    coarse head is sure no sample is asked (``trusts_coarse_head``).
    """

    conditioning = "discrepancy"
    sees_discrepancy = True
    estimate_tolerance = 1e-3
    trusts_coarse_head = True

    def __init__(
        self,
        dims: int,
        mask_encoding: MaskEncoding,
        encoder: FeatureEncoder,
        *,
        width: int = 16,
        corrects: bool = True,
    ) -> None:
        super().__init__()
        channels, classes = mask_encoding.channels, mask_encoding.classes
        self.mask_encoding = mask_encoding
        self.enter = Pointwise(channels + 1, width)
        self.see_half = Pointwise(encoder.pyramid_widths[0], width)
        self.see_quarter = Pointwise(encoder.pyramid_widths[1], width)
        self.time = TimeEmbedding(4 * width)
        self.down = Coarsen(dims, width, width)
        self.quarter_block = ResidualBlock(dims, width, condition=4 * width)
        self.up = Refine(dims, width, width)
        self.norm = Normalisation(width)
        self.step_head = Pointwise(width, channels)
        self.fine_head = encoder.fine_head(dims, width, classes)
        if corrects:
            begin_at_zero(self.step_head, self.fine_head.logits)

    def conditions(self, encoding: Encoding, *, coarse_prior: bool = True) -> Conditions:
        """Project the image features once, for all steps and samples."""
        prior = fine_prior = None
        if coarse_prior:
            # The denoiser corrects the coarse head but must not bend it.
            fine_prior = encoding.coarse.detach()
            expected = block_means(encoding.coarse_probabilities.detach())
            prior = self.mask_encoding.logits_of(self.mask_encoding.of_probabilities(expected))
        return Conditions(
            encoding.stem,
            self.see_half(encoding.pyramid[0]),
            self.see_quarter(encoding.pyramid[1]),
            prior=prior,
            fine_prior=fine_prior,
            embedding=encoding.block_features,
            decided=encoding.decided,
        )

    def forward(
        self,
        x_t: Mask,
        log_snr: PerItem,
        conditions: Conditions,
        D: Tensor | None,
        *,
        add_prior: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Return logits of the code on the mask's grid, and hidden features, as ``Denoiser`` does.

        D has one channel.
        """
        if D is None:
            raise ValueError("conditioning by discrepancy needs the discrepancy map")
        # Beyond some size a discrepancy says "wrong" and nothing more.
        x = self.enter(channels_last(torch.cat([x_t, 1 - torch.exp(-D)], dim=1)))
        if conditions.half is not None:
            x = x + conditions.half
        y = self.down(x)
        if conditions.quarter is not None:
            y = y + conditions.quarter
        y = self.quarter_block(y, self.time(log_snr))
        hidden = F.leaky_relu(self.norm(x + self.up(y)), 0.01)
        said = self.step_head(hidden)
        if add_prior and conditions.prior is not None:
            said = said + conditions.prior
        return said, hidden
