"""f^I: what it leaves behind, in 2-D and 3-D."""

from __future__ import annotations

import pytest
import torch

from ddmseg.networks.blocks import ConvolutionBlock, unfold
from ddmseg.networks.image_encoder import FineHead, ImageEncoder


def encoder(dims: int, **options: object) -> ImageEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"widths": (4, 8, 16), "embedding": 3, **options}
        return ImageEncoder(dims, 2, 5, **sizes).eval()


def images(dims: int, *, items: int = 2, size: int = 8) -> torch.Tensor:
    return torch.randn(items, 2, *(size,) * dims, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dims", [2, 3])
def test_shapes_of_all_it_leaves(dims):
    encoding = encoder(dims)(images(dims))
    assert encoding.stem.shape == (2, 4, *(8,) * dims)
    assert [tuple(p.shape) for p in encoding.pyramid] == [
        (2, 8, *(4,) * dims),
        (2, 16, *(2,) * dims),
    ]
    assert encoding.embedding.shape == (2, 3 * 2**dims, *(4,) * dims)
    assert unfold(encoding.embedding).shape == (2, 3, *(8,) * dims)
    assert encoding.coarse_logits.shape == (2, 5, *(8,) * dims)


@pytest.mark.parametrize(("widths", "multiple"), [((4, 8, 8), 4), ((4, 8, 8, 8, 8), 16)])
def test_the_grid_must_be_a_multiple_of_two_a_level(widths, multiple):
    network = encoder(2, widths=widths)
    assert network.multiple == multiple
    assert network(images(2, size=multiple)).coarse_logits.isfinite().all()
    with pytest.raises(RuntimeError):
        network(images(2, size=multiple + 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_items_do_not_mix(dims):
    network = encoder(dims)
    x = images(dims)
    together, alone = network(x), network(x[1:])
    torch.testing.assert_close(together.coarse_logits[1:], alone.coarse_logits)
    torch.testing.assert_close(together.embedding[1:], alone.embedding)


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_the_number_of_blocks_is_a_setting(blocks):
    network = encoder(2, blocks=blocks, fine_blocks=blocks)
    assert [len(level) for level in network.levels] == [blocks, blocks]
    assert sum(isinstance(m, ConvolutionBlock) for m in network.head.blocks) == blocks
    assert network(images(2)).coarse_logits.isfinite().all()


def test_it_sees_beyond_the_voxel():
    network = encoder(2)
    x = images(2, items=1)
    moved = x.clone()
    moved[..., 0, 0] += 3
    change = (network(moved).coarse_logits - network(x).coarse_logits).abs().amax(1)[0]
    assert change[4, 4] > 0


def test_samples_may_share_the_stem_of_one_scan():
    head = FineHead(2, 8, 4, 5, blocks=1)
    coarse, stem = torch.randn(3, 8, 4, 4), torch.randn(1, 4, 8, 8)
    together = head(coarse, stem)
    assert together.shape == (3, 5, 8, 8)
    torch.testing.assert_close(together[2:], head(coarse[2:], stem))
