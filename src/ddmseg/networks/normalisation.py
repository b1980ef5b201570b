"""Normalisation of features: over the grid in view, by running statistics, or voxel by voxel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Normalisation(nn.GroupNorm):
    """Instance normalisation: each channel by itself, over the grid.

    torch's gradient of it takes ten times as long for channels-last tensors on a CPU as that of
    batch normalisation, item by item, so that one is called.

    Source: Ulyanov et al. 2016, arXiv 1607.08022.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Tensor) -> Tensor:
        """Return a tensor shaped like the input."""
        ours = input.device.type == "cpu" and input.requires_grad and torch.is_grad_enabled()
        if not ours or torch.compiler.is_compiling():
            # Not by way of nn.functional, which refuses a grid of one voxel.
            return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
        arguments = (input, self.weight, self.bias, self.eps)
        return cast(Tensor, _EachChannel.apply(*arguments))  # type: ignore[no-untyped-call]


class EachVoxel(nn.LayerNorm):
    """Normalisation over the channels of each voxel: the same whatever else is in view.

    Source: Ba et al. 2016, arXiv 1607.06450.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return a tensor shaped like the input (``b c *grid``)."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


BATCH_NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MOMENTUM = 0.02
"""Of the running statistics: one patch a step is a small batch."""


def batch_statistics(channels: int, dims: int) -> nn.Module:
    """Make batch normalisation. Source: Ioffe and Szegedy 2015, arXiv 1502.03167."""
    make: type[nn.Module] = BATCH_NORMS[dims]
    return make(channels, momentum=MOMENTUM)


def normalise_with(network: nn.Module, make: Callable[[int], nn.Module]) -> None:
    """Put what is made of a number of channels in the place of every :class:`Normalisation`."""
    for name, layer in network.named_children():
        if isinstance(layer, Normalisation):
            setattr(network, name, make(layer.num_channels))
        else:
            normalise_with(layer, make)


class _EachChannel(torch.autograd.Function):
    """y = w (x - mean) / deviation + b for each item and channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        items, channels = x.shape[:2]
        y, mean, rate = torch.native_group_norm(
            x, weight, bias, items, channels, math.prod(x.shape[2:]), channels, eps
        )
        ctx.save_for_backward(x, weight, mean, rate)
        ctx.eps = eps
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """A batch of one item, normalised by its own statistics, is batch normalisation."""
        x, weight, mean, rate = ctx.saved_tensors
        mean, rate = mean.to(weight.dtype), rate.to(weight.dtype)
        of_items = zip(torch.split(upstream, 1), torch.split(x, 1), mean, rate, strict=True)
        parts = [
            torch.ops.aten.native_batch_norm_backward(
                g, item, weight, None, None, m, r, True, ctx.eps, (True, True, True)
            )
            for g, item, m, r in of_items
        ]
        dx, of_weight, of_bias = zip(*parts, strict=True)
        return torch.cat(dx), sum(of_weight), sum(of_bias), None
