"""Normalisation: the definition, its laws, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmseg.errors import ScanError
from ddmseg.imaging.intensity import (
    CEILING,
    MAX_SAMPLES,
    intensity_range,
    lattice_sample,
    normalise,
)


def head(seed: int = 0, n: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.abs(rng.normal(0, 3, (n, n, n)))
    image[8:-8, 8:-8, 8:-8] += rng.uniform(40, 120, (n - 16, n - 16, n - 16))
    return image.astype(np.float32)


def test_definition_by_hand() -> None:
    image = head()
    low, high = np.percentile(image, 0.5), np.percentile(image[image > image.mean()], 98)
    assert intensity_range(image) == pytest.approx((low, high), rel=1e-4)
    expected = np.clip((image - low) / (high - low), 0, 1.5)
    assert np.allclose(normalise(image), expected, atol=1e-4)


def test_tensor_and_array_agree_and_keep_their_kind() -> None:
    image = head()
    tensor = normalise(torch.from_numpy(image))
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.float32
    array = normalise(image)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    assert np.allclose(array, tensor.numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_other_types_come_back_as_float32(dtype: type) -> None:
    out = normalise(head().astype(dtype))
    assert out.dtype == np.float32
    assert 0.9 < np.percentile(out, 99) < 1.2


def test_input_is_left_alone() -> None:
    image = head()
    tensor = torch.from_numpy(image.copy())
    normalise(image)
    normalise(tensor)
    assert np.array_equal(image, head())
    assert np.array_equal(tensor.numpy(), head())


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1000), st.floats(-500, 500))
def test_units_do_not_matter(gain: float, shift: float) -> None:
    image = head(1, 24)
    assert np.allclose(normalise(image), normalise(image * gain + shift), atol=2e-2)


def test_spikes_are_cut_and_do_not_dim_the_rest() -> None:
    image = head()
    spiked = image.copy()
    spiked[20, 20, 20:23] = 1e6
    out = normalise(spiked)
    assert out.max() == CEILING
    others = spiked < 1e5
    assert np.abs(out - normalise(image))[others].max() < 0.02


def test_large_images_are_sampled_fairly() -> None:
    rng = np.random.default_rng(2)
    image = rng.gamma(2.0, 50.0, (96, 128, 64)).astype(np.float32)
    assert MAX_SAMPLES / 8 < lattice_sample(image).numel() <= MAX_SAMPLES
    low, high = np.percentile(image, 0.5), np.percentile(image[image > image.mean()], 98)
    got = intensity_range(image)
    assert got[0] == pytest.approx(low, abs=1.0)
    assert got[1] == pytest.approx(high, rel=0.01)


def test_memory_order_does_not_matter() -> None:
    image = np.random.default_rng(3).uniform(0, 1, (70, 80, 90)).astype(np.float32)
    fortran = np.asfortranarray(image)
    assert intensity_range(image) == intensity_range(fortran)
    flipped = image[::-1][::-1]
    assert np.array_equal(normalise(image), normalise(flipped))


def test_batch_shaped_input_is_one_image() -> None:
    image = torch.from_numpy(head())
    assert torch.equal(normalise(image[None, None])[0, 0], normalise(image))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.full((4, 4, 4), 7.0), "no contrast: its range is 7 to 7"),
        (np.zeros((0, 4, 4)), "no voxels"),
        (np.full((4, 4, 4), np.nan), "NaN or infinity"),
    ],
)
def test_refusals(image: np.ndarray, said: str) -> None:
    with pytest.raises(ScanError, match=said):
        normalise(image)
    with pytest.raises(ScanError, match=said):
        normalise(torch.from_numpy(image))
