"""A picture to DICOM Secondary Capture and back."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.capture import write_capture
from ddmseg.imaging.dicom.series import Series, list_series
from dicom_files import PATIENT, STUDY, affine_of, save, scan, slice_datasets

PICTURE = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)


def series_of(folder: Path, **elements: str) -> Series:
    datasets = slice_datasets(folder, scan(), affine_of(np.eye(3)))
    for dataset in datasets:
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
    save(datasets)
    (series,) = list_series(folder)
    return series


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "page.dcm"
    series = series_of(tmp_path / "in", StudyDate="20200102", StudyTime="101500", StudyID="7")
    write_capture(path, PICTURE, series, comments="verdict: pass", model="toy")
    return path


def test_the_picture_comes_back(capture: Path) -> None:
    page = pydicom.dcmread(capture)
    np.testing.assert_array_equal(page.pixel_array, PICTURE)
    assert (page.PhotometricInterpretation, page.BitsAllocated) == ("RGB", 8)


def test_it_belongs_to_the_study_and_refers_to_the_source(capture: Path, tmp_path: Path) -> None:
    page = pydicom.dcmread(capture)
    (series,) = list_series(tmp_path / "in")
    assert (page.StudyInstanceUID, page.StudyDate, page.StudyID) == (STUDY, "20200102", "7")
    assert (str(page.PatientName), page.PatientID) == (PATIENT, "SECRET-7")
    assert page.SeriesInstanceUID != series.uid
    named = {item.ReferencedSOPInstanceUID for item in page.SourceImageSequence}
    assert named == {header.image_uid for header in series.headers}


def test_it_says_what_it_is(capture: Path) -> None:
    page = pydicom.dcmread(capture)
    assert page.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert page.SeriesDescription == "ddmseg report, research use, not for diagnosis"
    assert "not for diagnosis" in page.DerivationDescription
    assert page.ImageComments == "verdict: pass"
    assert page.BurnedInAnnotation == "NO"
    assert page.PatientOrientation in ("", None)
    assert (page.SeriesNumber, page.Modality) == (20_004, "OT")


def test_a_source_without_a_frame_of_reference_will_do(tmp_path: Path) -> None:
    series = series_of(tmp_path / "in", FrameOfReferenceUID="")
    write_capture(tmp_path / "page.dcm", PICTURE, series, comments="")
    assert "FrameOfReferenceUID" not in pydicom.dcmread(tmp_path / "page.dcm")


def test_a_source_of_several_studies_is_refused(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path / "in", scan(), affine_of(np.eye(3)))
    datasets[1].StudyInstanceUID = "1.2.3"
    save(datasets)
    (series,) = list_series(tmp_path / "in")
    with pytest.raises(ScanError, match="its files name several studies"):
        write_capture(tmp_path / "page.dcm", PICTURE, series, comments="")


def test_the_standard_is_kept(capture: Path) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    told = subprocess.run([program, capture], capture_output=True, text=True, timeout=60).stderr
    assert [line for line in told.splitlines() if line.startswith("Error")] == []
