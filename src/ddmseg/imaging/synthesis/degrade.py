"""Real images made as bad as clinical scans are: thick slices, noise, motion, low resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Generator

from ddmseg.imaging.synthesis import artefacts
from ddmseg.imaging.synthesis.artefacts import Image3D
from ddmseg.randomness import draw_integer, draw_uniform

Degradation = Literal["thick", "noise", "motion", "low"]
DEGRADATIONS: tuple[Degradation, ...] = ("thick", "noise", "motion", "low")
SLICE_MM = (3.0, 6.0)
NOISE_STD = 0.25
"""Largest; most are far below, see :func:`degrade`."""
MOTION_MM = 4.0
"""Largest jump of the head."""
BLUR_MM = (1.0, 2.5)


def degrade(
    image: Image3D, kind: Degradation, spacing_mm: Sequence[float], generator: Generator
) -> Image3D:
    """Return an image with one kind of degradation, as strong as is drawn.

    Args:
        image: normalised, about 0 to 1 (``i j k``).
        spacing_mm: of its voxels.
        generator: on the CPU.
    """
    if kind == "thick":
        axis = draw_integer(generator, 0, 3)
        factor = draw_uniform(generator, *SLICE_MM) / spacing_mm[axis]
        return artefacts.thicken_slices(image, axis=axis, factor=max(1.0, factor))
    if kind == "noise":
        std = NOISE_STD * draw_uniform(generator, 0.0, 1.0) ** 2
        return artefacts.add_noise(image, generator, std=std)
    if kind == "motion":
        return artefacts.add_motion(image, generator, largest_voxels=MOTION_MM / min(spacing_mm))
    i, j, k = (draw_uniform(generator, *BLUR_MM) / s for s in spacing_mm)
    return artefacts.blur(image, (i, j, k))
