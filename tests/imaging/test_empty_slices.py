"""Slices without a signal: found in the middle alone, filled when the gap is narrow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.imaging.preprocess import prepare
from ddmseg.imaging.repairs import WIDEST_MM, fill_empty_slices
from ddmseg.imaging.transforms import Step
from ddmseg.imaging.volume import Volume
from ddmseg.quality.plausibility import empty_slices

SHAPE = (20, 24, 28)
MM = (1.0, 1.0, 1.0)


def scan(seed: int = 0) -> np.ndarray:
    return 0.1 + np.random.default_rng(seed).random(SHAPE, np.float32)


def emptied(data: np.ndarray, axis: int, *indices: int) -> np.ndarray:
    out = data.copy()
    np.moveaxis(out, axis, 0)[list(indices)] = 0
    return out


def test_a_whole_scan_is_passed_on_as_it_is():
    data = scan()
    found, steps = fill_empty_slices(data, MM)
    assert found is data
    assert steps == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_gap_is_filled_on_a_straight_line(axis):
    data = emptied(scan(), axis, 7, 8)
    before = data.copy()
    found, steps = fill_empty_slices(data, MM)
    assert steps == [Step("fill_slices", {"axis": axis, "filled": [7, 8], "left": []})]
    planes = np.moveaxis(found, axis, 0)
    np.testing.assert_allclose(planes[7], (2 * planes[6] + planes[9]) / 3, rtol=1e-5)
    np.testing.assert_allclose(planes[8], (planes[6] + 2 * planes[9]) / 3, rtol=1e-5)
    np.testing.assert_array_equal(data, before)


@given(st.integers(0, 2), st.sets(st.integers(0, 19), max_size=6))
def test_what_has_a_signal_is_never_touched(axis, indices):
    data = emptied(scan(1), axis, *indices)
    found, steps = fill_empty_slices(data, MM)
    touched = {index for step in steps for index in step.values["filled"]}
    assert touched <= indices
    kept = [index for index in range(SHAPE[axis]) if index not in touched]
    np.testing.assert_array_equal(
        np.moveaxis(found, axis, 0)[kept], np.moveaxis(data, axis, 0)[kept]
    )


def test_air_around_the_head_is_no_gap():
    data = emptied(scan(), 2, 0, 1, 2, 26, 27)
    assert fill_empty_slices(data, MM) == (data, [])


def test_wisps_beyond_the_head_are_no_gap():
    data = scan()
    data[:, :, 15:] = 0
    data[4:6, 5, 20] = 1.0
    assert fill_empty_slices(data, MM)[1] == []


def test_a_wide_gap_is_left_and_said():
    data = emptied(scan(), 0, 5, 6, 7, 12)
    found, steps = fill_empty_slices(data, (WIDEST_MM / 2.5, 1.0, 1.0))
    assert steps == [Step("fill_slices", {"axis": 0, "filled": [12], "left": [5, 6, 7]})]
    assert not found[5:8].any()
    assert found[12].any()


def test_few_bright_voxels_are_a_signal():
    data = emptied(scan(), 1, 9)
    data[3, 9, 3] = 1.0  # not among those looked at first
    assert fill_empty_slices(data, MM)[1] == []


def test_the_receipt_and_the_verdict_tell_of_it():
    volume = Volume(emptied(scan(), 1, 9, 10), np.eye(4), "scan")
    prepared = prepare(volume, spacing_mm=1.0, crop_to_head=False)
    whole = prepare(Volume(scan(), np.eye(4), "scan"), spacing_mm=1.0, crop_to_head=False)
    step = {"step": "fill_slices", "axis": 1, "filled": [9, 10], "left": []}
    assert prepared.describe()[0] == step
    assert prepared.grid == whole.grid or np.allclose(prepared.grid.affine, whole.grid.affine)
    (reason,) = empty_slices(prepared.steps)
    assert reason.code == "slices_empty"
    assert reason.values == {"slices": 2, "filled": 2}
    assert list(empty_slices(whole.steps)) == []
