"""Preprocessing that tables vary: each way by hand, laws of units, and refusals."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import MissingExtraError, ScanError
from ddmseg.imaging import preprocess_variants
from ddmseg.imaging.intensity import normalise
from ddmseg.imaging.preprocess_variants import (
    NORMALISATIONS,
    min_max,
    percentiles,
    prepare_intensities,
    there_and_back,
    z_score,
)

ONE_MM = (1.0, 1.0, 1.0)


def scan(shape=(12, 13, 11), seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.gamma(4.0, 20.0, shape).astype(np.float32)


def test_left_alone_it_is_the_package_s_own_normalisation():
    found = prepare_intensities(scan(), ONE_MM)
    assert found.dtype == np.float32
    assert np.array_equal(found, normalise(scan()))


# Normalisations


def test_z_score_by_hand():
    image = np.array([0.0, 0.0, 10.0, 14.0]).reshape(1, 2, 2)  # tissue: mean 12, deviation 2
    expected = [0.5 - 6 / 6, 0.5 - 6 / 6, 0.5 - 1 / 6, 0.5 + 1 / 6]
    np.testing.assert_allclose(z_score(image).ravel(), np.clip(expected, 0, 1.5), atol=1e-6)


def test_min_max_by_hand():
    image = np.array([-5.0, 0.0, 5.0, 15.0]).reshape(2, 2, 1)
    assert min_max(image).ravel().tolist() == [0.0, 0.25, 0.5, 1.0]


def test_percentiles_by_hand():
    image = np.arange(101.0).reshape(101, 1, 1)
    found = percentiles(image).ravel()
    np.testing.assert_allclose(found[1:100], (np.arange(1, 100) - 1) / 98, atol=1e-6)
    assert (found[0], found[100]) == (0.0, 1.0)


@pytest.mark.parametrize("name", NORMALISATIONS)
@given(gain=st.floats(0.1, 100), offset=st.floats(-50, 50))
def test_units_of_the_scanner_make_no_difference(name, gain, offset):
    image = scan().astype(np.float64)
    np.testing.assert_allclose(
        NORMALISATIONS[name](gain * image + offset), NORMALISATIONS[name](image), atol=2e-3
    )


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_all_lie_in_the_range_that_augmentation_wants_and_keep_order(name):
    image = scan()
    found = NORMALISATIONS[name](image)
    assert found.dtype == np.float32
    assert found.shape == image.shape
    assert 0 <= found.min() < found.max() <= 1.5
    order = np.argsort(image, axis=None)
    assert (np.diff(found.ravel()[order]) >= 0).all()


def test_a_spike_moves_min_max_and_hardly_percentiles():
    image = scan()
    spoilt = image.copy()
    spoilt[0, 0, 0] = 100 * image.max()
    moved = {
        n: np.abs(NORMALISATIONS[n](spoilt) - NORMALISATIONS[n](image))[1:].max()
        for n in NORMALISATIONS
    }
    assert moved["min_max"] > 0.5
    assert moved["percentiles"] < 0.1
    assert moved["robust"] < 0.1


# There and back


def test_what_a_coarser_grid_can_hold_comes_back():
    ramp = np.broadcast_to(np.arange(24.0, dtype=np.float32)[:, None, None], (24, 10, 10))
    back = there_and_back(np.array(ramp), ONE_MM, 1.5)
    assert back.shape == ramp.shape
    np.testing.assert_allclose(back[3:-3], ramp[3:-3], atol=0.4)
    flat = np.full((9, 8, 7), 3.0, np.float32)
    np.testing.assert_allclose(there_and_back(flat, ONE_MM, 1.5), flat, rtol=1e-6)


def test_detail_below_the_other_voxel_is_lost():
    board = (np.indices((16, 16, 16)).sum(0) % 2).astype(np.float32)
    assert there_and_back(board, ONE_MM, 2.0).std() < 0.1 * board.std()
    noise = scan((20, 20, 20))
    stds = [there_and_back(noise, ONE_MM, mm).std() for mm in (1.0, 1.5, 3.0)]
    assert stds == sorted(stds, reverse=True)


def test_at_the_same_spacing_nothing_changes():
    image = scan()
    np.testing.assert_allclose(there_and_back(image, (1.5,) * 3, 1.5), image, rtol=1e-5)
    along = np.broadcast_to(image[:1, :, :1], image.shape)  # varies where the spacing is 1.5 alone
    np.testing.assert_allclose(there_and_back(along, (0.94, 1.5, 0.94), 1.5), along, rtol=1e-5)


@given(
    st.tuples(*[st.integers(2, 14)] * 3),
    st.tuples(*[st.floats(0.5, 3.0)] * 3),
    st.floats(0.5, 4.0),
)
def test_any_shape_and_spacing_returns_to_its_grid_within_its_range(shape, spacing, other):
    image = scan(shape)
    back = there_and_back(image, spacing, other)
    assert back.shape == image.shape
    assert image.min() - 1e-3 <= back.min() <= back.max() <= image.max() * (1 + 1e-5)


def test_resampling_is_part_of_the_preparation():
    fine = prepare_intensities(scan(), ONE_MM)
    coarse = prepare_intensities(scan(), ONE_MM, resample_mm=1.5)
    assert coarse.shape == fine.shape
    assert np.diff(coarse, axis=0).std() < np.diff(fine, axis=0).std()


# Refusals


@pytest.mark.parametrize("name", [n for n in NORMALISATIONS if n != "robust"])
def test_images_without_contrast_cannot_be_normalised(name):
    with pytest.raises(ScanError, match="no contrast: each voxel is 7"):
        NORMALISATIONS[name](np.full((2, 2, 2), 7.0))


def test_tissue_of_one_value_is_refused():
    image = np.zeros((4, 4, 4))
    image[1] = 3.0
    with pytest.raises(ScanError, match="tissue has no contrast: each voxel is 3"):
        z_score(image)
    image = np.zeros((10, 10, 10))
    image[0, 0, 0] = 1.0
    with pytest.raises(ScanError, match="98% of its voxels are 0"):
        percentiles(image)


def test_n4_comes_first(monkeypatch):
    seen = []
    monkeypatch.setattr(
        preprocess_variants, "correct_bias", lambda image: seen.append(image) or 2 * image
    )
    found = prepare_intensities(scan(), ONE_MM, bias_field=True)
    assert np.array_equal(seen[0], scan())
    np.testing.assert_allclose(found, normalise(2 * scan()), rtol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("SimpleITK") is not None, reason="SimpleITK is installed here"
)
def test_n4_without_simpleitk_says_how_to_install_it():
    with pytest.raises(MissingExtraError, match=r"of the extra 'n4'"):
        prepare_intensities(scan(), ONE_MM, bias_field=True)
