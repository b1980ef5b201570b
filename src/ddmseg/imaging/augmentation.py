"""Random changes of real training patches: pose, shape and intensities.

Draw, then apply: everything comes from the generator that is passed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.imaging.synthesis.artefacts import POOR, degrade
from ddmseg.randomness import draw_chance, draw_integer

ROTATION_DEG = 15.0
SCALING = 0.15
SHIFT_VOXELS = 3.0
WARP_VOXELS = 1.5
WARP_SPACING = 12


def augment(
    image: Tensor,
    labels: Tensor,
    patch: tuple[int, ...],
    classes: int,
    generator: Generator,
    *,
    middle: Sequence[float] | None = None,
    scans: int = 1,
    mirrored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut a posed, bent and re-lit patch out of a 2-D or 3-D example.

    Args:
        image: normalised image, ``c i j k`` or ``c i j``.
        labels: class indices, ``i j k`` or ``i j``.
        patch: voxels along each axis of the result.
        classes: number of classes, background included.
        middle: voxel that the patch lies about; None for the middle of the example.
        scans: how many channels, from the first, are scans: each is re-lit by itself, and the
            others (maps made of them) only move along.
        mirrored: class that each becomes in the mirror of the first axis, left to right; None where
            classes have no sides.
    """
    matrix, shift = _pose(len(patch), generator)
    grid = _positions(labels.shape, patch, matrix, shift, generator, middle)
    moved = F.grid_sample(image[None], grid, mode="bilinear", align_corners=False)[0]
    found = _moved_labels(labels, classes, grid)
    if mirrored is not None and torch.linalg.det(matrix) < 0:
        found = mirrored[found]
    lit = [relight(moved[i : i + 1], generator) for i in range(scans)]
    return torch.cat([*lit, moved[scans:]]), found


def _moved_labels(labels: Tensor, classes: int, grid: Tensor) -> Tensor:
    """The class of the largest share at each position, the lower one of two equals.

    Class by class: the shares of many classes over a whole scan would not fit into memory.
    """

    def share(number: int) -> Tensor:
        here = (labels == number)[None, None].float()
        return F.grid_sample(here, grid, mode="bilinear", align_corners=False)[0, 0]

    largest = share(0)
    found = torch.zeros(largest.shape, dtype=torch.int64)
    present = torch.bincount(labels.flatten(), minlength=classes).nonzero().flatten().tolist()
    for number in present:
        if number:
            own = share(number)
            found[own > largest] = number
            largest = torch.maximum(largest, own)
    return found


def centre(image: Tensor, labels: Tensor, patch: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Cut or zero-pad to ``patch`` about the middle, without any change."""
    for axis, size in enumerate(patch):
        n = labels.shape[axis]
        before, after = (size - n) // 2, size - n - (size - n) // 2
        pads = [0, 0] * (len(patch) - 1 - axis) + [before, after]
        labels = F.pad(labels, pads)
        image = F.pad(image, pads)
    return image, labels


def _positions(
    shape: torch.Size,
    patch: tuple[int, ...],
    matrix: Tensor,
    shift: Tensor,
    generator: Generator,
    middle: Sequence[float] | None,
) -> Tensor:
    """Where each voxel of the patch lies in the example, in grid_sample's units."""
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    points = points @ matrix.T + shift + _warp(patch, generator)
    if middle is not None:
        points = points + torch.tensor(middle) - (torch.tensor(shape) - 1) / 2
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


def degraded(
    image: Tensor, share: float, spacing_mm: float, generator: Generator, *, scans: int = 1
) -> Tensor:
    """Return an image (``c i j k`` or ``c i j``) that is, by chance, one of a poor acquisition.

    Of all images ``share`` are made worse; nothing is drawn where that is 0. The first ``scans``
    channels are scans.
    """
    if not share or not draw_chance(generator, share):
        return image
    kind = POOR[draw_integer(generator, 0, len(POOR))]
    spacing = (spacing_mm,) * 3
    # A slice is a volume of one voxel along its third axis.
    volumes = image[:scans] if image.dim() == 4 else image[:scans, ..., None]
    worse = torch.stack([degrade(v, kind, generator, spacing_mm=spacing) for v in volumes])
    return torch.cat([worse.view_as(image[:scans]), image[scans:]])


_LINEAR = {2: "bilinear", 3: "trilinear"}
