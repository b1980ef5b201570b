"""A head is encoded at once by an encoder on blocks, and kept in the box of its brain."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from ddmseg.errors import SettingsError
from ddmseg.inference.brain_looks import crop_encoding, names_of
from ddmseg.inference.scan_encoding import _unpack, _usable, encode_image
from ddmseg.models.settings import DataSettings
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.views import View, Views
from toys import tiny_model, tiny_settings

BLOCK = {"encoder_form": "block", "denoiser_form": "light", "mask_stride": 2}


@pytest.fixture(scope="module")
def model() -> DiscrepancyDiffusionSegmenter:
    """Finds the bright voxels: its head is told so by the folded image alone."""
    model = tiny_model(dims=3, widths=(4, 6), level_blocks=(1, 1), **BLOCK)
    logits = model.image_encoder.head.logits
    with torch.no_grad():
        logits.weight.zero_()
        logits.bias.zero_()
        for voxel in range(8):
            logits.weight[3 * voxel + 1, 4 + voxel] = 10
            logits.bias[3 * voxel + 1] = -5
    return model


def head(*, speck: bool = False) -> torch.Tensor:
    image = torch.zeros(1, 1, 48, 32, 32)
    image[..., 17:31, 9:20, 10:22] = 1
    if speck:
        image[..., 40:42, 26:28, 2:4] = 1
    return image


def assert_same(one: Encoding, other: Encoding) -> None:
    torch.testing.assert_close(one.coarse_probabilities, other.coarse_probabilities)
    torch.testing.assert_close(one.embedding, other.embedding)
    for a, b in zip(one.pyramid, other.pyramid, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("speck", [False, True])
@torch.inference_mode()
def test_what_is_kept_is_the_box_of_the_brain_with_its_margin(model, speck) -> None:
    image = head(speck=speck)
    encoding, box, _ = encode_image(model, image)
    # edges at 16 and 32, 8 and 20, 10 and 22 in blocks, 4 voxels around, on multiples of 4
    assert [(side.start, side.stop) for side in box] == [(12, 36), (4, 24), (4, 28)]
    assert encoding.decided
    assert_same(encoding, crop_encoding(model.encode(image), box))


@torch.inference_mode()
def test_where_nothing_is_found_all_is_kept(model) -> None:
    encoding, box, _ = encode_image(model, torch.zeros(1, 1, 16, 16, 16))
    assert [side.stop for side in box] == [16, 16, 16]
    assert encoding.coarse.shape == (1, 3, 16, 16, 16)


@torch.inference_mode()
def test_where_a_wide_network_finds_nothing_all_is_seen(model) -> None:
    with_wide = copy.deepcopy(model)
    with_wide.views = Views(View.of(with_wide.image_encoder), View.of(model.image_encoder))
    _, box, _ = encode_image(with_wide, torch.zeros(1, 1, 16, 16, 16))
    assert [side.stop for side in box] == [16, 16, 16]


@pytest.fixture(params=["plain", "mirrored", "wide"])
def looking(request, model) -> DiscrepancyDiffusionSegmenter:
    looking = copy.deepcopy(model)
    own = looking.image_encoder
    exchange = () if request.param == "plain" else (0, 2, 1)
    wide = View.of(copy.deepcopy(own), exchange) if request.param == "wide" else None
    looking.views = Views(View.of(own, exchange), wide)
    return looking


@torch.inference_mode()
def test_views_look_at_the_box_as_at_the_whole(looking) -> None:
    image = head()
    encoding, box, _ = encode_image(looking, image)
    whole = crop_encoding(looking.encode(image), box)
    torch.testing.assert_close(encoding.coarse_probabilities, whole.coarse_probabilities)
    assert all(side.start % 4 == side.stop % 4 == 0 for side in box)
    assert image[(slice(None), slice(None), *box)].sum() == image.sum()


@torch.inference_mode()
def test_the_cache_keeps_features_and_gives_everything_back(looking) -> None:
    encoding, box, tensors = encode_image(looking, head())
    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert max(map(torch.numel, kept.values())) <= encoding.coarse.numel()
    assert_same(_unpack(looking, kept), encoding)
    bounds = torch.tensor([[side.start, side.stop] for side in box])
    grid = head().shape[2:]
    assert _usable({**kept, "box": bounds}, grid, looking) is not None
    for name in names_of(looking.views):
        less = {key: value for key, value in kept.items() if key != name}
        assert _usable({**less, "box": bounds}, grid, looking) is None


def test_patches_must_fit_the_blocks_too() -> None:
    settings = tiny_settings(dims=3, model=BLOCK)  # three widths
    assert replace(settings, data=DataSettings(patch=(16, 24, 16))).data.patch == (16, 24, 16)
    four = replace(settings.model, widths=(4, 8, 8, 8))
    patch = DataSettings(patch=(16, 24, 16))
    with pytest.raises(SettingsError, match="must be a multiple of 16"):
        replace(settings, model=four, data=patch)
