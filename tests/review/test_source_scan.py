"""The scan behind a result is found by name and hash, and never guessed."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from ddmseg.cohort.source_scan import find_source_scan
from ddmseg.review.results import find_results, read_summary


def found_in(folder: Path, *places: Path):
    result = find_results(folder)[0]
    return find_source_scan(result.stem, read_summary(result).receipt, places)


def test_the_scan_is_found_below_the_folder_that_was_named(folder: Path, scans: Path) -> None:
    deep = scans / "a" / "b"
    deep.mkdir(parents=True)
    (scans / "better.nii.gz").rename(deep / "better.nii.gz")
    scan = found_in(folder, scans)
    assert scan is not None
    assert scan.name == "better"
    assert scan.data.shape == (24, 30, 20)


def test_a_scan_of_that_name_with_other_voxels_is_not_taken(folder: Path, scans: Path) -> None:
    path = scans / "better.nii.gz"
    path.write_bytes((scans / "worse.nii.gz").read_bytes())
    assert found_in(folder, scans) is None


def test_a_scan_elsewhere_in_space_is_not_taken(folder: Path, scans: Path) -> None:
    path = scans / "better.nii.gz"
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 0.5
    moved = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    path.unlink()
    moved.to_filename(path)
    assert found_in(folder, scans) is None


def test_the_right_one_is_found_among_wrong_and_damaged_ones(folder: Path, scans: Path) -> None:
    for place, data in (("a", (scans / "worse.nii.gz").read_bytes()), ("b", b"no scan")):
        (scans / place).mkdir()
        (scans / place / "better.nii.gz").write_bytes(data)
    assert found_in(folder, scans) is not None


def test_one_volume_of_a_4d_scan_is_found(folder: Path, scans: Path) -> None:
    path = scans / "better.nii.gz"
    image = nib.load(path)
    data = np.asarray(image.dataobj)
    several = nib.Nifti1Image(np.stack([data * 2 + 1, data], axis=-1), image.affine)
    path.unlink()
    several.to_filename(path)
    scan = found_in(folder, scans)
    assert scan is not None
    np.testing.assert_array_equal(scan.data, data)


def test_nothing_is_found_where_nothing_is(folder: Path, tmp_path: Path) -> None:
    assert found_in(folder, tmp_path / "nowhere") is None
    result = find_results(folder)[0]
    assert find_source_scan(result.stem, {}, [tmp_path]) is None
    assert find_source_scan(result.stem, {"input": "odd"}, [tmp_path]) is None
