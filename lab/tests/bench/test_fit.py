"""Exponents of made-up data, agreement by hand, resampled grids."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import ScanError
from ddmseg.imaging.volume import Volume
from ddmseg.maths.metrics import dice
from ddmseg_lab.bench.scans import DEMO, find_bench_scans, padded_head, refined
from ddmseg_lab.bench.summary import fit_power_law
from ddmseg_lab.bench.workbench import agreement

SIZES = [1, 2, 5, 10, 50]


@given(st.floats(-3, 3), st.floats(1e-3, 1e3))
def test_the_exponent_of_a_power_law_is_found_exactly(exponent, factor):
    fit = fit_power_law(SIZES, [factor * size**exponent for size in SIZES])
    assert fit.exponent == pytest.approx(exponent, abs=1e-9)
    assert fit.factor == pytest.approx(factor, rel=1e-6)
    assert fit.low <= fit.exponent <= fit.high
    assert fit.high - fit.low < 1e-4
    assert fit.n == 5


def test_the_interval_is_students():
    # log cost = 0, 1, 3 at log size = 0, 1, 2: slope 3/2, residual variance 1/6,
    # standard error sqrt(1/6 / 2), and t of one degree of freedom is 12.7062
    fit = fit_power_law([1, math.e, math.e**2], [1, math.e, math.e**3])
    assert fit.exponent == pytest.approx(1.5)
    assert fit.high - 1.5 == pytest.approx(12.7062 * math.sqrt(1 / 12), rel=1e-4)
    assert 1.5 - fit.low == pytest.approx(fit.high - 1.5)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        noisy = [size**0.8 * math.exp(generator.normal(0, 0.2)) for size in SIZES]
        fit = fit_power_law(SIZES, noisy)
        hits += fit.low <= 0.8 <= fit.high
    assert 0.91 <= hits / 400 <= 0.985


def test_what_has_no_logarithm_is_left_out():
    fit = fit_power_law([1, 2, 4, 8, 16], [1, 2, 0, math.nan, 16])
    assert (fit.n, fit.exponent) == (3, pytest.approx(1.0))


@pytest.mark.parametrize(("sizes", "n"), [([], 0), ([3], 1), ([3, 3], 2)])
def test_one_size_has_no_exponent(sizes, n):
    fit = fit_power_law(sizes, [1.0] * len(sizes))
    assert (math.isnan(fit.exponent), fit.n) == (True, n)


def test_two_sizes_have_an_exponent_without_interval():
    fit = fit_power_law([1, 4], [3, 6])
    assert fit.exponent == pytest.approx(0.5)
    assert math.isnan(fit.low)
    assert math.isnan(fit.high)


def test_mean_dice_is_that_of_each_structure():
    generator = np.random.default_rng(1)
    a, b = (generator.choice([0, 2, 17, 53], (6, 7, 5)) for _ in range(2))
    b[b == 53] = 41  # two structures that only one of them has
    each = [dice(a == i, b == i) for i in (2, 17, 41, 53)]
    assert agreement(a, b) == pytest.approx(np.mean(each))
    assert agreement(a, b) == agreement(b, a)
    assert agreement(a, a) == 1.0


def test_nothing_agrees_with_nothing_in_no_way():
    empty = np.zeros((2, 2, 2), np.int32)
    assert math.isnan(agreement(empty, empty))
    assert agreement(empty, empty + 3) == 0.0


def test_label_maps_of_other_grids_are_refused():
    with pytest.raises(ScanError, match=r"shapes \(2,\) and \(3,\) differ"):
        agreement(np.zeros(2, int), np.zeros(3, int))


@pytest.fixture
def ramp() -> Volume:
    affine = np.array([[-2.0, 0, 0, 90], [0, 0, 1, -120], [0, 1, 0, -70], [0, 0, 0, 1]])
    places = np.indices((8, 12, 10)).astype(np.float32)
    return Volume(places[0] + 10 * places[1] + 100 * places[2], affine, "ramp")


@pytest.mark.parametrize("factor", [0.125, 1.0, 2.0, 8.0])
def test_a_refined_scan_fills_the_same_place(ramp, factor):
    found = refined(ramp, factor)
    assert found.data.size == pytest.approx(factor * ramp.data.size, rel=0.15)
    for corner in (0, 1):  # outer faces
        ours = found.affine @ [*(corner * np.array(found.shape) - 0.5), 1]
        theirs = ramp.affine @ [*(corner * np.array(ramp.shape) - 0.5), 1]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    # linear in space: the same value in the same place, away from the edges
    middle = (np.array(found.shape) // 2).tolist()
    there = np.linalg.inv(ramp.affine) @ found.affine @ [*middle, 1]
    assert found.data[tuple(middle)] == pytest.approx(there[:3] @ [1, 10, 100], rel=0.02)


def test_a_scan_not_refined_is_itself(ramp):
    same = refined(ramp, 1.0)
    np.testing.assert_array_equal(same.data, ramp.data)
    np.testing.assert_array_equal(same.affine, ramp.affine)


def test_padding_keeps_every_voxel_in_its_place(ramp):
    wide = padded_head(ramp, 16)
    assert wide.shape == (16, 16, 16)
    np.testing.assert_array_equal(wide.data[4:12, 2:14, 3:13], ramp.data)
    assert wide.data.sum() == pytest.approx(ramp.data.sum(), rel=1e-5)
    np.testing.assert_allclose(wide.affine @ [4, 2, 3, 1], ramp.affine @ [0, 0, 0, 1])


def test_without_a_name_the_demo_head_is_measured():
    (scan,) = find_bench_scans([])
    assert (scan.name, scan.shape) == (DEMO, (181, 217, 181))
