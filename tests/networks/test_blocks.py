"""Building blocks against the torch layers they stand for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ddmseg.networks.blocks import (
    SLAB_VOXELS,
    Coarsen,
    Convolution3d,
    ConvolutionBlock,
    Pointwise,
    Refine,
    ResidualBlock,
    TimeEmbedding,
    block_means,
    channels_last,
    class_probabilities,
    fold,
    unfold,
)

CONVOLUTIONS = {2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Folding


@given(
    blocks=st.lists(st.integers(1, 3), min_size=2, max_size=3),
    factor=st.integers(1, 3),
    channels=st.integers(1, 3),
    items=st.integers(1, 2),
)
def test_unfold_undoes_fold_and_fold_undoes_unfold(blocks, factor, channels, items):
    x = normal(items, channels, *[n * factor for n in blocks])
    folded = fold(x, factor)
    assert folded.shape == (items, channels * factor ** len(blocks), *blocks)
    assert torch.equal(unfold(folded, factor), x)
    y = normal(items, channels * factor ** len(blocks), *blocks)
    assert torch.equal(fold(unfold(y, factor), factor), y)


def test_fold_keeps_the_channels_of_a_voxel_side_by_side():
    x = normal(1, 5, 4, 6, 2)
    folded = fold(x)
    for di, dj, dk in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 1)]:
        block = 4 * di + 2 * dj + dk
        expected = x[:, :, di::2, dj::2, dk::2]
        assert torch.equal(folded[:, 5 * block : 5 * block + 5], expected)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("last", [False, True])
def test_probabilities_and_block_means_are_torchs_in_the_layout_that_came(dims, last):
    x = 5 * normal(2, 3, *(SLAB_VOXELS + 4, 6, 8)[:dims])  # two slabs
    x = channels_last(x) if last else x
    p = class_probabilities(x)
    torch.testing.assert_close(p, torch.softmax(x, dim=1))
    pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[dims]
    torch.testing.assert_close(block_means(p), pool(p, 2))
    if last:
        assert p.stride() == x.stride()
        assert block_means(p).stride(1) == 1


@pytest.mark.parametrize("dims", [2, 3])
def test_channels_last_changes_the_order_in_memory_alone(dims):
    x = normal(2, 3, *(4,) * dims)
    y = channels_last(x)
    assert torch.equal(x, y)
    assert y.stride(1) == 1


# Linear maps


@pytest.mark.parametrize("dims", [2, 3])
def test_pointwise_is_a_convolution_one_voxel_wide(dims):
    layer = Pointwise(3, 5)
    x = normal(2, 3, *(4,) * dims)
    kernel = layer.weight.reshape(5, 3, *(1,) * dims)
    torch.testing.assert_close(layer(x), CONVOLUTIONS[dims](x, kernel, layer.bias))


@pytest.mark.parametrize("dims", [2, 3])
def test_coarsen_is_a_convolution_of_stride_two(dims):
    layer = Coarsen(dims, 3, 5)
    x = normal(2, 3, *(4,) * dims)
    kernel = layer.mix.weight.reshape(5, *(2,) * dims, 3).movedim(-1, 1)
    expected = CONVOLUTIONS[dims](x, kernel, layer.mix.bias, stride=2)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_refine_is_a_transposed_convolution_of_stride_two(dims):
    layer = Refine(dims, 3, 5)
    torch.nn.init.zeros_(layer.mix.bias)
    x = normal(2, 3, *(2,) * dims)
    kernel = layer.mix.weight.reshape(*(2,) * dims, 5, 3).movedim((-1, -2), (0, 1))
    torch.testing.assert_close(layer(x), TRANSPOSED[dims](x, kernel, stride=2))


# Convolution


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("items", [1, 3])
def test_the_fast_convolution_is_the_usual_one_with_its_gradients(bias, stride, items):
    fast = Convolution3d(4, 6, 3, padding=1, stride=stride, bias=bias)
    usual = nn.Conv3d(4, 6, 3, padding=1, stride=stride, bias=bias)
    usual.load_state_dict(fast.state_dict())
    x = channels_last(normal(items, 4, 5, 6, 7))
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(one) for layer, one in zip((fast, usual), inputs, strict=True)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-4)
    for a, b in zip(fast.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "options", [{"padding": "same"}, {"padding": 1, "padding_mode": "replicate"}]
)
def test_what_the_fast_kernel_cannot_do_goes_the_usual_way(options):
    fast, usual = Convolution3d(2, 3, 3, **options), nn.Conv3d(2, 3, 3, **options)
    usual.load_state_dict(fast.state_dict())
    x = normal(1, 2, 4, 4, 4)
    torch.testing.assert_close(fast(x), usual(x))


@pytest.mark.parametrize("grid", [(1, 4, 4), (2, 2, 2), (2, 5, 3), (3, 2, 2), (4, 4, 4)])
@pytest.mark.parametrize("form", [torch.float32, torch.bfloat16])
def test_half_precision_has_the_gradient_of_single(grid, form) -> None:
    torch.manual_seed(0)
    layer = Convolution3d(4, 4, 3, padding=1, bias=False)
    x = channels_last(torch.randn(1, 4, *grid))
    (right,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = layer(x.to(form)).float().square().sum()
    (found,) = torch.autograd.grad(loss, layer.weight)
    torch.testing.assert_close(found, right, rtol=0.0, atol=0.03 * float(right.abs().max()))


def test_double_precision_stays_double():
    layer = Convolution3d(2, 3, 3, padding=1).double()
    assert layer(normal(1, 2, 4, 4, 4).double()).dtype == torch.float64


def test_it_can_be_traced():
    layer = Convolution3d(2, 3, 3, padding=1).eval()
    x = normal(1, 2, 4, 4, 4)
    exported = torch.export.export(layer, (x,))
    torch.testing.assert_close(exported.module()(x), layer(x))


# Blocks


@pytest.mark.parametrize("dims", [2, 3])
def test_a_block_treats_each_item_by_itself(dims):
    block = ConvolutionBlock(dims, 3, 8)
    x = normal(2, 3, *(4,) * dims)
    torch.testing.assert_close(block(x)[1:], block(x[1:]))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_fresh_residual_block_does_not_mind_the_condition(dims):
    block = ResidualBlock(dims, 8, condition=6)
    x, condition = normal(2, 8, *(4,) * dims), normal(2, 6)
    assert torch.equal(block(x, condition), block(x))
    nn.init.normal_(block.modulation.weight)
    changed = block(x, condition)
    assert changed.shape == x.shape
    assert not torch.allclose(changed, block(x))
    # one condition an item
    torch.testing.assert_close(changed[1:], block(x[1:], condition[1:]))


def test_a_residual_block_without_condition_has_no_modulation():
    block = ResidualBlock(3, 8)
    assert block.modulation is None
    assert not [name for name in block.state_dict() if "modulation" in name]


def test_the_time_embedding_tells_noise_levels_apart():
    embedding = TimeEmbedding(16)
    log_snr = torch.linspace(-18, 18, 9)
    rows = embedding(log_snr)
    assert rows.shape == (9, 16)
    distances = torch.cdist(rows, rows) + torch.eye(9)
    assert (distances > 1e-3).all()
    torch.testing.assert_close(embedding(log_snr[3:4]), rows[3:4])
