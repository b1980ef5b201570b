"""f^S and the discrepancy on folded grids, against their plain definitions."""

from __future__ import annotations

import pytest
import torch

from ddmseg.maths.discrepancy import discrepancy_map
from ddmseg.networks.blocks import block_means, fold, unfold
from ddmseg.networks.segmentation_encoder import SegmentationEncoder, folded_discrepancy


def network(dims: int) -> SegmentationEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SegmentationEncoder(dims, 3, width=4, embedding=2)


def masks(dims: int, size: int = 8) -> torch.Tensor:
    return torch.randn(2, 3, *(size,) * dims, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dims", [2, 3])
def test_features_lie_on_the_grid_of_the_mask(dims):
    encoder, mask = network(dims), masks(dims)
    folded = encoder(mask)
    assert folded.shape == (2, 2 * 2**dims, *(4,) * dims)
    assert unfold(encoder(mask)).shape == (2, 2, *(8,) * dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_mask_on_half_the_grid_is_one_whose_voxels_are_repeated(dims):
    encoder, half = network(dims), masks(dims, 4)
    whole = half
    for axis in range(2, 2 + dims):
        whole = whole.repeat_interleave(2, axis)
    torch.testing.assert_close(encoder(half, stride=2), encoder(whole))


@pytest.mark.parametrize("dims", [2, 3])
def test_features_of_blocks_are_the_mean_over_their_voxels(dims):
    encoder, half = network(dims), masks(dims, 4)
    voxels = unfold(encoder(half, stride=2))
    torch.testing.assert_close(encoder.block_features(half), block_means(voxels))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_folded_discrepancy_is_the_discrepancy_folded(dims):
    z_image, z_mask = (torch.randn(2, 5, *(8,) * dims) for _ in range(2))
    found = folded_discrepancy(fold(z_image), fold(z_mask), dims)
    torch.testing.assert_close(unfold(found), discrepancy_map(z_image, z_mask))
    assert not folded_discrepancy(fold(z_image), fold(z_image), dims).any()


def test_one_voxel_of_the_mask_moves_its_neighbourhood_alone():
    encoder, mask = network(2), masks(2, 16)
    changed = mask.clone()
    changed[0, :, 7, 7] += 1
    difference = (unfold(encoder(changed)) - unfold(encoder(mask))).abs().amax(1)
    assert difference[0, 7, 7] > 0
    assert not difference[1].any()
    assert unfold(encoder(mask)).isfinite().all()


def test_the_mask_itself_is_seen_besides_its_surroundings():
    # Normalised surroundings alone could not tell a uniform mask from another one.
    encoder = network(2)
    a, b = (torch.full((1, 3, 8, 8), value) for value in (1.0, -1.0))
    assert (unfold(encoder(a)) - unfold(encoder(b))).abs().mean() > 0.05
