"""New images of a labelled scan, painted region by region from its own label map.

``synthesis`` needs label maps of whole heads. The label maps of real sets have few labels and one
background, so here the background is first cut into clusters of like intensity, and each region,
label or cluster, is then given one normal distribution of intensities.

Source: Billot et al. 2023, SynthSeg, arXiv 2107.09559, section 3 (random intensities, and clusters
for what has no label); the clusters here are of intensity alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ddmseg.imaging.synthesis.artefacts import add_noise, blur, multiply_bias
from ddmseg.randomness import Range, draw_integer, draw_uniform

CLUSTERS = (3, 6)  # fewest and most clusters of the background
ROUNDS = 8  # of moving each cluster to its mean: enough that no centre still moves much
LARGEST_SPREAD = 0.08  # largest standard deviation from voxel to voxel within a region
BLUR_VOXELS: Range = (0.3, 1.0)
LARGEST_BIAS = 0.3
LARGEST_NOISE = 0.04


def repaint(
    image: Tensor,
    labels: Tensor,
    generator: Generator,
    *,
    tissues: Sequence[int],
    stripped: bool = False,
) -> Tensor:
    """Return an image of any contrast on the grid of a labelled one, not yet normalised.

    Args:
        image: the scan that the labels are of, ``1 i j k`` or ``1 i j``; it is only looked at to
            tell regions of the background apart.
        labels: class indices, ``i j k`` or ``i j``.
        tissues: number of the tissue of each class, from 1; the background's, first, is not used.
            Classes of one tissue, such as two parts of one structure, look alike, as they do in
            scans.
        stripped: background at the lowest value is air of a stripped skull, and gets 0.
    """
    scan = image[0]
    regions, air = background_regions(scan, labels, generator, stripped=stripped)
    kinds = torch.tensor(tissues)[labels]
    regions = torch.where(labels > 0, kinds + regions.max(), regions)
    means = torch.rand(int(regions.max()) + 1, generator=generator)
    spreads = LARGEST_SPREAD * torch.rand(len(means), generator=generator)
    grain = torch.randn(scan.shape, generator=generator)
    painted = (means[regions] + spreads[regions] * grain).clamp_min(0)
    return _spoilt(painted.masked_fill(air, 0), generator).masked_fill(air, 0)[None]


def background_regions(
    scan: Tensor, labels: Tensor, generator: Generator, *, stripped: bool
) -> tuple[Tensor, Tensor]:
    """Cut what has no label into clusters of like intensity.

    Returns the cluster of each voxel from 0, 0 where there is a label; and where there is air,
    nowhere unless the skull is ``stripped``.
    """
    outside = labels == 0
    air = outside & (scan == scan.min()) if stripped else torch.zeros_like(outside)
    rest = outside & ~air
    regions = torch.zeros_like(labels)
    if rest.any():
        count = draw_integer(generator, CLUSTERS[0], CLUSTERS[1] + 1)
        regions[rest] = clusters(scan[rest], count)
    return regions, air


def clusters(values: Tensor, count: int) -> Tensor:
    """Return the cluster of each number, by k-means from the quantiles: nothing is drawn.

    Source: Lloyd 1982, IEEE Transactions on Information Theory 28:129-137.
    """
    shares = (torch.arange(count) + 0.5) / count
    ranked = values.float().sort().values
    centres = ranked[(shares * len(ranked)).long()]
    for _ in range(ROUNDS):
        nearest = torch.bucketize(values, (centres[1:] + centres[:-1]) / 2)
        sizes = torch.bincount(nearest, minlength=count)
        sums = torch.bincount(nearest, weights=values.double(), minlength=count)
        means = (sums / sizes.clamp_min(1)).float()
        centres = torch.where(sizes > 0, means, centres)
    return torch.bucketize(values, (centres[1:] + centres[:-1]) / 2)


def _spoilt(image: Tensor, generator: Generator) -> Tensor:
    """Blur, shade and add noise; a flat image is a slab of one voxel meanwhile."""
    flat = image.dim() == 2
    solid = image[:, None] if flat else image
    width = draw_uniform(generator, *BLUR_VOXELS)
    solid = blur(solid, (width, 0.0 if flat else width, width))
    solid = multiply_bias(solid, generator, largest_std=LARGEST_BIAS)
    noise = LARGEST_NOISE * draw_uniform(generator, 0.0, 1.0)
    solid = add_noise(solid, generator, std=noise)
    return solid[:, 0] if flat else solid
