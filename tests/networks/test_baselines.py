"""Baselines: the shapes they keep, what they refuse, and a window that slides."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from ddmseg.errors import SettingsError
from ddmseg.networks.baselines import BaselineName, BaselineSegmenter

SIZES = {2: (32, 48), 3: (16, 32, 16)}


def network(name: str, dims: int) -> BaselineSegmenter:
    torch.manual_seed(0)
    return BaselineSegmenter(name, dims, 1, 3, widths=(4, 8, 16), patch=SIZES[dims]).eval()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", get_args(BaselineName))
def test_logits_lie_on_the_image_grid_and_every_weight_learns(name, dims):
    model = network(name, dims).train()
    image = torch.randn(2, 1, *SIZES[dims])
    logits = model(image)
    assert logits.shape == (2, 3, *SIZES[dims])
    logits.square().mean().backward()
    lost = [n for n, w in model.named_parameters() if w.grad is None]
    # MONAI's UNETR makes cross-attention layers that it does not use.
    assert not [n for n in lost if "cross_attn" not in n]


@torch.no_grad()
def test_unetr_slides_its_window_over_larger_images():
    model = network("unetr", 2)
    small = torch.randn(1, 1, *SIZES[2])
    large = torch.zeros(1, 1, 48, 64)
    large[..., :32, :48] = small
    assert model(large).shape == (1, 3, 48, 64)
    assert torch.allclose(model(small), model.network(small))


@pytest.mark.parametrize("patch", [(), (30, 48), (32, 48, 16)])
def test_unetr_refuses_patches_that_are_no_tokens(patch):
    with pytest.raises(SettingsError, match="multiples of 16"):
        BaselineSegmenter("unetr", 2, 1, 3, patch=patch)
