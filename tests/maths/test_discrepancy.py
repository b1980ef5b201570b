"""The discrepancy: what it is, what it is not, and its uses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.discrepancy import (
    discrepancy_map,
    energy,
    ensemble_weights,
    guidance,
    right_probability,
)

POINTS = arrays.arrays("float64", (1, 2, 3), elements=st.floats(-10, 10)).map(torch.from_numpy)
DISCREPANCIES = st.lists(st.floats(0, 50), min_size=1, max_size=6).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def discrepancy(a: Tensor, b: Tensor) -> Tensor:
    """The map's mean: one number an item."""
    return discrepancy_map(a, b).flatten(1).mean(1)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# The map


def test_the_map_by_hand():
    z_image = torch.tensor([[[3.0, 0.0], [4.0, 1.0]]])  # two channels, two voxels
    z_mask = torch.zeros(1, 2, 2)
    assert discrepancy_map(z_image, z_mask).tolist() == [[[25.0, 1.0]]]
    assert discrepancy(z_image, z_mask).tolist() == [13.0]


@pytest.mark.parametrize("grid", [(4, 5), (4, 5, 6)])
def test_shapes(grid):
    a, b = normal(2, 3, *grid), normal(2, 3, *grid, seed=1)
    assert discrepancy_map(a, b).shape == (2, 1, *grid)
    assert torch.equal(discrepancy_map(a, b)[:, 0], (a - b).square().sum(1))


def test_items_do_not_mix():
    a, b = normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1)
    assert discrepancy(a, b)[1] == discrepancy(a[1:], b[1:])[0]


@given(POINTS, POINTS)
def test_it_is_symmetric_and_zero_only_for_equals(a, b):
    assert discrepancy(a, b) == discrepancy(b, a)
    assert (discrepancy_map(a, b) >= 0).all()
    assert discrepancy(a, a) == 0
    if (a - b).abs().max() > 1e-6:
        assert discrepancy(a, b) > 0


# No metric, but its root is one


def test_squared_distance_breaks_the_triangle_inequality():
    zero, one, two = (torch.full((1, 1, 1), float(v)) for v in (0, 1, 2))
    assert discrepancy(zero, two) > discrepancy(zero, one) + discrepancy(one, two)


@given(POINTS, POINTS)
def test_the_midpoint_always_breaks_it(a, b):
    # 4 > 1 + 1 scaled: going by the middle halves the squared distance.
    assume((a - b).abs().max() > 1e-3)
    middle = (a + b) / 2
    assert discrepancy(a, b) > 1.5 * (discrepancy(a, middle) + discrepancy(middle, b))


@given(POINTS, POINTS, POINTS)
def test_the_root_keeps_the_triangle_inequality(a, b, c):
    around = discrepancy(a, b).sqrt() + discrepancy(b, c).sqrt()
    assert discrepancy(a, c).sqrt() <= around + 1e-9
    roots = [discrepancy_map(*pair).sqrt() for pair in ((a, b), (b, c), (a, c))]
    assert (roots[2] <= roots[0] + roots[1] + 1e-9).all()  # and so does each voxel's


# Energy


def test_energy_and_probability():
    D = torch.tensor([0.0, 1.0, 4.0])
    assert energy(D, temperature=2.0).tolist() == [0.0, 0.25, 1.0]
    assert right_probability(D, temperature=2.0).tolist() == pytest.approx(
        [1.0, math.exp(-0.25), math.exp(-1)]
    )


@given(DISCREPANCIES, st.floats(0.1, 10))
def test_probability_falls_with_discrepancy_and_rises_with_temperature(D, temperature):
    p = right_probability(D, temperature=temperature)
    assert ((p >= 0) & (p <= 1)).all()
    assert (right_probability(D + 1, temperature=temperature) <= p).all()
    assert (right_probability(D, temperature=2 * temperature) >= p).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(SettingsError, match=r"temperature: got .*; it must be above 0"):
        energy(torch.ones(2), temperature=temperature)


