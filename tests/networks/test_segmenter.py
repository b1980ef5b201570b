"""The joined model: encoded once, one code for 2-D and 3-D, plain or with diffusion."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import ddmseg.networks
from ddmseg.errors import SettingsError
from ddmseg.maths.discrepancy import discrepancy_map
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.blocks import unfold
from ddmseg.networks.sampling import MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from toys import tiny_model

GRID = 8


def images(dims: int, *, items: int = 1) -> torch.Tensor:
    return torch.randn(items, 1, *(GRID,) * dims, generator=torch.Generator().manual_seed(1))


def labels(dims: int, classes: int, *, items: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, classes, (items, *(GRID,) * dims), generator=generator)


def nearest_class(model: DiscrepancyDiffusionSegmenter, mask: torch.Tensor) -> torch.Tensor:
    """Class whose code lies nearest to each voxel's."""
    distance = torch.cdist(mask.movedim(1, -1).flatten(1, -2), model.mask_encoding.codebook[None])
    return distance.argmin(-1).reshape(mask.shape[0], *mask.shape[2:])


@pytest.mark.parametrize("steps", [1, 5])
@torch.no_grad()
def test_the_image_is_encoded_once_for_any_number_of_samples(steps):
    model = tiny_model()
    calls = {"f^I": 0, "f^S": 0, "denoiser": 0}
    parts = zip(
        calls, (model.image_encoder, model.segmentation_encoder, model.denoiser), strict=True
    )
    for name, part in parts:

        def count(*_: object, name: str = name) -> None:
            calls[name] += 1

        part.register_forward_hook(count)
    sampler = MaskSampler(model, model.encode(images(2)), make_schedule())
    for seed in range(4):
        sampler(steps=steps, generator=torch.Generator().manual_seed(seed))
    assert calls == {"f^I": 1, "f^S": 4 * steps, "denoiser": 4 * steps}


@torch.no_grad()
def test_image_features_are_projected_once_a_scan():
    model = tiny_model()
    projections = []
    model.denoiser.see_half.register_forward_hook(lambda *_: projections.append(1))
    sampler = MaskSampler(model, model.encode(images(2)), make_schedule())
    sampler(steps=4)
    sampler(steps=4)
    assert len(projections) == 1


# The plain network


@pytest.mark.parametrize("dims", [2, 3])
def test_the_plain_network_is_the_encoder_with_its_head(dims):
    model = tiny_model(dims=dims, diffusion=False, fresh=True)
    assert model.denoiser is None
    assert model.segmentation_encoder is None
    x = images(dims, items=2)
    assert model(x).shape == (2, 3, *(GRID,) * dims)
    assert torch.equal(model(x), model.encode(x).coarse_logits)
    assert all(name.startswith("image_encoder.") for name in model.state_dict())


def test_plain_and_full_network_start_from_the_same_encoder():
    # Otherwise a comparison of the two would also compare two random starts.
    plain, full = tiny_model(diffusion=False, fresh=True), tiny_model(fresh=True)
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, full.state_dict()[name])


def test_the_plain_network_says_what_it_lacks():
    model = tiny_model(diffusion=False)
    encoding = model.encode(images(2))
    with pytest.raises(ValueError, match="plain network has no denoiser"):
        model.conditions(encoding)
    with pytest.raises(ValueError, match="plain network has no discrepancy"):
        model.discrepancy_map(encoding, labels(2, 3))


# Discrepancy


@pytest.mark.parametrize("dims", [2, 3])
@torch.no_grad()
def test_the_discrepancy_map_is_the_distance_of_the_embeddings(dims):
    model = tiny_model(dims=dims)
    encoding, mask = model.encode(images(dims, items=2)), labels(dims, 3, items=2)
    found = model.discrepancy_map(encoding, mask)
    z_mask = unfold(model.segmentation_encoder(model.mask_encoding.of_labels(mask)))
    torch.testing.assert_close(found, discrepancy_map(unfold(encoding.embedding), z_mask))
    assert found.shape == (2, 1, *(GRID,) * dims)


