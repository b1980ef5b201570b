"""Doubtful regions against truths that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.imaging.grid import Grid
from ddmseg.quality.doubtful_regions import entropy_doubt, error_probability, find_doubtful_regions


def a_grid(shape: tuple[int, int, int] = (40, 40, 40), spacing_mm: float = 1.0) -> Grid:
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (-10, -20, -30)
    return Grid(shape, affine)


def test_two_blocks_come_in_the_order_of_their_expected_error() -> None:
    doubt = np.zeros((40, 40, 40), np.float32)
    labels = np.full(doubt.shape, 2)
    doubt[3:6, 3:6, 3:6] = 0.9
    doubt[20:25, 20:25, 20:25] = 0.6
    labels[:10] = 17
    large, small = find_doubtful_regions(doubt, labels, a_grid())
    assert (large.index, small.index) == (2, 17)
    assert large.volume_ml == pytest.approx(0.125)
    assert large.expected_error_ml == pytest.approx(125 * 0.6 / 1000, rel=1e-5)
    assert small.expected_error_ml == pytest.approx(27 * 0.9 / 1000, rel=1e-5)
    assert large.position_mm == (12.0, 2.0, -8.0)
    assert small.position_mm == (-6.0, -16.0, -26.0)


def test_what_was_missed_is_named_after_its_neighbour() -> None:
    doubt = np.zeros((40, 40, 40), np.float32)
    labels = np.zeros(doubt.shape, int)
    labels[30:, 20, 20] = 53
    doubt[24:28, 19:22, 19:22] = 0.8
    (region,) = find_doubtful_regions(doubt, labels, a_grid())
    assert (region.index, region.beside) == (0, 53)
    (alone,) = find_doubtful_regions(doubt, np.zeros_like(labels), a_grid())
    assert (alone.index, alone.beside) == (0, 0)


def test_one_long_piece_is_cut_at_its_valleys() -> None:
    doubt = np.zeros((60, 20, 20), np.float32)
    doubt[5:55, 9:12, 9:12] = 0.6
    doubt[8:13, 8:13, 8:13] = 1.0
    doubt[45:50, 8:13, 8:13] = 0.9
    grid = a_grid(doubt.shape)
    regions = find_doubtful_regions(doubt, np.ones(doubt.shape, int), grid)
    assert regions[0].position_mm == (0.0, -10.0, -20.0)
    assert {(0.0, -10.0, -20.0), (37.0, -10.0, -20.0)} <= {p.position_mm for p in regions}
    assert sum(p.volume_ml for p in regions) == pytest.approx((doubt >= 0.5).sum() / 1000)


@given(st.integers(0, 2**32 - 1))
def test_places_share_out_every_doubtful_voxel_once(seed: int) -> None:
    generator = np.random.default_rng(seed)
    doubt = generator.random((9, 8, 7), dtype=np.float32) ** 2
    regions = find_doubtful_regions(
        doubt, generator.integers(0, 3, doubt.shape), a_grid((9, 8, 7), 4.0)
    )
    high = doubt >= 0.5
    assert sum(p.volume_ml for p in regions) == pytest.approx(high.sum() * 0.064)
    assert sum(p.expected_error_ml for p in regions) == pytest.approx(doubt[high].sum() * 0.064)
    errors = [p.expected_error_ml for p in regions]
    assert errors == sorted(errors, reverse=True)


def test_no_doubt_gives_no_place_and_nan_is_no_doubt() -> None:
    doubt = np.full((4, 4, 4), np.nan, np.float32)
    assert find_doubtful_regions(doubt, np.ones((4, 4, 4), int), a_grid((4, 4, 4))) == []


def test_the_list_ends_somewhere() -> None:
    doubt = np.zeros((40, 40, 40), np.float32)
    doubt[::4, ::4, ::4] = 1.0
    assert len(find_doubtful_regions(doubt, np.ones(doubt.shape, int), a_grid(), most=7)) == 7


def test_probabilities_of_error_follow_their_formulas() -> None:
    D = np.array([0.0, 1.0, 4.0], np.float32)
    expected = [1 - math.exp(-d / 4) for d in D.tolist()]
    np.testing.assert_allclose(error_probability(D, temperature=2.0), expected, rtol=1e-6)
    draw = math.log(2) / math.log(33)
    doubt = entropy_doubt(np.array([0.0, draw, 1.0], np.float32), classes=33)
    np.testing.assert_allclose(doubt, [0.0, 0.5, 1.0], rtol=1e-6)
