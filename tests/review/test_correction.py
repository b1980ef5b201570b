"""A correction has the original's grid, header and type, and lies beside it."""

from __future__ import annotations

import gzip
from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.errors import OutputError, ScanError
from ddmseg.imaging.nifti import read_label_map
from ddmseg.imaging.volume import LabelMap
from ddmseg.review.correction import (
    corrected_bytes,
    edit_metrics,
    read_correction,
    staged,
    upload_limit,
)
from ddmseg.review.files import found_sha256
from ddmseg.review.results import CORRECTED, LABELS, ScanResult, find_results
from review_folder import IDS, nifti_bytes


@pytest.fixture
def result(folder: Path) -> ScanResult:
    return find_results(folder)[0]


@pytest.fixture
def original(result: ScanResult) -> LabelMap:
    return read_label_map(result.path(LABELS))


def upload(tmp_path: Path, data: np.ndarray | bytes, affine: np.ndarray | None = None) -> Path:
    path = tmp_path / "upload"
    path.write_bytes(data if isinstance(data, bytes) else nifti_bytes(data, affine))
    return path


def test_header_and_type_are_the_originals(result: ScanResult, original: LabelMap) -> None:
    edited = original.data.copy()
    edited[:2] = 53
    data = corrected_bytes(result, edited)
    ours, theirs = gzip.decompress(data), gzip.decompress(result.path(LABELS).read_bytes())
    assert ours[:352] == theirs[:352]
    assert len(ours) == len(theirs)
    image = nib.Nifti1Image.from_bytes(ours)
    np.testing.assert_array_equal(np.asarray(image.dataobj), edited)
    assert corrected_bytes(result, edited) == data


def test_an_id_beyond_the_type_is_refused(result: ScanResult, original: LabelMap) -> None:
    with pytest.raises(ScanError, match=r"holds the label 302; the type of the original ends at"):
        corrected_bytes(result, original.data.astype(np.int32) + 300 * (original.data == 2))


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4"])
def test_an_upload_is_read_whatever_its_type(tmp_path: Path, original: LabelMap, dtype) -> None:
    edited = np.where(original.data == 53, 2, original.data)
    path = upload(tmp_path, edited.astype(dtype), original.affine)
    np.testing.assert_array_equal(read_correction(path, original, IDS), edited)


def test_wrong_uploads_are_refused(tmp_path: Path, original: LabelMap) -> None:
    moved = original.affine.copy()
    moved[1, 3] += 1
    strange = np.where(original.data == 53, 17, original.data).astype(np.uint8)
    plain = nifti_bytes(original.data.astype(np.uint8), original.affine)
    cases = {
        "neither NIfTI nor MGH": b"x" * 400,
        "cut off": plain[:-9],
        "the gzip data stop early": gzip.compress(plain)[:-9],
        "goes on after": plain + bytes(2 << 20),
        "the correction has 24 x 30 x 10 voxels; the labels have 24 x 30 x 20": nifti_bytes(
            original.data[..., :10].astype(np.uint8), original.affine
        ),
        "at most 14400 are allowed": nifti_bytes(np.zeros((30, 30, 30), "u1"), original.affine),
        "lies elsewhere in space": nifti_bytes(original.data.astype(np.uint8), moved),
        "holds the label 17; allowed are 0 and 2, 41, 53": nifti_bytes(strange, original.affine),
        "no whole numbers": nifti_bytes(original.data.astype("f4") + 0.5, original.affine),
    }
    for reason, data in cases.items():
        path = upload(tmp_path, data)
        with pytest.raises(ScanError, match=reason) as told:
            read_correction(path, original, IDS)
        assert str(tmp_path) not in str(told.value)


def test_a_promise_that_no_upload_can_keep_costs_no_memory(
    tmp_path: Path, original: LabelMap
) -> None:
    header = bytearray(nifti_bytes(np.zeros((2, 2, 2), np.uint8), np.eye(4)))
    header[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
    with pytest.raises(ScanError, match="at most 14400 are allowed"):
        read_correction(upload(tmp_path, bytes(header)), original, IDS)


def test_the_limit_grows_with_the_grid() -> None:
    assert upload_limit((2, 3, 4)) < upload_limit((20, 30, 40))
    assert upload_limit((256, 256, 256)) > 256**3 * 8


def test_a_correction_waits_beside_its_place(result: ScanResult, original: LabelMap) -> None:
    before = result.path(LABELS).read_bytes()
    data = corrected_bytes(result, original.data)
    with staged(result, data) as (place, target):
        assert (place.read_bytes(), target) == (data, result.path(CORRECTED))
        assert place.name.startswith(".")
        assert not target.exists()
    assert result.path(LABELS).read_bytes() == before


@pytest.mark.parametrize("earlier", [None, b"an earlier correction"])
def test_a_failure_leaves_what_was_there(result: ScanResult, earlier: bytes | None) -> None:
    target = result.path(CORRECTED)
    if earlier is not None:
        target.write_bytes(earlier)
    with pytest.raises(OutputError, match="the log"), staged(result, b"new"):
        raise OutputError("the log could not be written")
    assert (target.read_bytes() if target.exists() else None) == earlier
    assert not [path for path in result.folder.iterdir() if path.name.startswith(".")]


def test_the_hash_of_no_file_is_empty(tmp_path: Path) -> None:
    assert found_sha256(tmp_path / "nothing") == ""
    with pytest.raises(ScanError, match="cannot be read"):
        found_sha256(tmp_path)


def test_metrics_of_an_edit_counted_by_hand() -> None:
    before = np.zeros((10, 10, 10), int)
    before[2:6, 2:6, 2:6] = 17
    after = before.copy()
    after[6, 2:6, 2:6] = 17
    after[2, 2, 2] = 53
    labels = LabelMap(before, np.diag([1.0, 2.0, 1.0, 1.0]), "x")
    found = edit_metrics(labels, after, name_of=str)
    assert (found.voxels_changed, found.ml_changed) == (17, pytest.approx(0.034))
    grown, new = found.structures
    assert (grown.index, grown.added_voxels, grown.removed_voxels) == (17, 16, 1)
    assert grown.dice == pytest.approx(2 * 63 / (64 + 79), abs=1e-6)
    assert (grown.before_ml, grown.after_ml) == (pytest.approx(0.128), pytest.approx(0.158))
    assert grown.mean_surface_distance_mm is not None
    assert 0 < grown.mean_surface_distance_mm < 1
    assert (new.index, new.dice, new.hd95_mm) == (53, 0.0, None)


def test_no_edit_has_no_metrics() -> None:
    labels = LabelMap(np.ones((3, 3, 3), int), np.eye(4), "x")
    found = edit_metrics(labels, labels.data, name_of=str)
    assert asdict(found) == {"voxels_changed": 0, "ml_changed": 0.0, "structures": []}
