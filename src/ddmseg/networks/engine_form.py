"""f^I written with the layers that inference engines know best, for ``ddmseg export``.

Our blocks resample by reshaping and mix channels by matrix products: quick in torch, but
exported they become chains of transpositions that engines execute one by one. The same
maps are convolutions of width 1 or 2; with these an engine keeps one memory layout from
input to output. Weights and values stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ddmseg.networks.block_head import BlockHead
from ddmseg.networks.blocks import Coarsen, Pointwise, Refine
from ddmseg.networks.image_encoder import Encoding, FeatureEncoder
from ddmseg.networks.normalisation import Normalisation

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class EngineForm(nn.Module):
    """The image encoder as one graph with plain tensors at both ends.

    Outputs keep their channels last (``b *grid c``): stem, embedding, coarse logits, then
    the pyramid from fine to coarse. See :func:`encoding_of`.

    Args:
        encoder: left as it is; the form works on a copy.
        dims: 2 or 3.
    """

    def __init__(self, encoder: FeatureEncoder, dims: int) -> None:
        super().__init__()
        self.encoder = _rewritten(copy.deepcopy(encoder), dims).eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode images (``b c *grid``)."""
        found: Encoding = self.encoder(image)
        parts = (found.stem, found.embedding, found.coarse_logits, *found.pyramid)
        return tuple(part.movedim(1, -1) for part in parts)


def output_names(levels: int) -> tuple[str, ...]:
    """Return the names of the outputs of an encoder with so many pyramid levels."""
    return ("stem", "embedding", "coarse_logits", *(f"pyramid{i}" for i in range(levels)))


def encoding_of(parts: list[Tensor]) -> Encoding:
    """Return the encoding that the outputs of :class:`EngineForm` stand for.

    The tensors share memory with the outputs and are channels last, as torch leaves them.
    """
    stem, embedding, coarse_logits, *pyramid = (part.movedim(-1, 1) for part in parts)
    return Encoding(stem, tuple(pyramid), embedding, coarse_logits)


class DoubledGrid(nn.Module):
    """A map to the voxels of each block as a transposed convolution.

    The bias differs within a block.
    """

    def __init__(self, layer: Pointwise, dims: int) -> None:
        super().__init__()
        outputs, channels_in = layer.weight.shape
        block = (2,) * dims
        channels_out = outputs // 2**dims
        self.convolution = TRANSPOSED[dims](channels_in, channels_out, 2, 2, bias=False)
        weight = layer.weight.detach().reshape(*block, channels_out, channels_in)
        bias = layer.bias.detach().reshape(*block, channels_out)
        weight = weight.permute(dims + 1, dims, *range(dims))
        self.convolution.load_state_dict({"weight": weight})
        self.register_buffer("bias", bias.movedim(-1, 0)[None].contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Return ``b channels_out *(grid * 2)``."""
        doubled: Tensor = self.convolution(x)
        return doubled + self.get_buffer("bias").repeat(1, 1, *x.shape[2:])


class WholeHead(nn.Module):
    """:class:`BlockHead` for all voxels at once, without its slabs."""

    def __init__(self, layer: BlockHead, dims: int) -> None:
        super().__init__()
        self.logits = DoubledGrid(layer.logits, dims)

    def forward(self, coarse: Tensor, stem: Tensor) -> Tensor:
        """Return ``b classes *(grid * 2)``."""
        return cast(Tensor, self.logits(torch.cat([coarse, stem], dim=1)))


class InstanceNormalisation(nn.Module):
    """:class:`Normalisation` of each channel by itself, which engines know by that name."""

    def __init__(self, layer: Normalisation) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor shaped like x."""
        # Not by way of nn.functional, which refuses a grid of one voxel.
        learnt = (self.weight, self.bias)
        return torch.instance_norm(x, *learnt, None, None, True, 0.0, self.eps, False)


def _rewritten(network: Any, dims: int) -> Any:
    """Put an equivalent convolution in the place of each of our linear maps."""
    for name, layer in network.named_children():
        build = _FORMS.get(type(layer))
        if build is None:
            _rewritten(layer, dims)
        else:
            setattr(network, name, build(layer, dims))
    return network


def _halved(layer: Coarsen, dims: int) -> nn.Module:
    channels_out, inputs = layer.mix.weight.shape
    channels_in = inputs // 2**dims
    weight = layer.mix.weight.detach().reshape(channels_out, *(2,) * dims, channels_in)
    convolution = CONVOLUTIONS[dims](channels_in, channels_out, 2, 2)
    return _filled(convolution, weight.movedim(-1, 1), layer.mix.bias)


def _pointwise(layer: Pointwise, dims: int) -> nn.Module:
    channels_out, channels_in = layer.weight.shape
    weight = layer.weight.detach().reshape(channels_out, channels_in, *(1,) * dims)
    return _filled(CONVOLUTIONS[dims](channels_in, channels_out, 1), weight, layer.bias)


def _filled(convolution: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    convolution.load_state_dict({"weight": weight, "bias": bias})
    return convolution


_FORMS: dict[type[nn.Module], Callable[[Any, int], nn.Module]] = {
    Coarsen: _halved,
    Refine: lambda layer, dims: DoubledGrid(layer.mix, dims),
    BlockHead: WholeHead,
    Pointwise: _pointwise,
    Normalisation: lambda layer, dims: InstanceNormalisation(layer),
}
