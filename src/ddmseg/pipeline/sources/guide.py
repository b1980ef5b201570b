"""What level 1 might have said of a patch, for level 2 to learn from.

Level 2 sees the scan at 1 mm beside level 1's answer at 2 mm. Running level 1 on every
training patch would cost more than the patch and, on a view that small, be worse than in
use. So its answer is made from the truth, wrong in the ways that a coarser network is:
voxels twice as wide, edges blurred and some of a voxel out of place, and now and then
something large.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.imaging.synthesis.artefacts import blur
from ddmseg.imaging.synthesis.draw import draw_chance, draw_choice, draw_uniform
from ddmseg.maths.encoding import MaskEncoding
from ddmseg.pipeline.training.corruption import CORRUPTIONS

COARSER = 2
"""Voxels of level 2 along a voxel of level 1."""
LARGEST_SHIFT = 0.8
"""Largest standard deviation of the displacement of edges, in voxels of level 1."""
LARGEST_BLUR = 1.0
"""Largest standard deviation of the blur, in the same."""
CONTROL_VOXELS = 8
"""Distance of the control points of the displacement, in the same."""
GROSS_PROBABILITY = 0.2
"""How often there is one of the gross errors."""
GROSS_ERRORS = ("dilate", "erode", "blob")
"""Of ``pipeline.corruption``. Level 1 sees the whole head, so it misplaces or swaps nothing."""


def simulated_answer(labels: Tensor, encoding: MaskEncoding, generator: Generator) -> Tensor:
    """Return the expected mask (``m i j k``) that level 1 might give of a patch.

    Args:
        labels: true class indices of the patch (``i j k``), even along each axis.
        encoding: of the classes.
        generator: on the CPU; fixes what is drawn.
    """
    seen = labels[None]
    if draw_chance(generator, GROSS_PROBABILITY):
        name = draw_choice(generator, dict.fromkeys(GROSS_ERRORS, 1.0))
        seen = CORRUPTIONS[name](seen, encoding.classes, generator)
    coarse = F.avg_pool3d(encoding.of_labels(seen), COARSER)
    coarse = _displaced(coarse, generator)
    sigma = draw_uniform(generator, 0.0, LARGEST_BLUR)
    coarse = torch.stack([blur(channel, (sigma,) * 3) for channel in coarse[0]])[None]
    fine: Tensor = F.interpolate(coarse, scale_factor=COARSER, mode="trilinear")[0]
    return fine


def _displaced(mask: Tensor, generator: Generator) -> Tensor:
    """Move the edges of a mask (``1 m i j k``) smoothly, each place elsewhere."""
    grid = mask.shape[2:]
    points = [max(2, n // CONTROL_VOXELS + 1) for n in grid]
    std = draw_uniform(generator, 0.0, LARGEST_SHIFT)
    knots = std * torch.randn((1, 3, *points), generator=generator)
    field = F.interpolate(knots, size=grid, mode="trilinear", align_corners=True)[0]
    axes = [torch.arange(n, dtype=torch.float32) for n in grid]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")) + field
    # grid_sample counts from -1 to 1 between the outer edges, the last axis first.
    room = torch.tensor(grid, dtype=torch.float32).reshape(3, 1, 1, 1)
    unit = (2 * places + 1) / room - 1
    return F.grid_sample(
        mask, unit.flip(0).movedim(0, -1)[None], padding_mode="border", align_corners=False
    )
