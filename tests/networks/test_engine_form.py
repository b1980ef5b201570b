"""The encoder written for engines computes what the encoder does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ddmseg.networks.engine_form import EngineForm, encoding_of, output_names
from ddmseg.networks.normalisation import Normalisation
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from toys import tiny_model

BLOCK = {"encoder_form": "block", "denoiser_form": "light", "mask_stride": 2}
MODELS = {
    "2-D": {"dims": 2, "fine_blocks": 1},
    "3-D": {"dims": 3, "fine_blocks": 1},
    "3-D by batch statistics": {"dims": 3, "fine_blocks": 1, "normalisation": "batch"},
    "2-D on blocks": {"dims": 2, **BLOCK},
    "3-D on blocks": {"dims": 3, **BLOCK},
}


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def model(request: pytest.FixtureRequest) -> DiscrepancyDiffusionSegmenter:
    return tiny_model(**request.param)


def image_of(model: DiscrepancyDiffusionSegmenter, items: int = 2) -> torch.Tensor:
    sides = (8, 16, 24)[: model.dims]
    return torch.randn(items, 1, *sides, generator=torch.Generator().manual_seed(0))


def assert_same(theirs: torch.Tensor, ours: torch.Tensor) -> None:
    scale = ours.abs().max().clamp_min(1.0)  # made-up weights may say thousands
    torch.testing.assert_close(theirs / scale, ours / scale)


@torch.no_grad()
def test_the_form_computes_what_the_encoder_does(model) -> None:
    image = image_of(model)
    ours, theirs = (
        model.encode(image),
        encoding_of(list(EngineForm(model.image_encoder, model.dims)(image))),
    )
    for name in ("stem", "embedding", "coarse_logits"):
        assert_same(getattr(theirs, name), getattr(ours, name))
    assert len(ours.pyramid) == len(theirs.pyramid)
    for x, y in zip(ours.pyramid, theirs.pyramid, strict=True):
        assert_same(y, x)


@torch.no_grad()
def test_features_come_channels_last_as_torch_leaves_them(model) -> None:
    parts = EngineForm(model.image_encoder, model.dims)(image_of(model))
    encoding = encoding_of([part.contiguous() for part in parts])
    form = torch.channels_last if model.dims == 2 else torch.channels_last_3d
    for part in (encoding.stem, encoding.embedding, *encoding.pyramid):
        assert part.is_contiguous(memory_format=form)
    assert len(output_names(len(encoding.pyramid))) == len(parts)


def test_nothing_but_convolutions_and_normalisations_has_weights(model) -> None:
    form = EngineForm(model.image_encoder, model.dims)
    owners = {type(m) for m in form.modules() if list(m.parameters(recurse=False))}
    assert nn.Linear not in {base for owner in owners for base in owner.__mro__}
    assert not [m for m in form.modules() if isinstance(m, Normalisation)]
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    names = [name for name, layer in form.named_modules() if isinstance(layer, kinds)]
    assert {"encoder.head.logits", "encoder.head.logits.convolution"} & set(names)
    assert "encoder.down.0" in names


def test_the_encoder_itself_is_left_as_it_was(model) -> None:
    before = repr(model.image_encoder)
    weights = {name: w.clone() for name, w in model.image_encoder.state_dict().items()}
    form = EngineForm(model.image_encoder, model.dims)
    with torch.no_grad():
        for weight in form.parameters():
            weight.zero_()
    assert repr(model.image_encoder) == before
    for name, weight in model.image_encoder.state_dict().items():
        assert torch.equal(weight, weights[name])


@torch.no_grad()
def test_a_coarsest_grid_of_one_voxel_is_no_error() -> None:
    model = tiny_model(dims=3)
    image = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    parts = EngineForm(model.image_encoder, 3)(image)
    torch.testing.assert_close(parts[2].movedim(-1, 1), model.encode(image).coarse_logits)
