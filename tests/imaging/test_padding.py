"""Constant values outside the head do not move the range; what is no padding stays."""

from __future__ import annotations

import numpy as np
import pytest

from ddmseg.imaging.preprocess import prepare
from ddmseg.imaging.repairs import fill_padding
from ddmseg.imaging.volume import Volume

SHAPE = (60, 64, 56)


def head(seed: int = 0) -> np.ndarray:
    """A ball of 150 to 900 in Rician air."""
    rng = np.random.default_rng(seed)
    places = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2
    inside = (places**2).sum(-1) < 22**2
    tissue = rng.uniform(150, 900, SHAPE)
    return np.where(inside, tissue, np.abs(rng.normal(0, 8, SHAPE))).astype(np.float32)


def padded(value: float, planes: int = 8, data: np.ndarray | None = None) -> np.ndarray:
    out = (head() if data is None else data).copy()
    out[:planes] = value
    out[:, :, :planes] = value
    return out


def image(data: np.ndarray) -> np.ndarray:
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    return prepare(Volume(data, affine, "scan"), spacing_mm=3.0, crop_to_head=False).image


@pytest.mark.parametrize(
    "value", [-32768.0, -1000.0, -100.0, -2000.0, 4095.0, 32767.0, 65535.0, 1e9, -1e30]
)
def test_padding_is_filled_with_air_and_the_head_keeps_its_range(value: float) -> None:
    data = padded(value)
    found, (step,) = fill_padding(data)
    assert step.values["value"] == np.float32(value)
    assert step.values["voxels"] == (data == np.float32(value)).sum()
    assert np.array_equal(found[data != np.float32(value)], data[data != np.float32(value)])
    assert 0 <= found.min() <= found.max() <= 900
    plain = image(padded(0.0))
    assert np.abs(image(data) - plain).max() < 0.02


def test_several_values_are_filled() -> None:
    data = padded(-32768.0)
    data[:, :8] = -1000.0
    data[:, -8:] = 32767.0
    found, steps = fill_padding(data)
    assert {step.values["value"] for step in steps} == {-32768.0, -1000.0, 32767.0}
    assert 0 <= found.min() <= found.max() <= 900


def test_a_white_surround_is_padding_without_a_gap() -> None:
    data = np.clip(head() / 900 * 250, 0, 255)
    white = padded(255.0, data=data)
    found, (step,) = fill_padding(white)
    assert step.values["value"] == 255.0
    assert np.array_equal(found[white != 255], white[white != 255])


def test_air_that_is_not_zero_is_filled_with_what_it_is() -> None:
    """A scan with zero in the middle of its values, as after z-scoring."""
    data = (head() - 400) / 100
    found, (step,) = fill_padding(padded(-100.0, data=data))
    assert step.values["air"] == pytest.approx(-4.0, abs=0.1)
    assert found.min() >= -4.1


def test_the_step_is_told_and_the_scan_left_alone() -> None:
    data = padded(-1000.0)
    before = data.copy()
    volume = Volume(data, np.diag([3.0, 3.0, 3.0, 1.0]), "scan")
    prepared = prepare(volume, spacing_mm=3.0)
    assert np.array_equal(volume.data, before)
    (told,) = (s for s in prepared.describe() if s["step"] == "fill_padding")
    assert (told["value"], told["air"]) == (-1000.0, 0.0)


def skull_stripped() -> np.ndarray:
    return np.where(head() > 100, head(), 0.0)


@pytest.mark.parametrize(
    "data",
    [
        head(),
        padded(0.0),
        skull_stripped(),
        (skull_stripped() - 600) / 150,
        np.minimum(head(), 700),
        np.pad(head(), 20),
        np.where(head() > 850, 5000.0, head()),
        np.kron([[[0.0, 100.0]]], np.ones((20, 20, 10))),
    ],
    ids=["head", "zeros", "stripped", "z-scored", "saturated", "frame", "bright inside", "halves"],
)
def test_what_is_no_padding_stays(data: np.ndarray) -> None:
    data = np.asarray(data, np.float32)
    found, steps = fill_padding(data)
    assert steps == []
    assert found is data
