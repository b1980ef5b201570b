"""f^I on blocks: sees every voxel, decides every voxel, and never minds what else is in view."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.block_head import BlockHead, voxels_of_blocks
from ddmseg.networks.blocks import fold, fold_statistics, unfold
from ddmseg.networks.engine_form import EngineForm, encoding_of
from ddmseg.networks.normalisation import Normalisation
from ddmseg.networks.sampling import MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from toys import shake, tiny_model

DIMS = pytest.mark.parametrize("dims", [2, 3])


def block_model(dims: int = 2, classes: int = 3, **sizes) -> DiscrepancyDiffusionSegmenter:
    small = {"widths": (4, 6), "level_blocks": (1, 1), **sizes}
    model = tiny_model(
        dims=dims,
        classes=classes,
        encoder_form="block",
        denoiser_form="light",
        mask_stride=2,
        **small,
    )
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return model


def image(dims: int, *sides: int) -> torch.Tensor:
    sides = sides or (16,) * dims
    return torch.randn(1, 1, *sides, generator=torch.Generator().manual_seed(3))


@DIMS
@torch.no_grad()
def test_what_it_leaves_has_the_shapes_that_all_encoders_leave(dims):
    model = block_model(dims)
    encoding = model.encode(image(dims))
    assert model.multiple == 4
    assert encoding.coarse_logits.shape == (1, 3, *(16,) * dims)
    assert unfold(encoding.embedding).shape == (1, 2, *(16,) * dims)
    assert [x.shape[2] for x in encoding.pyramid] == [8, 4]
    assert encoding.stem.shape == (1, 2**dims, *(8,) * dims)
    assert encoding.stem_stride == 2


@DIMS
def test_gradients_reach_every_weight(dims):
    model = block_model(dims).train()
    encoding = model.encode(image(dims))
    total = encoding.coarse_logits.square().mean() + encoding.embedding.square().mean()
    total.backward()
    missed = [n for n, w in model.image_encoder.named_parameters() if w.grad is None]
    assert not missed


@DIMS
@torch.no_grad()
def test_a_voxel_is_decided_alike_whatever_else_is_in_view(dims):
    model = block_model(dims, widths=(4, 6, 6), level_blocks=(1, 1, 1))
    whole = image(dims, 128, *(16,) * (dims - 1))
    reach = 64  # more than this network looks around
    part = model.encode(whole[:, :, :112]).coarse_logits[:, :, : 112 - reach]
    torch.testing.assert_close(model.encode(whole).coarse_logits[:, :, : 112 - reach], part)


@torch.no_grad()
def test_nothing_is_normalised_by_what_is_in_view():
    model = block_model(3)
    assert not [layer for layer in model.modules() if isinstance(layer, Normalisation)]


@DIMS
@torch.no_grad()
def test_single_voxels_are_decided_as_in_the_whole(dims):
    model = block_model(dims)
    encoding = model.encode(image(dims))
    voxels = torch.randperm(16**dims)[:50]
    head = model.image_encoder.head
    some = head(encoding.pyramid[0], encoding.stem, voxels)
    torch.testing.assert_close(some, encoding.coarse_logits.flatten(2)[:, :, voxels])


@pytest.mark.parametrize("grid", [(4, 6), (3, 4, 5)])
def test_the_voxels_of_a_block_are_those_that_fold_puts_side_by_side(grid):
    sides = [2 * n for n in grid]
    numbers = torch.arange(torch.Size(sides).numel()).view(1, 1, *sides)
    rows = fold(numbers).movedim(1, -1).flatten(0, -2)
    blocks = torch.tensor([5, 0, 11])
    assert torch.equal(voxels_of_blocks(blocks, grid), rows[blocks].flatten())


@DIMS
def test_logits_slab_by_slab_are_those_of_all_at_once(dims):
    model = block_model(dims)
    x = image(dims, 40, *(8,) * (dims - 1))
    stem, pyramid = model.image_encoder.features(x)
    with torch.no_grad():
        slabs = model.image_encoder.head(pyramid[0], stem)
    at_once = model.image_encoder.head(pyramid[0], stem)
    assert at_once.requires_grad
    torch.testing.assert_close(slabs, at_once.detach())


@DIMS
@torch.no_grad()
def test_foreground_blocks_are_those_with_a_structure_in_them(dims):
    encoder = block_model(dims).image_encoder
    x = image(dims, 40, *(8,) * (dims - 1))
    said = encoder(x).coarse_logits
    middle = (said[:, 0] - said[:, 1:].amax(1)).unfold(1, 2, 2).amin(-1).median()
    encoder.head.logits.bias[::3] -= middle  # so that some blocks have structures, and some none
    found = encoder.foreground(*encoder.features(x))
    labels = encoder(x).coarse_logits.argmax(1)
    wanted = fold(labels[:, None]).amax(dim=1)[0] > 0
    assert 0 < wanted.sum() < wanted.numel()
    assert torch.equal(found, wanted)


@DIMS
@torch.no_grad()
def test_folded_statistics_change_nothing_that_is_said(dims):
    model = block_model(dims)
    folded = copy.deepcopy(model)
    fold_statistics(folded)
    norms = (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
    assert any(isinstance(layer, norms) for layer in model.modules())
    assert not any(isinstance(layer, norms) for layer in folded.modules())
    x = image(dims)
    torch.testing.assert_close(
        folded.encode(x).coarse_logits, model.encode(x).coarse_logits, atol=1e-4, rtol=1e-4
    )


@DIMS
@torch.no_grad()
def test_the_discrepancy_slab_by_slab_is_that_of_the_whole(dims):
    model = block_model(dims, classes=20)
    x = image(dims, 40, *(8,) * (dims - 1))
    encoding = model.encode(x)
    labels = torch.randint(0, 20, x[:, 0].shape, generator=torch.Generator().manual_seed(1))
    whole = model.folded_discrepancy(encoding, model.mask_encoding.of_labels(labels))
    torch.testing.assert_close(model.discrepancy_map(encoding, labels), unfold(whole))


@DIMS
@pytest.mark.parametrize("classes", [3, 20])
@torch.no_grad()
def test_masks_are_sampled_on_it(dims, classes):
    model = block_model(dims, classes)
    sampler = MaskSampler(model, model.encode(image(dims)), make_schedule())
    p = sampler(steps=2, generator=torch.Generator().manual_seed(0))
    assert p.shape == (1, classes, *(16,) * dims)
    torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]))


def test_each_level_may_have_blocks_of_its_own():
    encoder = BlockEncoder(3, 1, 3, widths=(4, 6, 8), blocks=(1, 2, 3))
    assert [len(level) for level in encoder.levels] == [1, 2, 3]
    shake(encoder)


@DIMS
@torch.no_grad()
def test_it_can_be_written_as_a_graph(dims):
    model = block_model(dims)
    x = image(dims)
    whole, form = model.encode(x), encoding_of(list(EngineForm(model.image_encoder, dims)(x)))
    assert form.stem_stride == 2
    torch.testing.assert_close(form.coarse_logits, whole.coarse_logits, atol=1e-4, rtol=1e-4)
    for a, b in zip(form.pyramid, whole.pyramid, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@DIMS
@torch.no_grad()
def test_samples_are_the_same_where_only_probabilities_were_kept(dims):
    model = block_model(dims, 20)
    encoding = model.encode(image(dims))
    kept = replace(encoding, coarse=encoding.coarse_probabilities, decided=True)
    torch.testing.assert_close(kept.coarse_logits.softmax(1), encoding.coarse_probabilities)
    drawn = [
        MaskSampler(model, one, make_schedule())(
            steps=3, generator=torch.Generator().manual_seed(1)
        )
        for one in (encoding, kept)
    ]
    torch.testing.assert_close(*drawn, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("grid", [(5, 3), (5, 3, 2)])
def test_probabilities_slab_by_slab_are_those_of_the_logits(grid) -> None:
    """The last slab may be half of one."""
    head = BlockHead(len(grid), 4, 2 ** len(grid), 3)
    coarse, stem = torch.randn(2, 4, *grid), torch.randn(1, 2 ** len(grid), *grid)
    logits = head(coarse, stem)
    assert logits.requires_grad  # so they were not made in slabs
    with torch.inference_mode():
        found = head.probabilities(coarse, stem.expand(2, *stem.shape[1:]))
    torch.testing.assert_close(found, logits.detach().softmax(1))
