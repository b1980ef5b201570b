"""Distances from a reference: SciPy's, leaving one out by doing it, and units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis

from ddmseg.maths import shift as reference_distance
from ddmseg.maths.shift import reference_distances

SEEDS = st.integers(0, 10**6)


def cloud(seed: int, count: int = 40, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, channels)) @ generator.normal(size=(channels, channels))
    return x + 5, np.arange(count) < 25


@settings(max_examples=20)
@given(SEEDS)
def test_without_ridge_it_is_scipys_and_members_are_left_out(seed: int) -> None:
    x, member = cloud(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_distance, "RIDGE", 0.0)
        (found,) = reference_distances(x, member[None])
    for place in range(len(x)):
        others = x[member & (np.arange(len(x)) != place)]
        inverse = np.linalg.inv(np.cov(others.T))
        expected = mahalanobis(x[place], others.mean(0), inverse)
        assert found[place] == pytest.approx(expected, rel=1e-6)


@settings(max_examples=20)
@given(SEEDS)
def test_units_of_the_channels_do_not_matter(seed: int) -> None:
    x, member = cloud(seed)
    scaled = x * [1000.0, 0.01, -1.0] + [5, 0, 100]
    first, other = (reference_distances(y, member[None]) for y in (x, scaled))
    np.testing.assert_allclose(first, other, rtol=1e-6)


def test_several_references_at_once_are_each_alone() -> None:
    x, member = cloud(0)
    several = np.stack([member, ~member, np.roll(member, 7)])
    together = reference_distances(x, several)
    for own, found in zip(several, together, strict=True):
        np.testing.assert_allclose(reference_distances(x, own[None])[0], found)


def test_more_channels_than_members_stay_finite_and_far_is_far() -> None:
    x = np.random.default_rng(0).normal(size=(30, 40))
    x[-1] += 20
    (found,) = reference_distances(x, (np.arange(30) < 20)[None])
    assert np.isfinite(found).all()
    assert found.argmax() == 29


def test_channels_that_never_vary_are_ignored() -> None:
    x, member = cloud(1)
    padded = np.hstack([x, np.full((len(x), 2), 3.0)])
    np.testing.assert_allclose(
        reference_distances(padded, member[None]), reference_distances(x, member[None])
    )
    assert not reference_distances(np.ones((len(x), 2)), member[None]).any()
