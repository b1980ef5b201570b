"""How bright each tissue is: one draw of an MRI contrast.

Intensities are relative: air is near 0 and the brightest brain tissue of a T1 near 1. Deep grey
structures are placed between cortex (0) and white matter (1) on the ``BLEND`` scale, which holds
for every family because iron and myelin move a structure from the one towards the other. Tissues
outside the brain and fluids have a range of their own in each family (``ABSOLUTE``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ddmseg.randomness import Range, draw_uniform

FAMILIES = ("t1", "t2", "flair", "any")

BLEND: Mapping[str, Range] = {
    "cortex": (0.0, 0.0),
    "white_matter": (1.0, 1.0),
    "cerebellum_cortex": (-0.15, 0.2),
    "cerebellum_white_matter": (0.8, 1.1),
    "thalamus": (0.25, 0.8),
    "caudate": (-0.1, 0.35),
    "putamen": (0.0, 0.5),
    "pallidum": (0.5, 1.05),
    "accumbens": (-0.1, 0.3),
    "hippocampus": (-0.15, 0.2),
    "amygdala": (-0.15, 0.15),
    "ventral_dc": (0.45, 0.95),
    "brain_stem": (0.5, 1.0),
    "spinal_cord": (0.4, 1.0),
    "optic_nerve": (0.2, 0.9),
}
"""Place of a brain tissue between cortex (0) and white matter (1)."""
CORTEX_AND_WHITE: Mapping[str, tuple[Range, Range]] = {
    "t1": ((0.45, 0.78), (0.80, 1.0)),
    "t2": ((0.30, 0.60), (0.20, 0.42)),
    "flair": ((0.58, 0.80), (0.42, 0.70)),
}
"""Range of cortex and of white matter in each family."""
ABSOLUTE: Mapping[str, tuple[Range, Range, Range]] = {  # tissue: range in T1, T2, FLAIR
    "air": ((0.0, 0.02), (0.0, 0.02), (0.0, 0.02)),
    "ventricle": ((0.05, 0.30), (0.80, 1.0), (0.05, 0.25)),
    "sulcal_csf": ((0.03, 0.35), (0.70, 1.0), (0.05, 0.35)),
    "choroid_plexus": ((0.25, 0.65), (0.60, 0.95), (0.30, 0.80)),
    "perivascular_space": ((0.15, 0.55), (0.60, 0.95), (0.15, 0.55)),
    "lesion": ((0.25, 0.70), (0.55, 0.95), (0.80, 1.1)),
    "artery": ((0.0, 1.1), (0.0, 0.30), (0.0, 0.40)),
    "vein": ((0.10, 1.1), (0.05, 0.50), (0.05, 0.50)),
    "eye": ((0.05, 0.30), (0.80, 1.1), (0.05, 0.35)),
    "muscle": ((0.30, 0.60), (0.10, 0.30), (0.20, 0.45)),
    "soft_tissue": ((0.30, 0.75), (0.15, 0.60), (0.20, 0.60)),
    "mucosa": ((0.30, 0.65), (0.50, 0.95), (0.50, 0.90)),
    "scalp": ((0.45, 1.3), (0.25, 0.90), (0.25, 0.90)),
    "bone": ((0.02, 0.20), (0.02, 0.15), (0.02, 0.15)),
    "marrow": ((0.35, 1.2), (0.20, 0.70), (0.20, 0.70)),
}
"""Range of fluids and of head tissues in each family."""
TISSUES = (*ABSOLUTE, *BLEND)

SMOOTH_TEXTURE: Mapping[str, float] = {
    "soft_tissue": 0.22,
    "scalp": 0.15,
    "marrow": 0.2,
    "bone": 0.04,
    "mucosa": 0.12,
    "cerebellum_cortex": 0.09,
}
"""Largest amplitude of the blotchy texture that stands for parts without a label (head, folia)."""
LARGEST_SPREAD = 0.025  # largest standard deviation from voxel to voxel within a tissue
BRAIN_TEXTURE = 0.05  # largest amplitude of the slow variation within a tissue of the brain
LEAST_GAP: Mapping[str, float] = {"t1": 0.12, "t2": -0.06, "flair": -0.05}
"""Least difference of white matter and cortex; below 0: white matter is darker."""


@dataclass(frozen=True)
class Contrast:
    """One number a label: mean, spread from voxel to voxel, amplitude of smooth texture."""

    family: str
    mean: Float[Tensor, " n"]
    spread: Float[Tensor, " n"]
    texture: Float[Tensor, " n"]
    lesion_mean: float


def draw_tissue_means(generator: Generator, family: str) -> dict[str, float]:
    """Draw one mean for each of ``TISSUES``; ``family`` is one of ``FAMILIES``."""
    if family == "any":
        return {tissue: draw_uniform(generator, 0.0, 1.0) for tissue in TISSUES} | {
            "air": draw_uniform(generator, 0.0, 0.1)
        }
    column = FAMILIES.index(family)
    cortex, white = (draw_uniform(generator, *span) for span in CORTEX_AND_WHITE[family])
    gap = LEAST_GAP[family]
    cortex = min(cortex, white - gap) if gap > 0 else max(cortex, white - gap)
    means = {
        tissue: cortex + draw_uniform(generator, *span) * (white - cortex)
        for tissue, span in BLEND.items()
    }
    for tissue, spans in ABSOLUTE.items():
        means[tissue] = draw_uniform(generator, *spans[column])
    return means


def draw_contrast(
    generator: Generator, tissues: Sequence[str], *, family: str, side_jitter: float = 0.01
) -> Contrast:
    """Draw a contrast for labels whose tissues are given, in their order.

    Labels of one tissue, such as left and right, share its mean up to a normal jitter.
    """
    device = generator.device
    means = draw_tissue_means(generator, family)
    spread = draw_uniform(generator, 0.0, LARGEST_SPREAD)
    brain_texture = draw_uniform(generator, 0.0, BRAIN_TEXTURE)
    head_texture = draw_uniform(generator, 0.3, 1.0)
    jitter = side_jitter * torch.randn(len(tissues), generator=generator, device=device)
    amplitude = [
        head_texture * SMOOTH_TEXTURE[tissue] if tissue in SMOOTH_TEXTURE else brain_texture
        for tissue in tissues
    ]
    quiet = torch.tensor([tissue == "air" for tissue in tissues], device=device)
    mean = torch.tensor([means[tissue] for tissue in tissues], device=device)
    return Contrast(
        family=family,
        mean=torch.where(quiet, mean, (mean + jitter).clamp_min(0.0)),
        spread=torch.full_like(mean, spread).masked_fill(quiet, 0.0),
        texture=torch.tensor(amplitude, device=device).masked_fill(quiet, 0.0),
        lesion_mean=means["lesion"],
    )
