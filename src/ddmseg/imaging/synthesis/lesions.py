"""White-matter lesions: spots in deep white matter, caps and bands around the ventricles.

Where they lie and how they merge follows what small-vessel disease and multiple sclerosis leave:
they favour the walls of the ventricles and spare the fibres below the cortex; few are single
voxels, and large loads are confluent.

Source: Wardlaw et al. 2013, STRIVE, Lancet Neurology 12:822 (shapes and places).
"""

from __future__ import annotations

import math

import torch
from torch import Generator

from ddmseg.imaging.synthesis.artefacts import blur, smooth_field
from ddmseg.imaging.synthesis.deform import Image3D, Mask3D
from ddmseg.randomness import draw_uniform

VOLUME_ML = (0.05, 60.0)  # range of the load, drawn evenly in its logarithm
LARGEST_SHARE = 0.25  # of the white matter in view
SPOT_MM, PATCH_MM = 4.0, 12.0  # sizes of what single lesions and confluent ones are made of
WALL_MM, RIM_MM = 6.0, 2.0
"""How far the ventricles attract, and how wide a rim below the cortex is spared."""


def draw_lesions(
    white: Mask3D, ventricle: Mask3D, generator: Generator, *, spacing_mm: float
) -> Mask3D:
    """Draw the lesions of one image, in white matter alone; none where none is in view."""
    room = int(white.sum())
    low, high = (math.log(volume) for volume in VOLUME_ML)
    volume_ml = math.exp(draw_uniform(generator, low, high))
    count = min(round(volume_ml * 1000 / spacing_mm**3), int(LARGEST_SHARE * room))
    if count < 1:
        return torch.zeros_like(white)
    score = _affinity(white, ventricle, generator, spacing_mm)
    inside = score[white]
    least = inside.kthvalue(room - count + 1).values
    return white & (score >= least)


def _affinity(white: Mask3D, ventricle: Mask3D, generator: Generator, spacing_mm: float) -> Image3D:
    """Return how much each voxel invites a lesion."""
    i, j, k = white.shape
    spots, patches = (
        smooth_field(
            generator, (i, j, k), points=control_points((i, j, k), spacing_mm, every_mm=size)
        )
        for size in (SPOT_MM, PATCH_MM)
    )
    spotty, walled = draw_uniform(generator, 0.3, 1.0), draw_uniform(generator, 0.0, 8.0)
    score = patches.add_(spots, alpha=spotty)
    for mask, reach_mm, weight in ((ventricle, WALL_MM, walled), (white, RIM_MM, 2.0)):
        sigma = reach_mm / spacing_mm
        score.add_(blur(mask.float(), (sigma, sigma, sigma)), alpha=weight)
    return score


def control_points(
    shape: tuple[int, ...], spacing_mm: float, *, every_mm: float
) -> tuple[int, int, int]:
    """Return how many points along each axis lie so far apart, at least two."""
    i, j, k = (max(2, round(n * spacing_mm / every_mm) + 1) for n in shape)
    return (i, j, k)
