"""What a scanner and its user do to an image: bias, blur, thick slices, noise, ghosts, cuts.

Every function takes ``image`` with axes i j k and returns a new tensor of the same shape; random
ones draw first, then apply.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from ddmseg.imaging.synthesis.deform import Image3D, Mask3D, upsample
from ddmseg.randomness import draw_integer, draw_uniform

POOR = ("thick", "noise", "motion", "low")  # ways in which an acquisition is poor, see ``degrade``
THICK_MM = (3.0, 6.0)  # range of the thickness of thick slices
STRONG_NOISE = 0.25  # largest standard deviation, where white matter is about 1 in a T1
STRONG_BLUR_MM = (1.0, 2.5)
"""Range of the standard deviation of the blur of a scan of low resolution."""
MOTION_MM = 4.0  # largest jump of the head


def smooth_field(
    generator: Generator, shape: tuple[int, int, int], *, points: tuple[int, int, int]
) -> Image3D:
    """Draw standard normal control points and interpolate them linearly to ``shape``."""
    control = torch.randn(1, 1, *points, generator=generator, device=generator.device)
    return upsample(control, shape)[0, 0]


def multiply_bias(
    image: Image3D, generator: Generator, *, largest_std: float, points: int = 4
) -> Image3D:
    """Multiply by exp of a smooth field; its standard deviation is at most ``largest_std``."""
    std = draw_uniform(generator, 0.0, largest_std)
    field = torch.randn(1, 1, points, points, points, generator=generator, device=image.device)
    smooth = functional.avg_pool3d(functional.pad(field, (1,) * 6, mode="replicate"), 2, 1)
    return image * upsample((2 * std * smooth).exp(), tuple(image.shape))[0, 0]


def blur(image: Image3D, sigma_voxels: tuple[float, float, float]) -> Image3D:
    """Convolve with a Gaussian, one axis at a time; an axis with sigma 0 is left alone."""
    batch = image[None, None]
    for axis, sigma in enumerate(sigma_voxels):
        if sigma < 0.15:  # the outer weights would be below 1e-9
            continue
        radius = max(1, math.ceil(2.5 * sigma))
        steps = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        weights = torch.exp(-0.5 * (steps / sigma) ** 2)
        shape, padding = [1, 1, 1, 1, 1], [0] * 6
        shape[axis + 2] = -1
        padding[4 - 2 * axis] = padding[5 - 2 * axis] = radius  # torch pads the last axis first
        padded = functional.pad(batch, padding, mode="replicate")
        batch = functional.conv3d(padded, (weights / weights.sum()).view(shape))
    return batch[0, 0]


def thicken_slices(image: Image3D, *, axis: int, factor: float) -> Image3D:
    """Average to slices ``factor`` voxels thick along ``axis`` and interpolate back."""
    size = list(image.shape)
    count = max(1, round(size[axis] / factor))
    thick = [*size[:axis], count, *size[axis + 1 :]]
    averaged = functional.interpolate(image[None, None], size=thick, mode="area")
    back = functional.interpolate(averaged, size=size, mode="trilinear", align_corners=False)
    return back[0, 0]


def add_noise(image: Image3D, generator: Generator, *, std: float) -> Image3D:
    """Return the magnitude of the image with complex normal noise (Rician).

    Source: Gudbjartsson and Patz 1995, eq. 1.
    """
    noise = std * torch.randn(2, *image.shape, generator=generator, device=image.device)
    return torch.hypot(image + noise[0], noise[1])


def add_ghosts(image: Image3D, generator: Generator) -> Image3D:
    """Add faint copies shifted along the phase axis, as periodic motion leaves them."""
    axis = draw_integer(generator, 0, 3)
    copies = draw_integer(generator, 2, 6)
    strength = draw_uniform(generator, 0.02, 0.12)
    shift = max(1, image.shape[axis] // copies)
    ghosts = torch.roll(image, shift, axis) + torch.roll(image, -shift, axis)
    return image + strength * ghosts


def add_motion(image: Image3D, generator: Generator, *, largest_voxels: float) -> Image3D:
    """Let the head jump while a band of k-space lines is read.

    A shift is a linear phase, here of a random band of lines of the phase axis that leaves out the
    centre; the magnitude is returned.
    """
    axis = draw_integer(generator, 0, 3)
    shift = draw_uniform(generator, 0.5, 1.0) * largest_voxels
    start = draw_uniform(generator, 0.08, 0.30)
    width = draw_uniform(generator, 0.05, 0.30)
    frequency = torch.fft.fftfreq(image.shape[axis], device=image.device)
    moved = (frequency > start) & (frequency < start + width)
    phase = torch.where(moved, 2 * math.pi * frequency * shift, torch.zeros_like(frequency))
    view = [1, 1, 1]
    view[axis] = -1
    spectrum = torch.fft.fft(image, dim=axis)
    turned = spectrum * torch.polar(torch.ones_like(phase), phase).view(view)
    moved_image: Tensor = torch.fft.ifft(turned, dim=axis)
    return moved_image.abs()


def degrade(
    image: Image3D, kind: str, generator: Generator, *, spacing_mm: Sequence[float]
) -> Image3D:
    """Return a normalised image (white matter about 1 in a T1) as a poor acquisition would give it.

    ``kind`` is one of ``POOR``: slices of 3 to 6 mm along any axis, noise, a jump of the head, or
    blur as of a low resolution. ``spacing_mm`` is the voxel edge along each axis.
    """
    if kind == "thick":
        axis = draw_integer(generator, 0, 3)
        factor = draw_uniform(generator, *THICK_MM) / spacing_mm[axis]
        return thicken_slices(image, axis=axis, factor=max(1.0, factor))
    if kind == "noise":
        # Squared, because most scans have little noise.
        std = STRONG_NOISE * draw_uniform(generator, 0.0, 1.0) ** 2
        return add_noise(image, generator, std=std)
    if kind == "motion":
        return add_motion(image, generator, largest_voxels=MOTION_MM / min(spacing_mm))
    i, j, k = (draw_uniform(generator, *STRONG_BLUR_MM) / edge for edge in spacing_mm)
    return blur(image, (i, j, k))


def stripped_brain(
    brain: Mask3D, generator: Generator, *, spacing_mm: float, range_mm: tuple[float, float]
) -> Image3D:
    """Return an imperfect brain mask in [0, 1], as a skull-stripping tool would give it.

    The mask is blurred and cut at a threshold that wanders smoothly, so that it reaches too far
    here (some CSF or skull is left) and too short there. ``range_mm`` bounds the shift of its edge:
    negative erodes, positive dilates.
    """
    sigma_mm = max(2.0, *(abs(edge) for edge in range_mm))
    sigma = sigma_mm / spacing_mm
    shift_mm = draw_uniform(generator, *range_mm)
    wander_mm = draw_uniform(generator, 0.0, 1.5)
    i, j, k = brain.shape
    field = smooth_field(generator, (i, j, k), points=(6, 6, 6))
    depth = (shift_mm + wander_mm * field) / sigma_mm
    # A blurred half-space is the normal distribution of the depth over sigma.
    threshold = torch.special.ndtr(-depth).clamp_(0.02, 0.98)
    softness = 4 * sigma  # about one voxel from 0 to 1
    blurred = blur(brain.float(), (sigma, sigma, sigma))
    distance: Tensor = (blurred - threshold) * softness
    return distance.add_(0.5).clamp_(0, 1)


def field_of_view(
    shape: tuple[int, int, int], generator: Generator, *, lowest: float, largest_tilt: float = 0.35
) -> Mask3D:
    """Return what is kept of a patch whose lower part is cut off by an oblique plane.

    It meets the k axis between the fraction ``lowest`` of its length below and half that.
    """
    height = draw_uniform(generator, 0.0, lowest)
    tilt = [draw_uniform(generator, -largest_tilt, largest_tilt) for _ in range(2)]
    axes = [torch.linspace(-0.5, 0.5, count, device=generator.device) for count in shape]
    plane = tilt[0] * axes[0][:, None, None] + tilt[1] * axes[1][None, :, None]
    return axes[2][None, None, :] + 0.5 >= height + plane
