"""Views join looks at a head by the mean of their logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ddmseg.networks.blocks import block_means
from ddmseg.networks.views import Mirrored, View, Views
from toys import tiny_model

BLOCK = {"encoder_form": "block", "denoiser_form": "light", "mask_stride": 2}
EXCHANGE = (0, 2, 1)


def encoder(seed: int):
    model = tiny_model(dims=3, seed=seed, widths=(4, 6), level_blocks=(1, 1), **BLOCK)
    return model.image_encoder


def views(*, mirrored: bool, wide: bool) -> Views:
    exchange = EXCHANGE if mirrored else ()
    return Views(View.of(encoder(0), exchange), View.of(encoder(1), exchange) if wide else None)


def encoded(views: Views, image: torch.Tensor):
    return views.encoding(views.own.look(image), views.look_wide(image))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(1, 1, 16, 12, 20, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("mirrored", "wide"), [(False, False), (True, False), (False, True)])
@torch.inference_mode()
def test_the_answer_is_the_softmax_of_the_mean_logits(image, mirrored, wide) -> None:
    own, far = encoder(0), encoder(1)
    looks = [own(image).coarse]
    if mirrored:
        looks.append(own(image.flip(2)).coarse.flip(2)[:, list(EXCHANGE)])
    if wide:
        half = F.pad(block_means(image), (0, 2, 0, 2))  # 8 x 6 x 10: to multiples of 4
        logits = far(half).coarse[:, :, :, :6, :10]
        looks.append(F.interpolate(logits, scale_factor=2, mode="trilinear"))
    found = encoded(views(mirrored=mirrored, wide=wide), image)
    assert found.decided
    wanted = torch.stack(looks).mean(0).softmax(1)
    torch.testing.assert_close(found.coarse_probabilities, wanted)
    torch.testing.assert_close(found.embedding, own(image).embedding)
    torch.testing.assert_close(found.stem, own(image).stem)


@pytest.mark.parametrize("wide", [False, True])
@torch.inference_mode()
def test_a_mirrored_head_gets_the_mirrored_answer(wide) -> None:
    both = views(mirrored=True, wide=wide)
    image = torch.randn(2, 1, 16, 8, 8, generator=torch.Generator().manual_seed(4))
    there = encoded(both, image.flip(2)).coarse_probabilities
    here = encoded(both, image).coarse_probabilities
    torch.testing.assert_close(there.flip(2)[:, list(EXCHANGE)], here)
    straight = encoded(views(mirrored=False, wide=wide), image).coarse_probabilities
    assert not torch.allclose(straight, here)


def test_a_model_with_views_encodes_with_them_and_learns_without(image) -> None:
    model = tiny_model(dims=3, widths=(4, 6), level_blocks=(1, 1), **BLOCK)
    plain = model.encode(image).coarse_probabilities
    model.views = Views(View.of(model.image_encoder, EXCHANGE))
    torch.testing.assert_close(model.encode(image).coarse_probabilities, plain)
    with torch.no_grad():
        there = model.encode(image).coarse_probabilities
        torch.testing.assert_close(there, encoded(model.views, image).coarse_probabilities)
    assert not torch.allclose(there, plain)
    assert not any("views" in name for name in model.state_dict())


@torch.inference_mode()
def test_on_the_image_grid_both_looks_decide_by_the_mean_of_their_logits() -> None:
    own = tiny_model(dims=3, seed=2, normalisation="batch").image_encoder
    image = torch.randn(2, 1, 16, 8, 8, generator=torch.Generator().manual_seed(5))
    found = Mirrored(own, EXCHANGE).encode(image)
    other = own(image.flip(2)).coarse.flip(2)[:, list(EXCHANGE)]
    torch.testing.assert_close(found.coarse, (own(image).coarse + other) / 2)
    torch.testing.assert_close(found.embedding, own(image).embedding)
    assert found.coarse.is_contiguous(memory_format=torch.channels_last_3d)
