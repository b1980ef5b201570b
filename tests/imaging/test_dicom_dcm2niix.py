"""Geometry of every real series against dcm2niix."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.imaging.dicom import list_series
from ddmseg.imaging.dicom_geometry import stack_frames

SNIPPETS = (
    *("anatomical/001", "ge/anatomical/001", "siemens/anatomical/001", "philips/anatomical/001"),
    *("hitachi/anatomical/001", "hyperfine/anatomical/001", "failing/slicecount/001"),
    *("philips_enhanced/anatomical/001", "siemens_multiframe/anatomical/001"),
    *("generic/anatomical/001", "generic/anatomical/002_non_isotropic"),
    *("generic/compressed/001", "generic/compressed_rle/001", "generic/compressed_j2k/001"),
    *("generic/compressed_jpeg/001", "generic/compressed_jpegls/001"),
)


def converted(folder: Path, output: Path) -> nib.Nifti1Image:
    """The one image that dcm2niix makes of a folder."""
    program = shutil.which("dcm2niix") or shutil.which(
        str(Path(sys.executable).with_name("dcm2niix"))
    )
    if program is None:
        pytest.skip("dcm2niix is not installed (pip install dcm2niix)")
    words = (program, "-o", output, "-f", "out", "-z", "n", "-b", "n", folder)
    subprocess.run(words, capture_output=True, check=False, timeout=120)
    made = [path for path in output.glob("*.nii") if "_Eq" not in path.name]
    if not made:
        pytest.fail("dcm2niix makes no image of a series that is accepted here")
    (path,) = made
    return nib.load(path)


def centre(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Where the middle of a grid lies, RAS mm."""
    return np.asarray(affine @ np.append((np.array(shape[:3]) - 1) / 2, 1))[:3]


def assert_alike(folder: Path, output: Path) -> None:
    (series,) = list_series(folder)
    theirs = converted(folder, output)
    ours = stack_frames(series.frames, series.name)
    moved = centre(series.shape, ours.affine) - centre(theirs.shape, theirs.affine)
    spacing = np.sort(np.linalg.norm(ours.affine[:3, :3], axis=0))
    assert sorted(series.shape) == sorted(theirs.shape[:3])
    assert np.abs(moved).max() < 0.1 * spacing[0]
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(theirs.affine[:3, :3], axis=0)), spacing, rtol=0.01
    )


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_lie_where_dcm2niix_puts_them(
    data_folder: Path, tmp_path: Path, name: str
) -> None:
    assert_alike(data_folder / "dicom" / "snippets" / name, tmp_path)


def test_a_whole_series_lies_where_dcm2niix_puts_it(data_folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(data_folder / "dicom" / "siemens_avanto_t1gd.zip") as archive:
        archive.extractall(tmp_path / "in")
    (tmp_path / "out").mkdir()
    assert_alike(tmp_path / "in", tmp_path / "out")
