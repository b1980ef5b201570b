"""Building blocks that work in 2-D and 3-D alike.

Tensors keep channels last in memory: on a CPU this makes a linear map over the
channels a plain matrix product, many times faster than a 1x1x1 convolution, and
resampling by factor 2 a reshape with such a map instead of an interpolation.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ddmseg.maths.double import on_apple_gpu
from ddmseg.networks.normalisation import Normalisation

SLAB_VOXELS = 32
"""Voxels along the first axis whose block means are made at once, an even number."""


class Convolution3d(nn.Conv3d):
    """A 3-D convolution that always takes the fast CPU kernel.

    For one item with few voxels torch picks a kernel some ten times slower (its
    choice looks at channels times two axes only), so oneDNN is asked by name. In bfloat16 the
    gradient of its weights is wrong where the first axis has two voxels (torch 2.13), so there
    single precision is kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        if x.device.type != "cpu" or recorded():
            return super().forward(x)
        if torch.is_autocast_enabled("cpu"):  # which does not reach kernels called by name
            if x.shape[2] != 2:
                return super().forward(x)
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        named = x.dtype == torch.float32 and self.padding_mode == "zeros" and _onednn()
        if not named or isinstance(self.padding, str):
            return super().forward(x)
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def recorded() -> bool:
    """Say whether the call is traced, compiled or exported, where names of kernels do harm."""
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return bool(traced) or torch.compiler.is_compiling()


def _onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: Convolution3d}


def channels_last(x: Tensor) -> Tensor:
    """Return x with its channels adjacent in memory, the values unchanged.

    On Apple's GPU as torch has them by default: its 3-D convolutions know no other layout.
    """
    if on_apple_gpu(x):
        return x.contiguous()
    form = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    return x.contiguous(memory_format=form)


def fold(x: Tensor, factor: int = 2) -> Tensor:
    """Move each block of ``factor`` voxels a side into the channels.

    ``b c *grid`` becomes ``b (block c) *coarser``; the inverse of :func:`unfold`.
    """
    dims = x.dim() - 2
    y = x.movedim(1, -1)
    for axis in range(dims, 0, -1):
        y = torch.unflatten(y, axis, (-1, factor))
    y = y.permute(0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), -1)
    return y.flatten(dims + 1).movedim(-1, 1)


def unfold(x: Tensor, factor: int = 2) -> Tensor:
    """Spread the channels over blocks of ``factor`` voxels a side; undoes :func:`fold`."""
    dims = x.dim() - 2
    y = torch.unflatten(x.movedim(1, -1), -1, (factor,) * dims + (-1,))
    pairs = ((axis, dims + axis) for axis in range(1, dims + 1))
    y = y.permute(0, *itertools.chain.from_iterable(pairs), -1)
    for axis in range(1, dims + 1):
        y = y.flatten(axis, axis + 1)
    return y.movedim(-1, 1)


def class_probabilities(logits: Tensor) -> Tensor:
    """Return the softmax over the channels, in the memory layout that the network computes in.

    torch's softmax over an axis other than the last writes its own layout: it takes
    three times as long here, and whoever looks for the largest class as long again.
    """
    return torch.softmax(logits.movedim(1, -1), dim=-1).movedim(-1, 1)


def log_probabilities(p: Tensor) -> Tensor:
    """Return the logarithm of probabilities: logits that stand for them."""
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def block_means(x: Tensor) -> Tensor:
    """Return the means over 2-voxel blocks: ``b c *grid`` to ``b c *(grid / 2)``.

    Average pooling, but for the memory layout, which stays as it is: 15 times as fast
    where the channels are last. Slab by slab: class maps of a head are the largest arrays there
    are, and half of one more would stand beside it.
    """
    return torch.cat([_slab_means(slab) for slab in torch.split(x, SLAB_VOXELS, dim=2)], dim=2)


