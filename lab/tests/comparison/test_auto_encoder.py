"""Auto-encoders and the maps of two ensembles: shapes, the formulas, and what they must ignore."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ddmseg_lab.comparison.auto_encoder import AutoEncoder, DiscrepancyMaps


def images(dims: int, contrasts: int = 1, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, contrasts, *(size,) * dims, generator=generator)


class Adds(nn.Module):
    """Draws the image plus a constant, so that every mean is known."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.amount


@pytest.mark.parametrize(("dims", "contrasts"), [(2, 2), (3, 1)])
def test_a_drawing_has_the_image_s_shape(dims, contrasts):
    network = AutoEncoder(dims, contrasts, widths=(4, 4), code=2)
    assert network.multiple == 4
    assert network(images(dims, contrasts)).shape == images(dims, contrasts).shape


def test_it_squeezes():
    network = AutoEncoder(2, 1, widths=(4, 4, 4), code=2)
    kept: list[torch.Tensor] = []
    network.squeeze.register_forward_hook(lambda *call: kept.append(call[2]))
    network(images(2))
    assert kept[0].shape == (2, 2, 2, 2)  # 8 numbers of 256


def test_it_learns_to_redraw():
    torch.manual_seed(0)
    network = AutoEncoder(2, 1, widths=(8, 8), code=4)
    image = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    before = float((network(image) - image).square().mean().detach())
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = (network(image) - image).square().mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < before / 20


def test_a_drawing_does_not_depend_on_what_is_far_away():
    torch.manual_seed(0)
    network = AutoEncoder(2, 1, widths=(4, 4), code=2)
    image = images(2, size=64)
    changed = image.clone()
    changed[..., 48:, :] = 5.0
    same = network(image)[..., :16, :], network(changed)[..., :16, :]
    torch.testing.assert_close(*same)
    assert not torch.allclose(network(image)[..., 56:, :], network(changed)[..., 56:, :])


def test_the_maps_by_hand():
    maps = DiscrepancyMaps(2, 2, members=3)
    maps.of_all = nn.ModuleList(Adds(a) for a in (0.0, 0.3, 0.6))  # mean 0.3
    maps.of_normal = nn.ModuleList(Adds(a) for a in (-0.4, 0.1, 0.0))  # mean -0.1
    found = maps(images(2, contrasts=2))
    assert found.shape == (2, 2, 16, 16)
    inter, intra = found[:, 0], found[:, 1]
    torch.testing.assert_close(inter, torch.full_like(inter, 0.4))
    spread = ((0.3**2 + 0.2**2 + 0.1**2) / 3) ** 0.5
    torch.testing.assert_close(intra, torch.full_like(intra, spread))


def test_the_mean_over_contrasts_comes_last():
    class First(Adds):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            moved = image.clone()
            moved[:, 0] += self.amount
            return moved

    maps = DiscrepancyMaps(2, 2, members=2)
    maps.of_all = nn.ModuleList(First(0.5) for _ in range(2))
    maps.of_normal = nn.ModuleList(Adds(0.0) for _ in range(2))
    inter, intra = maps(images(2, contrasts=2))[0]
    torch.testing.assert_close(inter, torch.full_like(inter, 0.25))
    assert intra.abs().max() < 1e-6


def test_maps_are_divided_by_their_scale():
    maps = DiscrepancyMaps(2, 1, members=2, widths=(4, 4), code=2)
    image = images(2)
    before = maps(image)
    maps.scale.copy_(torch.tensor([2.0, 4.0]))
    torch.testing.assert_close(maps(image)[:, 0], before[:, 0] / 2)
    torch.testing.assert_close(maps(image)[:, 1], before[:, 1] / 4)
    assert "scale" in maps.state_dict()
