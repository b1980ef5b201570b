"""Eight ways in which a scan comes out bad, each in five levels, for tests of robustness.

Every artefact is a function of an image, a strength and a generator.  What is drawn does not
depend on the strength: the same generator gives the same pattern, only stronger, so that
levels can be compared.  Strengths are for images that are normalised to about [0, 1].

Letters: k-space is the Fourier transform of the image; its lines along one axis, the phase
axis, are read one after the other, so that what happens between two lines mixes there.

Sources: Shaw et al. 2019, MIDL (motion as segments of k-space); Axel et al. 1986, AJR
146:855 (periodic modulation and ghosts).  Bias field, Rician noise, spikes, low resolution
and gamma are MONAI's transforms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from ddmseg.randomness import draw_integer, draw_uniform

Image3D = Float[Tensor, "c i j k"]

Apply = Callable[[Image3D, float, Generator, int], Image3D]
"""``apply(image, strength, generator, slice_axis)`` gives the worse image."""

LEVELS = 5  # levels of each artefact above 0, which is the image as it is
MOVES = 4  # how often the head moves while k-space is read
VOXELS_PER_DEGREE = 0.5  # a pose turned by so many degrees is shifted by this times as many voxels
CENTRE_SHARE = 0.02  # of the lines, in the middle of k-space, that ghosting leaves alone
SPIKES = 3


@dataclass(frozen=True)
class Artefact:
    """One artefact, with its strengths at the levels 1 to 5."""

    title: str
    strengths: tuple[float, ...]
    unit: str
    apply: Apply


def degrade(
    image: Image3D, name: str, level: int, generator: Generator, *, slice_axis: int = 1
) -> Image3D:
    """Return the image, normalised to about [0, 1], with one artefact; level 0 is an equal image.

    Equal generators give equal patterns at every level. Slices are stacked along ``slice_axis``.
    """
    if level == 0:
        return image.clone()
    artefact = ARTEFACTS[name]
    return artefact.apply(image, artefact.strengths[level - 1], generator, slice_axis)


def motion(image: Image3D, degrees: float, generator: Generator, slice_axis: int) -> Image3D:
    """Read segments of k-space from the head in different poses.

    The segment with the middle of k-space keeps the pose that the labels were drawn in,
    so that they still fit.
    """
    axis = 1 + draw_integer(generator, 0, 3)
    lines = image.shape[axis]
    breaks = (torch.rand(MOVES, generator=generator) * lines).long().sort().values
    poses = 2 * torch.rand(MOVES + 1, 2, 3, generator=generator) - 1
    segment = torch.bucketize(torch.arange(lines), breaks, right=True)
    spectrum = _spectrum(image, axis)
    mixed = spectrum.clone()
    for number, (turn, shift) in enumerate(poses):
        inside = segment == number
        if number == int(segment[lines // 2]) or not inside.any():
            continue
        moved = _posed(image, degrees * turn, degrees * VOXELS_PER_DEGREE * shift)
        mixed = torch.where(_along(inside, axis, image), _spectrum(moved, axis), mixed)
    return _magnitude(mixed, axis)


def ghosting(image: Image3D, share: float, generator: Generator, slice_axis: int) -> Image3D:
    """Weaken every n-th line of k-space by a share, as a periodic movement does."""
    axis = 1 + draw_integer(generator, 0, 3)
    period = draw_integer(generator, 2, 5)
    lines = image.shape[axis]
    number = torch.arange(lines)
    # The middle line is the mean: without it the whole image would be darker, not ghosted.
    weakened = (number % period == 0) & ((number - lines // 2).abs() > CENTRE_SHARE * lines)
    gain = torch.where(weakened, 1 - share, 1.0)
    return _magnitude(_spectrum(image, axis) * _along(gain, axis, image), axis)


def missing_slices(image: Image3D, share: float, generator: Generator, slice_axis: int) -> Image3D:
    """Set a share of the slices to 0; those of a lower level are among those of a higher."""
    slices = image.shape[1 + slice_axis]
    lost = torch.randperm(slices, generator=generator)[: max(1, round(share * slices))]
    return image.index_fill(1 + slice_axis, lost.to(image.device), 0.0)


def bias_field(image: Image3D, size: float, generator: Generator, slice_axis: int) -> Image3D:
    """Multiply by exp of a polynomial of degree 3 whose coefficients lie within ``size``."""
    make = _monai().RandBiasField(degree=3, coeff_range=(-size, size), prob=1.0)
    return _applied(make, image, generator)


def noise(image: Image3D, std: float, generator: Generator, slice_axis: int) -> Image3D:
    """Add noise to both channels and take the magnitude: Rician noise."""
    return _applied(_monai().RandRicianNoise(prob=1.0, std=std, sample_std=False), image, generator)


def spikes(image: Image3D, share: float, generator: Generator, slice_axis: int) -> Image3D:
    """Raise three points of k-space to a share of its highest, which lies in the middle."""
    places = []
    for _ in range(SPIKES):
        sides = torch.where(torch.rand(3, generator=generator) < 0.5, -1, 1)
        reach = 0.1 + 0.3 * torch.rand(3, generator=generator)
        away = sides * reach
        at = [int(n * (0.5 + float(r))) for n, r in zip(image.shape[1:], away, strict=True)]
        places.append(tuple(at))
    peak = torch.fft.fftn(image, dim=(1, 2, 3)).abs().max()
    height = math.log(share * float(peak))
    make = _monai().KSpaceSpikeNoise(tuple(places), k_intensity=[height] * SPIKES)
    return _plain(make(image))


def low_resolution(image: Image3D, factor: float, generator: Generator, slice_axis: int) -> Image3D:
    """Average to voxels ``factor`` times as long and interpolate back."""
    zoom = (1 / factor, 1 / factor)
    make = _monai().RandSimulateLowResolution(prob=1.0, downsample_mode="area", zoom_range=zoom)
    return _applied(make, image, generator)


def gamma(image: Image3D, size: float, generator: Generator, slice_axis: int) -> Image3D:
    """Raise the intensities to the power exp(size) or exp(-size), either by chance."""
    sign = 1 if draw_uniform(generator, -1.0, 1.0) > 0 else -1
    return _plain(_monai().AdjustContrast(math.exp(sign * size))(image))


ARTEFACTS: dict[str, Artefact] = {
    "motion": Artefact("motion", (1, 2, 4, 6, 10), "largest turn, degrees", motion),
    "ghosting": Artefact("ghosting", (0.15, 0.3, 0.45, 0.6, 0.8), "share of lines", ghosting),
    "bias_field": Artefact("bias field", (0.1, 0.2, 0.3, 0.45, 0.6), "coefficients", bias_field),
    "noise": Artefact("noise", (0.05, 0.1, 0.15, 0.2, 0.3), "standard deviation", noise),
    "spikes": Artefact("spikes", (0.1, 0.2, 0.4, 0.6, 1.0), "share of the peak", spikes),
    "low_resolution": Artefact("low resolution", (1.5, 2, 2.5, 3, 4), "factor", low_resolution),
    "missing_slices": Artefact(
        "missing slices", (0.05, 0.1, 0.2, 0.3, 0.4), "share", missing_slices
    ),
    "gamma": Artefact("gamma", (0.15, 0.3, 0.5, 0.7, 1.0), "log of the power", gamma),
}
"""All artefacts by name."""


def _posed(image: Image3D, degrees: Tensor, shift: Tensor) -> Image3D:
    """Turn about the middle, then shift by voxels; the edge goes on outside."""
    shape = image.shape[1:]
    turn = torch.eye(3)
    for angle, (a, b) in zip(degrees.deg2rad(), itertools.combinations(range(3), 2), strict=True):
        one = torch.eye(3)
        one[a, a] = one[b, b] = angle.cos()
        one[a, b], one[b, a] = -angle.sin(), angle.sin()
        turn = one @ turn
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ turn.T + shift
    # grid_sample counts from -1 to 1 and wants the last axis first.
    grid = (2 * points / torch.tensor(shape)).flip(-1)[None].to(image)
    moved: Tensor = F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
    return moved[0]


def _spectrum(image: Image3D, axis: int) -> Tensor:
    spectrum: Tensor = torch.fft.fftshift(torch.fft.fft(image, dim=axis), dim=axis)
    return spectrum


def _magnitude(spectrum: Tensor, axis: int) -> Image3D:
    image = torch.fft.ifft(torch.fft.ifftshift(spectrum, dim=axis), dim=axis)
    magnitude: Tensor = image.abs()
    return magnitude


def _along(values: Tensor, axis: int, image: Image3D) -> Tensor:
    """Give a line of values the shape that goes along one axis of the image."""
    shape = [1] * image.dim()
    shape[axis] = -1
    return values.reshape(shape).to(image.device)


def _applied(transform: Any, image: Image3D, generator: Generator) -> Image3D:
    """Apply one of MONAI's random transforms, seeded from the generator."""
    transform.set_random_state(seed=draw_integer(generator, 0, 2**31))
    return _plain(transform(image))


def _plain(image: Tensor) -> Image3D:
    """Take MONAI's metadata off."""
    plain: Tensor = image.as_subclass(Tensor)
    return plain.to(torch.float32)


def _monai() -> Any:
    """Import MONAI's transforms, which takes seconds, only when one is made."""
    from monai import transforms

    return transforms
