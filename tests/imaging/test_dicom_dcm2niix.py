"""Every voxel of a series lies where dcm2niix puts it, and holds what it holds there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.imaging.dicom.series import list_series, read_series, refusal
from dicom_files import affine_of, rotation, write_series
from toy_head import head_voxels

SNIPPETS = (
    *("anatomical/001", "ge/anatomical/001", "siemens/anatomical/001", "philips/anatomical/001"),
    *("hitachi/anatomical/001", "hyperfine/anatomical/001", "failing/slicecount/001"),
    *("philips_enhanced/anatomical/001", "siemens_multiframe/anatomical/001"),
    *("generic/anatomical/001", "generic/anatomical/002_non_isotropic"),
    *("generic/compressed/001", "generic/compressed_rle/001", "generic/compressed_j2k/001"),
    *("generic/compressed_jpeg/001", "generic/compressed_jpegls/001"),
)
PLANES = {
    "axial": np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1.0]]),
    "sagittal": np.array([[0, 0, -1], [-1, 0, 0], [0, -1, 0.0]]),
    "oblique": rotation(0.3, -0.2, 0.5),
}

Scan = tuple[np.ndarray, np.ndarray]
"""Voxels, and their affine to RAS mm."""


def theirs(folder: Path, output: Path) -> Scan:
    """The one image that dcm2niix makes of a folder."""
    program = shutil.which("dcm2niix") or shutil.which(
        str(Path(sys.executable).with_name("dcm2niix"))
    )
    if program is None:
        pytest.skip("dcm2niix is not installed (pip install dcm2niix)")
    output.mkdir(exist_ok=True)
    words = (program, "-o", output, "-f", "out", "-z", "n", "-b", "n", folder)
    subprocess.run(words, capture_output=True, check=False, timeout=120)
    made = [path for path in output.glob("*.nii") if "_Eq" not in path.name]
    if not made:
        pytest.fail("dcm2niix makes no image of a series that is accepted here")
    (path,) = made
    image = nib.load(path)
    return image.get_fdata(), image.affine


def ours(folder: Path) -> Scan:
    (series,) = list_series(folder)
    if "no decoder for it is there" in (told := refusal(series) or ""):
        pytest.skip(told)
    volume = read_series(series)
    return volume.data.astype(float), volume.affine


def centroid_mm(scan: Scan) -> np.ndarray:
    """The centre of mass of the intensities above the darkest, RAS mm."""
    data, affine = scan
    weights = data - data.min()
    mean = [(weights * axis).sum() / weights.sum() for axis in np.indices(data.shape)]
    return np.asarray(affine @ [*mean, 1])[:3]


def at_the_voxels_of(one: Scan, other: Scan) -> np.ndarray:
    """What ``one`` holds where the voxels of ``other`` lie, which must be on its own grid."""
    indices = np.indices(other[0].shape).reshape(3, -1)
    to_one = np.linalg.inv(one[1]) @ other[1]
    places = to_one[:3, :3] @ indices + to_one[:3, 3:]
    nearest = np.rint(places).astype(int)
    assert np.abs(places - nearest).max() < 0.1
    assert nearest.min() >= 0
    assert (nearest.max(axis=1) < one[0].shape).all()
    return one[0][tuple(nearest)].reshape(other[0].shape)


def assert_alike(mine: Scan, other: Scan) -> None:
    """The same voxels in the same places, to a tenth of the smallest edge."""
    edges = np.linalg.norm(mine[1][:3, :3], axis=0)
    assert mine[0].size == other[0].size
    assert np.abs(centroid_mm(mine) - centroid_mm(other)).max() < 0.1 * edges.min()
    matched = at_the_voxels_of(other, mine)
    assert np.corrcoef(matched.ravel(), mine[0].ravel())[0, 1] > 0.999


def assert_no_flip_is_alike(mine: Scan, other: Scan) -> None:
    """The check itself: it must see voxels in reverse order along any axis of the array."""
    for axis in range(3):
        turned = np.flip(mine[0], axis)
        if np.corrcoef(turned.ravel(), mine[0].ravel())[0, 1] > 0.999:
            continue  # its own mirror image; there is such a phantom
        with pytest.raises(AssertionError):
            assert_alike((turned, mine[1]), other)


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_lie_where_dcm2niix_puts_them(
    data_folder: Path, tmp_path: Path, name: str
) -> None:
    folder = data_folder / "dicom" / "snippets" / name
    mine, other = ours(folder), theirs(folder, tmp_path)
    assert_alike(mine, other)
    assert_no_flip_is_alike(mine, other)


def test_a_whole_series_lies_where_dcm2niix_puts_it(data_folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(data_folder / "dicom" / "siemens_avanto_t1gd.zip") as archive:
        archive.extractall(tmp_path / "in")
    mine, other = ours(tmp_path / "in"), theirs(tmp_path / "in", tmp_path / "out")
    assert_alike(mine, other)
    assert_no_flip_is_alike(mine, other)


@pytest.mark.parametrize(
    ("plane", "direction"),
    [("axial", -1), ("axial", 1), ("sagittal", -1), ("oblique", 1), ("oblique", -1)],
)
def test_a_head_lies_where_dcm2niix_puts_it(tmp_path: Path, plane: str, direction: int) -> None:
    voxels = np.clip(head_voxels(), 0, None).astype(np.uint16)
    voxels[3:9, 4:8, 2:6] += 500  # a head alone is nearly symmetric
    directions = PLANES[plane] @ np.diag([1, 1, direction])
    write_series(tmp_path / "in", voxels, affine_of(directions, (5.5, 6, 7), (-70, -80, -60)))
    mine, other = ours(tmp_path / "in"), theirs(tmp_path / "in", tmp_path / "out")
    assert_alike(mine, other)
    assert_no_flip_is_alike(mine, other)


def test_a_slice_order_that_was_reversed_with_the_grid_is_seen(tmp_path: Path) -> None:
    """Slices and places reversed together are right; one of them alone is not."""
    data = np.random.default_rng(0).random((6, 5, 4))
    affine = affine_of(PLANES["oblique"])
    turned = affine.copy()
    turned[:3, 3] += 3 * affine[:3, 2]
    turned[:3, 2] *= -1
    assert_alike((np.flip(data, 2), turned), (data, affine))
    for wrong in ((np.flip(data, 2), affine), (data, turned)):
        with pytest.raises(AssertionError):
            assert_alike(wrong, (data, affine))