@torch.no_grad()
def test_the_discrepancy_is_of_image_and_mask():
    model = tiny_model()
    encoding = model.encode(images(2))
    a, b = labels(2, 3), labels(2, 3).roll(1, 1)
    assert not torch.allclose(
        model.discrepancy_map(encoding, a), model.discrepancy_map(encoding, b)
    )
    other = model.encode(images(2).roll(2, -1))
    assert not torch.allclose(model.discrepancy_map(encoding, a), model.discrepancy_map(other, a))


# Many classes


@pytest.mark.parametrize(("classes", "channels"), [(16, 16), (17, 5), (33, 6)])
@torch.no_grad()
def test_above_16_classes_masks_are_bits(classes, channels):
    model = tiny_model(classes=classes, mask_stride=2)
    assert model.mask_encoding.channels == channels
    mask = labels(2, classes)
    assert torch.equal(nearest_class(model, model.mask_encoding.of_labels(mask)), mask)
    p = MaskSampler(model, model.encode(images(2)), make_schedule())(steps=2)
    assert p.shape == (1, classes, GRID, GRID)
    torch.testing.assert_close(p.sum(1), torch.ones(1, GRID, GRID))


@pytest.mark.parametrize("classes", [5, 33])
@torch.no_grad()
def test_a_sure_coarse_head_is_decoded_right_through_the_bits(classes):
    # Fresh, the denoiser repeats the coarse head; with sure logits all else must keep the labels.
    model = tiny_model(classes=classes, fresh=True)
    truth = labels(2, classes)
    encoding = model.encode(images(2))
    sure = 40.0 * torch.nn.functional.one_hot(truth, classes).movedim(-1, 1).float()
    encoding = type(encoding)(encoding.stem, encoding.pyramid, encoding.embedding, sure)
    sampler = MaskSampler(model, encoding, make_schedule())
    assert torch.equal(nearest_class(model, sampler.first_estimate), truth)
    assert torch.equal(sampler(steps=3).argmax(1), truth)


def test_one_class_is_refused():
    with pytest.raises(SettingsError, match="classes: got 1; at least 2 are needed"):
        tiny_model(classes=1)


# Floors


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_networks_know_nothing_of_files_settings_or_images():
    files = sorted(Path(ddmseg.networks.__file__).parent.glob("*.py"))
    assert len(files) >= 7
    for path in files:
        own = {name for name in imported(path) if name.startswith("ddmseg")}
        assert all(
            name.startswith(("ddmseg.networks", "ddmseg.maths", "ddmseg.types", "ddmseg.errors"))
            for name in own
        ), path.name
        assert not imported(path) & {"os", "pathlib", "json", "tomllib", "rich", "safetensors"}


# Noise as the target


def test_true_noise_gives_back_the_true_mask():
    model = tiny_model(target="noise")
    truth = labels(2, 3, items=2)
    x_0 = model.mask_encoding.of_labels(truth)
    schedule, t = make_schedule(), torch.tensor([0.2, 0.7])
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(3))
    alpha = torch.sigmoid(schedule.log_snr(t)).sqrt().reshape(-1, 1, 1, 1)
    sigma = torch.sigmoid(-schedule.log_snr(t)).sqrt().reshape(-1, 1, 1, 1)
    logits = model.clean_logits(eps, alpha * x_0 + sigma * eps, schedule.log_snr(t))
    p = torch.softmax(logits, dim=1)
    assert torch.equal(p.argmax(1), truth)
    assert (p.amax(1) > 0.999).all()
    # Wrong noise moves the mask: what is tested is no accident of the shapes.
    other = model.clean_logits(-eps, alpha * x_0 + sigma * eps, schedule.log_snr(t))
    assert not torch.equal(other.argmax(1), truth)


@torch.no_grad()
def test_a_noise_predictor_samples_finite_probabilities():
    model = tiny_model(target="noise")
    p = MaskSampler(model, model.encode(images(2)), make_schedule())(
        steps=5, generator=torch.Generator().manual_seed(0)
    )
    assert torch.allclose(p.sum(1), torch.ones(1, GRID, GRID))


def test_analog_bits_have_no_noise_target():
    with pytest.raises(SettingsError, match="at most 16"):
        tiny_model(classes=17, target="noise")
