"""Normalisation: torch's own as reference, its gradient by finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ddmseg.networks.normalisation import Normalisation
from toys import tiny_model

SHAPES = [(2, 4, 6, 5), (1, 8, 4, 3, 5), (3, 4, 8, 8, 8), (2, 3, 1, 1)]


def layer(channels, dtype=torch.float32):
    made = Normalisation(channels).to(dtype)
    with torch.no_grad():
        made.weight += torch.linspace(-0.5, 0.5, channels, dtype=dtype)
        made.bias += torch.linspace(0.3, 0.6, channels, dtype=dtype)
    return made


def noise(shape, dtype=torch.float32, *, last=False):
    x = 3 + 2 * torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    form = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
    return x.contiguous(memory_format=form) if last else x


@pytest.mark.parametrize("shape", SHAPES[:3])
@pytest.mark.parametrize("last", [True, False])
def test_values_and_gradients_are_those_of_torch(shape, last):
    made, x = layer(shape[1]), noise(shape, last=last).requires_grad_()
    y = made(x)
    # One layout for all: torch 2.13's own instance normalisation errs where they differ.
    plain = x.detach().contiguous().requires_grad_()
    expected = F.instance_norm(plain, weight=made.weight, bias=made.bias)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    slope = noise(shape) - 3
    for form in (torch.contiguous_format, last_form(y)):
        mine = torch.autograd.grad(
            y, [x, made.weight, made.bias], slope.contiguous(memory_format=form), retain_graph=True
        )
        theirs = torch.autograd.grad(
            expected, [plain, made.weight, made.bias], slope, retain_graph=True
        )
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_sums_over_a_grid_in_half_precision_are_exact_to_its_rounding(shape):
    made, x = layer(shape[1]), noise(shape, last=True).bfloat16()
    slope = (noise(shape, last=True) - 3).bfloat16()
    gradients = []
    for of in (x.requires_grad_(), x.detach().float().requires_grad_()):
        y = made(of)
        gradients.append(torch.autograd.grad(y, [of, made.weight, made.bias], slope.to(y.dtype)))
    for half, single in zip(*gradients, strict=True):
        torch.testing.assert_close(half.float(), single, rtol=2e-2, atol=5e-2)


def last_form(y):
    return torch.channels_last if y.dim() == 4 else torch.channels_last_3d


@pytest.mark.parametrize("shape", [(2, 2, 3, 4), (1, 4, 2, 3, 2)])
def test_the_gradient_is_the_slope(shape):
    made = layer(shape[1], torch.float64)
    x = noise(shape, torch.float64, last=True).requires_grad_()
    parameters = {name: p for name, p in made.named_parameters()}

    def run(x, weight, bias):
        return torch.func.functional_call(made, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, (x, parameters["weight"], parameters["bias"]))


@pytest.mark.parametrize("shape", SHAPES)
def test_training_and_inference_give_the_same(shape):
    made, x = layer(shape[1]), noise(shape, last=True)
    with torch.inference_mode():
        still = made(x)
    torch.testing.assert_close(made(x.requires_grad_()).detach(), still, rtol=0, atol=0)
    assert still.isfinite().all()


def test_the_layout_of_memory_is_kept():
    y = layer(4)(noise((2, 4, 8, 8, 8), last=True).requires_grad_())
    assert y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("dims", [2, 3])
@torch.inference_mode()
def test_by_batch_statistics_nothing_depends_on_what_else_is_in_view(dims):
    """Of f^I and of what decides on its features: a part of the image says as the whole does."""
    model = tiny_model(dims=dims, normalisation="batch").eval()
    assert not [layer for layer in model.modules() if isinstance(layer, Normalisation)]
    image = noise((1, 1, *(64,) * dims))
    other = image.clone()
    other[:, :, 48:] = 30.0
    near = slice(0, 16)  # far from what was changed
    same = [model.encode(x).coarse_logits[:, :, near] for x in (image, other)]
    torch.testing.assert_close(*same)
    plain = tiny_model(dims=dims).eval()
    moved = [plain.encode(x).coarse_logits[:, :, near] for x in (image, other)]
    assert not torch.allclose(*moved)