def _slab_means(x: Tensor) -> Tensor:
    dims = x.dim() - 2
    for axis in range(2, 2 + dims):
        pairs = torch.unflatten(x, axis, (-1, 2))
        x = pairs.select(axis + 1, 0) + pairs.select(axis + 1, 1)
    return cast(Tensor, x / 2**dims)


def at_voxels(x: Tensor, voxels: Tensor) -> Tensor:
    """Return ``b c n``: x (``b c *grid``) at places on its flattened grid, channels adjacent."""
    rows = x.movedim(1, -1).flatten(1, -2)
    return rows[:, voxels].movedim(-1, 1)


class Pointwise(nn.Linear):
    """Linear map over the channels of each voxel: ``b c *grid`` to ``b c' *grid``."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map."""
        return F.linear(x.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)


class Coarsen(nn.Module):
    """Halve the grid: fold blocks into channels, then mix them."""

    def __init__(self, dims: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.mix = Pointwise(channels_in * 2**dims, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``b channels_out *(grid / 2)``."""
        return cast(Tensor, self.mix(fold(x)))


class Refine(nn.Module):
    """Double the grid: each voxel predicts its block."""

    def __init__(self, dims: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.mix = Pointwise(channels_in, channels_out * 2**dims)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``b channels_out *(grid * 2)``."""
        return unfold(self.mix(x))


class ConvolutionBlock(nn.Module):
    """Convolution (3 voxels wide), normalisation, leaky ReLU."""

    def __init__(self, dims: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution: nn.Module = CONVOLUTIONS[dims](
            channels_in, channels_out, 3, padding=1, bias=False
        )
        self.norm: nn.Module = Normalisation(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``b channels_out *grid``."""
        return F.leaky_relu(self.norm(self.convolution(x)), 0.01)


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity, optionally modulated by a vector.

    Source: He et al. 2016, arXiv 1603.05027; modulation as in Perez et al. 2018,
    arXiv 1709.07871 (FiLM).
    """

    def __init__(self, dims: int, channels: int, *, condition: int = 0) -> None:
        super().__init__()
        self.first = ConvolutionBlock(dims, channels, channels)
        self.second: nn.Module = CONVOLUTIONS[dims](channels, channels, 3, padding=1, bias=False)
        self.norm: nn.Module = Normalisation(channels)
        self.modulation = nn.Linear(condition, 2 * channels) if condition else None
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return a tensor shaped like x."""
        y = self.norm(self.second(self.first(x)))
        if self.modulation is not None and condition is not None:
            gain, shift = self.modulation(condition).chunk(2, dim=1)
            room = (1,) * (x.dim() - 2)
            y = y * (1 + gain.reshape(*gain.shape, *room)) + shift.reshape(*shift.shape, *room)
        return F.leaky_relu(x + y, 0.01)


def fold_statistics(network: nn.Module) -> None:
    """Fold all batch normalisations of a network in eval mode into its convolutions."""
    for layer in list(network.modules()):
        name = {ConvolutionBlock: "convolution", ResidualBlock: "second"}.get(type(layer))
        if name and isinstance(layer.norm, (nn.BatchNorm2d, nn.BatchNorm3d)):
            convolution: Any = getattr(layer, name)
            setattr(layer, name, fuse_conv_bn_eval(convolution, layer.norm))
            layer.norm = nn.Identity()


class TimeEmbedding(nn.Module):
    """Fourier features of the log-SNR, mixed by a small network.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.5; log-SNR as the
    input follows Kingma et al. 2021, arXiv 2107.00630.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequencies = width // 2
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, log_snr: Tensor) -> Tensor:
        """Return ``b width`` for one log-SNR an item."""
        steps = torch.arange(self.frequencies, device=log_snr.device, dtype=torch.float32)
        rates = torch.exp(-math.log(100.0) * steps / self.frequencies)
        angles = log_snr.float()[:, None] * rates
        return cast(Tensor, self.mix(torch.cat([angles.sin(), angles.cos()], dim=1)))
