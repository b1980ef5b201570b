"""What the viewer gets, read back by nibabel."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.errors import ScanError
from ddmseg.imaging.nifti import read_label_map, read_volume
from ddmseg.quality.doubtful_regions import error_probability
from ddmseg.review.display import (
    Frames,
    discrepancy_top,
    display_labels,
    display_map,
    display_nothing,
    display_scan,
    frame_count,
)

AFFINE = np.array([[0, 0, -2, 9], [1.5, 0.1, 0, -8], [0, 3, 0, 7], [0, 0, 0, 1.0]])


def read(data: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(data)


def test_labels_keep_ids_and_place() -> None:
    ids = np.arange(24).reshape(2, 3, 4) % 60
    image = read(display_labels(ids, AFFINE))
    np.testing.assert_array_equal(np.asarray(image.dataobj), ids)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert image.get_data_dtype() == np.uint8
    assert image.header["intent_code"] == 1002
    assert read(display_labels(ids + 250, AFFINE)).get_data_dtype() == np.int32


def test_maps_are_true_to_half_a_step() -> None:
    values = np.linspace(0, 3, 60, dtype=np.float32).reshape(3, 4, 5)
    values[0, 0, 0] = np.nan
    image = read(display_map(values, AFFINE, top=2.0))
    expected = np.clip(np.nan_to_num(values), 0, 2)
    np.testing.assert_allclose(image.get_fdata(), expected, atol=0.5 * 2 / 255 + 1e-6)
    assert image.header["cal_max"] == 2.0


def test_scans_are_true_to_a_thousandth_of_their_window(scans: Path, folder: Path) -> None:
    scan = read_volume(scans / "better.nii.gz")
    image = read(display_scan(scan))
    window = float(image.header["cal_max"] - image.header["cal_min"])
    np.testing.assert_allclose(image.get_fdata(), scan.data, atol=window / 1000)
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_label_as_probably_wrong_as_right_is_in_the_middle_of_the_scale(temperature) -> None:
    top = discrepancy_top(temperature)
    middle = np.full((1, 1, 1), top / 2, np.float32)
    assert error_probability(middle, temperature=temperature) == pytest.approx(0.5)


def test_nothing_is_black() -> None:
    image = read(display_nothing((2, 3, 4), AFFINE))
    assert image.shape == (2, 3, 4)
    assert not np.asarray(image.dataobj).any()


def test_frames_come_one_by_one(folder: Path) -> None:
    labels = read_label_map(folder / "better_dseg.nii.gz")
    path = folder / "better_desc-steps_dseg.nii.gz"
    frames = Frames(path, labels.shape, labels.affine)
    assert len(frames) == frame_count(path) == 2
    truth = np.asarray(nib.load(path).dataobj)
    for place in range(2):
        shown = read(frames.frame(place))
        np.testing.assert_array_equal(np.asarray(shown.dataobj), truth[..., place])
    with pytest.raises(ScanError, match=r"frame: got 2; it must be from 0 to 1"):
        frames.frame(2)


def test_frames_of_another_grid_or_kind_are_refused(folder: Path) -> None:
    labels = read_label_map(folder / "better_dseg.nii.gz")
    path = folder / "better_desc-steps_dseg.nii.gz"
    with pytest.raises(ScanError, match="not label maps on the grid"):
        Frames(path, (2, 3, 4), labels.affine)
    maps = folder / "better_desc-discrepancy_map.nii.gz"
    with pytest.raises(ScanError, match="not label maps on the grid"):
        Frames(maps, labels.shape, labels.affine)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ScanError, match="cut off"):
        Frames(path, labels.shape, labels.affine)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(ScanError, match="damaged gzip"):
        frame_count(path)
