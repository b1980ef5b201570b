"""Encoding by tiles: the same answer where it must be, seamless where it can be."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from ddmseg.networks import tiling
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.tiling import encode_tiled, tile_shapes, tiles


@pytest.fixture(scope="module", params=[2, 3])
def model(request: pytest.FixtureRequest) -> DiscrepancyDiffusionSegmenter:
    torch.manual_seed(0)
    return DiscrepancyDiffusionSegmenter(request.param, 1, 3, widths=(8, 8, 8)).eval()


def image_of(model: DiscrepancyDiffusionSegmenter, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((1, 1) + (side,) * model.dims, generator=generator)


@torch.no_grad()
def test_a_grid_near_the_patch_is_encoded_whole(model: DiscrepancyDiffusionSegmenter) -> None:
    image = image_of(model, 20)
    tiled = encode_tiled(model, image, (16,) * model.dims)
    assert torch.equal(tiled.coarse_logits, model.encode(image).coarse_logits)


@torch.no_grad()
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_shapes_are_those_of_a_whole_encoding(
    model: DiscrepancyDiffusionSegmenter, overlap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "OVERLAP", overlap)
    image = image_of(model, 28)
    whole, tiled = (
        model.encode(image),
        encode_tiled(model, image, (12,) * model.dims),
    )
    for field in fields(whole):
        a, b = getattr(whole, field.name), getattr(tiled, field.name)
        if isinstance(a, bool):
            assert a == b
            continue
        pairs = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
        for x, y in pairs:
            assert x.shape == y.shape
            assert torch.isfinite(y).all()


@torch.no_grad()
@pytest.mark.parametrize("at_once", [2, 3, 99])
def test_batches_of_tiles_say_the_same(
    model: DiscrepancyDiffusionSegmenter, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, patch = image_of(model, 28), (12,) * model.dims
    alone = encode_tiled(model, image, patch)
    sizes, plain = [], model.encode

    def encode(views: Tensor) -> Encoding:
        sizes.append(len(views))
        return plain(views)

    monkeypatch.setattr(model, "encode", encode)
    batched = encode_tiled(model, image, patch, at_once=at_once)
    for one, other in zip(leaves(alone), leaves(batched), strict=True):
        torch.testing.assert_close(one, other)
    assert max(sizes) == min(at_once, sum(sizes))


def leaves(encoding: Encoding) -> list[Tensor]:
    return [encoding.stem, *encoding.pyramid, encoding.embedding, encoding.coarse_logits]


@torch.no_grad()
def test_the_middle_of_a_lone_tile_is_its_own_encoding(
    model: DiscrepancyDiffusionSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without overlap every voxel belongs to one tile and is exactly what that tile says."""
    image = image_of(model, 32)
    monkeypatch.setattr(tiling, "OVERLAP", 0.0)
    tiled = encode_tiled(model, image, (16,) * model.dims)
    corner = (slice(None), slice(None), *[slice(0, 16)] * model.dims)
    alone = model.encode(image[corner])
    torch.testing.assert_close(tiled.coarse_logits[corner], alone.coarse_logits)
    half = (slice(None), slice(None), *[slice(0, 8)] * model.dims)
    torch.testing.assert_close(tiled.embedding[half], alone.embedding)


@pytest.mark.parametrize("n", [24, 40, 56, 104])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_tiles_cover_the_grid_and_keep_to_multiples(
    n: int, overlap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "OVERLAP", overlap)
    covered = torch.zeros(n, dtype=torch.bool)
    for (side,) in tiles((n,), (24,), 8):
        assert side.start % 8 == 0
        assert side.stop - side.start == 24
        covered[side] = True
    assert covered.all()


@pytest.mark.parametrize(
    ("n", "side", "count"),
    [
        (48, 48, 1),  # the patch itself
        (80, 48, 2),
        (84, 48, 2),  # the last grid that two tiles of 48 cover
        (96, 56, 2),  # two longer ones in place of three
        (120, 48, 3),  # longer ones would be as many
        (136, 56, 3),
    ],
)
def test_tiles_grow_by_a_fifth_at_most_where_fewer_do_then(n: int, side: int, count: int) -> None:
    # the second axis keeps a grid of one tile from being taken whole
    shapes = tile_shapes((n, 84), (48, 48), multiple=8)
    assert set(shapes) == {(side, 48)}
    assert len(shapes) == 2 * count
