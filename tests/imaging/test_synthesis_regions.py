"""Images painted from a scan's own labels: like tissues look alike, air stays air."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from ddmseg.imaging.synthesis import regions as synthesis_regions
from ddmseg.imaging.synthesis.regions import background_regions, clusters, repaint


def example(dims: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Two blocks side by side in a background of a dark and a bright half."""
    shape = (24, 20, 16)[:dims]
    labels = torch.zeros(shape, dtype=torch.int64)
    labels[6:12, 5:15], labels[12:18, 5:15] = 1, 2
    image = torch.full(shape, 0.3)
    image[:, 10:] = 0.7
    noise = torch.rand(shape, generator=Generator().manual_seed(0))
    return (image + 0.05 * noise + 0.3 * (labels > 0))[None], labels


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_image_of_the_same_shape_that_the_seed_decides(dims):
    image, labels = example(dims)
    first, again, other = (repaint(image, labels, seeded(s), tissues=(0, 1, 2)) for s in (1, 1, 2))
    assert first.shape == image.shape
    assert first.isfinite().all()
    assert first.min() >= 0
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.05)


def test_the_real_intensities_are_not_shown():
    image, labels = example()
    correlations = []
    for seed in range(30):
        painted = repaint(image, labels, seeded(seed), tissues=(0, 1, 2))
        correlations.append(torch.corrcoef(torch.stack([painted.flatten(), image.flatten()]))[0, 1])
    found = torch.stack(correlations)
    assert found.mean().abs() < 0.4
    assert found.max() > 0.3 > -0.3 > found.min()  # any contrast, reversed too


def quiet(monkeypatch) -> None:
    """Paint flat regions: no texture, blur, shade or noise."""
    monkeypatch.setattr(synthesis_regions, "LARGEST_SPREAD", 0.0)
    monkeypatch.setattr(synthesis_regions, "_spoilt", lambda image, generator: image)


@pytest.mark.parametrize(("tissues", "alike"), [((0, 1, 1), True), ((0, 1, 2), False)])
def test_classes_of_one_tissue_look_alike(monkeypatch, tissues, alike):
    quiet(monkeypatch)
    image, labels = example()
    painted = repaint(image, labels, seeded(3), tissues=tissues)[0]
    one, two = painted[labels == 1].unique(), painted[labels == 2].unique()
    assert len(one) == len(two) == 1
    assert bool(one == two) is alike


def test_the_background_has_its_regions(monkeypatch):
    quiet(monkeypatch)
    image, labels = example()
    painted = repaint(image, labels, seeded(4), tissues=(0, 1, 1))[0]
    outside = painted[labels == 0].unique()
    assert 3 <= len(outside) <= 6
    assert painted[labels > 0].unique().item() not in outside.tolist()


@pytest.mark.parametrize("dims", [2, 3])
def test_air_of_a_stripped_skull_stays_dark(dims):
    image, labels = example(dims)
    image[0, :4] = 0
    for seed in range(5):
        painted = repaint(image, labels, seeded(seed), tissues=(0, 1, 2), stripped=True)[0]
        assert painted[:4].max() == 0
        assert painted[6:].max() > 0
    assert repaint(image, labels, seeded(0), tissues=(0, 1, 2))[0, :4].max() > 0


def test_nothing_but_air_stays_nothing():
    labels = torch.zeros(6, 6, dtype=torch.int64)
    painted = repaint(torch.zeros(1, 6, 6), labels, seeded(0), tissues=(0, 1), stripped=True)
    assert painted.max() == painted.min() == 0


def test_no_background_at_all():
    labels = torch.ones(6, 7, 8, dtype=torch.int64)
    painted = repaint(torch.rand(1, 6, 7, 8), labels, seeded(0), tissues=(0, 1))
    assert painted.isfinite().all()


def test_regions_lie_where_there_is_no_label():
    image, labels = example()
    regions, air = background_regions(image[0], labels, seeded(0), stripped=False)
    assert regions[labels > 0].max() == 0
    assert not air.any()


# Clusters


def test_clusters_by_hand():
    values = torch.tensor([0.0, 0.1, 5.0, 5.1, 9.0, 9.2])
    assert clusters(values, 3).tolist() == [0, 0, 1, 1, 2, 2]


def test_clusters_do_not_depend_on_sizes_of_groups():
    values = torch.cat([torch.linspace(0, 1, 900), torch.linspace(8, 9, 100)])
    found = clusters(values, 2)
    assert found[:900].max() == 0
    assert found[900:].min() == 1


@given(st.lists(st.floats(0, 2, width=32), min_size=1, max_size=60), st.integers(2, 6))
def test_clusters_keep_the_order_of_values(values, count):
    numbers = torch.tensor(values)
    found = clusters(numbers, count)
    assert 0 <= found.min() <= found.max() < count
    order = numbers.argsort()
    assert (found[order].diff() >= 0).all()
