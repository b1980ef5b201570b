"""Random changes of real training patches: pose, shape and intensities.

Draw, then apply: everything comes from the generator that is passed.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

ROTATION_DEG = 15.0
SCALING = 0.15
SHIFT_VOXELS = 3.0
WARP_VOXELS = 1.5
WARP_SPACING = 12


def augment(
    image: Tensor, labels: Tensor, patch: tuple[int, ...], classes: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Cut a posed, bent and re-lit patch about the middle of a 2-D or 3-D example.

    Args:
        image: normalised image, ``c i j k`` or ``c i j``; the first channel is the scan
            and is re-lit, others (maps made of it) only move along.
        labels: class indices, ``i j k`` or ``i j``.
        patch: voxels along each axis of the result.
        classes: number of classes, background included.
        generator: on the CPU.
    """
    grid = _positions(labels.shape, patch, generator)
    moved = F.grid_sample(image[None], grid, mode="bilinear", align_corners=False)[0]
    one_hot = F.one_hot(labels, classes).movedim(-1, 0)[None].float()
    shares = F.grid_sample(one_hot, grid, mode="bilinear", align_corners=False)
    lit = torch.cat([relight(moved[:1], generator), moved[1:]])
    return lit, shares[0].argmax(0)


def centre(image: Tensor, labels: Tensor, patch: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Cut or zero-pad to ``patch`` about the middle, without any change."""
    for axis, size in enumerate(patch):
        n = labels.shape[axis]
        before, after = (size - n) // 2, size - n - (size - n) // 2
        pads = [0, 0] * (len(patch) - 1 - axis) + [before, after]
        labels = F.pad(labels, pads)
        image = F.pad(image, pads)
    return image, labels


def _positions(shape: torch.Size, patch: tuple[int, ...], generator: Generator) -> Tensor:
    """Where each voxel of the patch lies in the example, in grid_sample's units."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    matrix, shift = _pose(len(patch), generator)
    points = points @ matrix.T + shift + _warp(patch, generator)
    half = torch.tensor([n / 2 for n in shape])
    # grid_sample wants the last axis first.
    return (points / half).flip(-1)[None]


def _pose(dims: int, generator: Generator) -> tuple[Tensor, Tensor]:
    planes = list(itertools.combinations(range(dims), 2))[::-1]  # by the axis left out
    angles = (torch.rand(len(planes), generator=generator) * 2 - 1) * math.radians(ROTATION_DEG)
    scales = 1 + (torch.rand(dims, generator=generator) * 2 - 1) * SCALING
    mirror = 1.0 if torch.rand((), generator=generator) < 0.5 else -1.0
    matrix = torch.diag(scales * torch.tensor([mirror, *[1.0] * (dims - 1)]))
    for (a, b), angle in zip(planes, angles, strict=True):
        turn = torch.eye(dims)
        turn[a, a] = turn[b, b] = angle.cos()
        turn[a, b], turn[b, a] = -angle.sin(), angle.sin()
        matrix = turn @ matrix
    shift = (torch.rand(dims, generator=generator) * 2 - 1) * SHIFT_VOXELS
    return matrix, shift


def _warp(patch: tuple[int, ...], generator: Generator) -> Tensor:
    knots = [max(2, n // WARP_SPACING + 1) for n in patch]
    strength = WARP_VOXELS * torch.rand((), generator=generator)
    field = torch.randn(1, len(patch), *knots, generator=generator) * strength
    smooth = F.interpolate(field, size=patch, mode=_LINEAR[len(patch)], align_corners=True)
    return smooth[0].movedim(0, -1)


def relight(image: Tensor, generator: Generator) -> Tensor:
    """Change gamma, gain, offset, a bias field, blur and noise of a normalised image."""
    dims = image.dim() - 1
    u = torch.rand(6, generator=generator)
    image = image.clamp_min(0) ** float(torch.exp((u[0] * 2 - 1) * 0.35))
    image = image * (1 + (u[1] * 2 - 1) * 0.2) + (u[2] * 2 - 1) * 0.1
    knots = torch.randn(1, 1, *[3] * dims, generator=generator) * (0.15 * u[3])
    bias = F.interpolate(knots, size=image.shape[1:], mode=_LINEAR[dims], align_corners=True)
    image = image * bias[0].exp()
    if u[4] < 0.2:
        pool = F.avg_pool3d if dims == 3 else F.avg_pool2d
        image = pool(image[None], 3, stride=1, padding=1)[0]
    return image + torch.randn(image.shape, generator=generator) * (0.06 * u[5])


_LINEAR = {2: "bilinear", 3: "trilinear"}