# Guidance


@pytest.fixture
def scene():
    """A fixed image embedding and a nonlinear mask encoder, in float64."""
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64)
    z_image = normal(2, 4, 5, 6)

    def discrepancy_of(mask: Tensor) -> Tensor:
        z_mask = torch.tanh(torch.nn.functional.conv2d(mask, kernel, padding=1))
        return discrepancy(z_image, z_mask)

    return discrepancy_of, normal(2, 2, 5, 6, seed=1)


def test_guidance_is_autograds_gradient(scene):
    discrepancy_of, mask = scene
    leaf = mask.clone().requires_grad_()
    discrepancy_of(leaf).sum().backward()
    expected = -leaf.grad / 0.7**2
    found = guidance(discrepancy_of, mask, temperature=0.7)
    assert torch.allclose(found, expected)
    assert not found.requires_grad


def test_guidance_is_the_slope_of_finite_differences(scene):
    discrepancy_of, mask = scene
    found, step = guidance(discrepancy_of, mask, temperature=0.7), 1e-5
    for index in [(0, 0, 0, 0), (0, 1, 2, 3), (1, 0, 4, 5)]:
        nudge = torch.zeros_like(mask)
        nudge[index] = step
        rise = discrepancy_of(mask + nudge).sum() - discrepancy_of(mask - nudge).sum()
        assert found[index].item() == pytest.approx((-rise / (2 * step) / 0.49).item(), rel=1e-6)


def test_guidance_lowers_the_discrepancy_even_without_gradients_on(scene):
    discrepancy_of, mask = scene
    with torch.no_grad():
        moved = mask + 0.5 * guidance(discrepancy_of, mask, temperature=1.0)
        assert (discrepancy_of(moved) < discrepancy_of(mask)).all()
    assert mask.grad is None


def test_items_guide_themselves(scene):
    # A sum over the batch, so that the number of items does not weaken the guidance.
    _, mask = scene
    found = guidance(lambda m: m.square().flatten(1).sum(1), mask, temperature=1.0)
    assert torch.allclose(found, -2 * mask)


# Ensemble weights


@given(DISCREPANCIES, st.floats(0.1, 10))
def test_weights_are_the_normalised_probabilities(D, temperature):
    weights = ensemble_weights(D, temperature=temperature)
    assert weights.sum().item() == pytest.approx(1)
    p = right_probability(D - D.min(), temperature=temperature)
    assert torch.allclose(weights, p / p.sum())


@given(DISCREPANCIES, st.floats(0.1, 10))
def test_a_common_offset_does_not_count(D, temperature):
    far = ensemble_weights(D + 1e5, temperature=temperature)  # exp(-1e5) alone is 0
    assert torch.allclose(far, ensemble_weights(D, temperature=temperature), atol=1e-6)


def test_cold_keeps_the_best_sample():
    D = torch.tensor([[0.3, 0.1, 0.2], [0.5, 0.5, 0.9]])
    best = [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    assert ensemble_weights(D, temperature=0.0).tolist() == best
    assert torch.allclose(ensemble_weights(D, temperature=1e-3), torch.tensor(best))


def test_hot_is_the_plain_mean():
    D = torch.tensor([0.3, 0.1, 20.0])
    for temperature in (1e6, math.inf):
        weights = ensemble_weights(D, temperature=temperature)
        assert torch.allclose(weights, torch.full((3,), 1 / 3))


def test_between_the_limits_the_lower_discrepancy_weighs_more():
    weights = ensemble_weights(torch.tensor([0.1, 0.2, 0.4]), temperature=0.5)
    assert weights.tolist() == sorted(weights.tolist(), reverse=True)
    assert weights[0] / weights[1] == pytest.approx(math.exp(0.1 / 0.25))


def test_a_temperature_that_is_no_size_is_refused():
    with pytest.raises(SettingsError, match=r"temperature: got -1.0; it must not be negative"):
        ensemble_weights(torch.ones(2), temperature=-1.0)
