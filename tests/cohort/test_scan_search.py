"""Folders of patients, examinations and label maps: every scan once, and its place its own."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from ddmseg.cohort.inputs import find_scans
from ddmseg.cohort.passed_over import says_labels
from dicom_files import affine_of, save, slice_datasets
from dicom_files import scan as voxels


def touch(root: Path, *names: str) -> list[Path]:
    """Make files, empty: finding never opens a NIfTI."""
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return paths


def dicom(folder: Path, *, study: str, number: int = 4, description: str = "t1 mprage") -> Path:
    """Write a small series of an examination."""
    datasets = slice_datasets(folder, voxels(), affine_of(np.eye(3)))
    for k, dataset in enumerate(datasets):
        dataset.SeriesNumber, dataset.SeriesDescription = number, description
        dataset.StudyInstanceUID = study
        dataset.filename = str(folder / f"{number}_{study}_{k}.dcm")
    save(datasets)
    return folder


def places(*inputs: Path) -> list[tuple[str, str]]:
    scans, refused = find_scans(inputs)
    assert refused == []
    return [(scan.subfolder, scan.stem) for scan in scans]


def told_of(*inputs: Path) -> list[str]:
    told: list[str] = []
    find_scans(inputs, tell=told.append)
    return told


@pytest.mark.parametrize("others", [(), ("p2/T1.nii.gz",), ("p2/T1.nii.gz", "p3/day1/T2.mgz")])
def test_a_patient_has_a_place_that_no_other_patient_changes(tmp_path, others) -> None:
    touch(tmp_path, "p1/T1.nii.gz", *others)
    assert places(tmp_path)[0] == ("p1", "T1")
    assert len(places(tmp_path)) == 1 + len(others)


def test_patients_may_be_files_and_dicom_and_lie_in_any_depth(tmp_path) -> None:
    touch(tmp_path, "site/p1/a.nii.gz", "site/p1/b.mgz")
    dicom(tmp_path / "site" / "p2" / "export", study="1.2.3")
    (tmp_path / "empty").mkdir()
    assert places(tmp_path) == [
        ("site/p1", "a"),
        ("site/p1", "b"),
        ("site/p2", "series-004_t1_mprage"),
    ]


def test_two_roots_of_equal_folders_are_told_apart(tmp_path) -> None:
    touch(tmp_path, "a/p1/T1.nii.gz", "b/p1/T1.nii.gz", "b/p2/T1.nii.gz")
    assert places(tmp_path / "a", tmp_path / "b") == [
        ("a/p1", "T1"),
        ("b/p1", "T1"),
        ("p2", "T1"),
    ]


def test_scans_of_a_bids_folder_need_no_folders(tmp_path) -> None:
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz")
    assert places(tmp_path) == [("", "sub-01_T1w"), ("", "sub-02_ses-a_T1w")]


def test_a_link_to_a_patient_is_followed_and_one_that_leads_back_is_not(tmp_path) -> None:
    touch(tmp_path, "archive/p1/T1.nii.gz", "cohort/p2/T1.nii.gz")
    (tmp_path / "cohort" / "p1").symlink_to(tmp_path / "archive" / "p1")
    (tmp_path / "cohort" / "again").symlink_to(tmp_path / "cohort")
    assert places(tmp_path / "cohort") == [("p1", "T1"), ("p2", "T1")]


def test_a_patient_that_cannot_be_read_stops_no_other(tmp_path) -> None:
    dicom(tmp_path / "p1", study="1.2.3")
    (cut, *_) = sorted(dicom(tmp_path / "p2", study="1.2.4").iterdir())
    cut.write_bytes(cut.read_bytes()[:200])
    dicom(tmp_path / "p3", study="1.2.5")
    scans, (refused,) = find_scans([tmp_path])
    assert [scan.subfolder for scan in scans] == ["p1", "p3"]
    assert refused.path == tmp_path / "p2"
    assert "damaged DICOM file" in str(refused.error)


def test_a_folder_of_too_many_files_is_refused_alone(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "p1/T1.nii.gz", "pictures/a.png", "pictures/b.png", "pictures/c.png")
    monkeypatch.setattr("ddmseg.imaging.dicom.series.MAX_FILES", 2)
    scans, (refused,) = find_scans([tmp_path])
    assert [scan.subfolder for scan in scans] == ["p1"]
    assert refused.path == tmp_path / "pictures"
    assert "more than 2 files" in str(refused.error)


def test_series_of_one_examination_are_one_scan_in_whatever_folders(tmp_path) -> None:
    dicom(tmp_path / "p1" / "A", study="1.2.3", number=2)
    dicom(tmp_path / "p1" / "B", study="1.2.3", number=3, description="t2 tse")
    assert places(tmp_path) == [("", "series-002_t1_mprage")]


@pytest.mark.parametrize("layout", ["DICOM/{}", "{}", "{}/DICOM"])
def test_each_examination_of_a_patient_is_a_scan(tmp_path, layout) -> None:
    for number, study in enumerate(("1.2.3", "1.2.4"), start=1):
        dicom(tmp_path / layout.format(study), study=study)
        dicom(tmp_path / layout.format(study), study=study, number=9, description="scout")
        assert len(places(tmp_path)) == number
    folders = [layout.removesuffix("/DICOM").format(study) for study in ("1.2.3", "1.2.4")]
    assert places(tmp_path) == [(folder, "series-004_t1_mprage") for folder in folders]


@pytest.mark.parametrize("zipped", [False, True])
def test_examinations_side_by_side_are_told_apart_by_their_names(tmp_path, zipped) -> None:
    export = tmp_path / "export"
    for study in ("1.2.3", "1.2.4"):
        dicom(export, study=study)
    if zipped:
        with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
            for path in sorted(export.iterdir()):
                archive.write(path, path.name)
        export = tmp_path / "export.zip"
    (first, one), (second, other) = places(export)
    assert first == second
    assert one != other
    assert one.startswith("series-004_t1_mprage_study-")


def test_an_examination_without_a_usable_series_is_told_and_no_failure(tmp_path) -> None:
    dicom(tmp_path / "export", study="1.2.3")
    dicom(tmp_path / "export", study="1.2.4", number=7, description="localizer")
    scans, refused = find_scans([tmp_path / "export"])
    assert (len(scans), refused) == (1, [])
    (line,) = [one for one in told_of(tmp_path / "export") if "passed over" in one]
    assert line.startswith("an examination passed over: series-007_localizer: described as")


def test_a_series_that_is_named_is_looked_for_in_all_examinations(tmp_path) -> None:
    dicom(tmp_path / "export", study="1.2.3")
    dicom(tmp_path / "export", study="1.2.4", number=7)
    (scan,), refused = find_scans([tmp_path / "export"], series="7")
    assert refused == []
    assert scan.stem == "series-007_t1_mprage"


def test_label_maps_beside_scans_are_passed_over_with_a_word(tmp_path) -> None:
    touch(tmp_path, "IBSR_01/IBSR_01_ana.nii.gz", "IBSR_01/IBSR_01_segTRI_ana.nii.gz")
    touch(tmp_path, "BraTS-001/BraTS-001-t1n.nii.gz", "BraTS-001/BraTS-001-seg.nii.gz")
    touch(tmp_path, "imagesTr/h_001.nii.gz", "labelsTr/h_001.nii.gz", "p/notes.txt")
    assert places(tmp_path) == [
        ("BraTS-001", "BraTS-001-t1n"),
        ("IBSR_01", "IBSR_01_ana"),
        ("imagesTr", "h_001"),
    ]
    assert told_of(tmp_path) == [
        f"{tmp_path}: passed over 2 folders without a scan, 2 label maps or masks by their names"
    ]


def test_label_maps_alone_are_taken_where_somebody_named_their_folder(tmp_path) -> None:
    touch(tmp_path, "seg_001.nii.gz", "seg_002.nii.gz")
    assert places(tmp_path) == [("", "seg_001"), ("", "seg_002")]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("aparc+aseg.mgz", True),
        ("sub-01_desc-brain_mask.nii.gz", True),
        ("T1_brainmask.nii", True),
        ("1000_SEG.NII", True),
        ("scan.nii.gz", False),
        ("segment_me.nii.gz", False),
        ("unmasked_t1.nii.gz", False),
    ],
)
def test_names_of_label_maps_are_whole_words(name, labels) -> None:
    assert says_labels(name) is labels
