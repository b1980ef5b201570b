"""What was named becomes scans, each with a place of its own for its results."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.interfaces.inputs import Scan, _placed, find_scans


def touch(root: Path, *names: str) -> list[Path]:
    """Make files, empty: finding never opens a NIfTI."""
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return paths


def found(*inputs: Path) -> list[Path]:
    scans, refused = find_scans(inputs)
    assert refused == []
    return [scan.path for scan in scans]


def refusal(path: Path) -> str:
    scans, (refused,) = find_scans([path])
    assert scans == []
    assert refused.path == path
    return str(refused.error)


def test_files_come_in_the_order_they_were_named(tmp_path) -> None:
    paths = touch(tmp_path, "b.nii.gz", "a.nii", "c.nii.gz")
    assert found(*paths) == paths
    assert [scan.stem for scan in find_scans(paths)[0]] == ["b", "a", "c"]


def test_a_folder_gives_its_scans_sorted_and_not_what_was_made_from_them(tmp_path) -> None:
    a, b = touch(tmp_path, "a.nii.gz", "b.nii")
    touch(
        tmp_path,
        "a_dseg.nii.gz",
        "a_probseg.nii.gz",
        "a_desc-uncertainty_map.nii.gz",
        "a_desc-discrepancy_map.nii.gz",
        "notes.txt",
        ".hidden.nii.gz",
        "deeper/c.nii.gz",
    )
    assert found(tmp_path) == [a, b]


def test_a_result_that_is_named_outright_is_taken_at_its_word(tmp_path) -> None:
    paths = touch(tmp_path, "a_dseg.nii.gz")
    assert found(*paths) == paths


def test_a_bids_folder_gives_every_t1_scan(tmp_path) -> None:
    wanted = touch(
        tmp_path,
        "sub-01/anat/sub-01_run-1_T1w.nii.gz",
        "sub-01/anat/sub-01_run-2_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
    )
    touch(
        tmp_path,
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/func/sub-01_bold.nii.gz",
        "derivatives/ddmseg/sub-01/anat/sub-01_run-1_T1w_dseg.nii.gz",
    )
    assert found(tmp_path) == wanted


def test_a_scan_named_twice_is_done_once(tmp_path) -> None:
    (path,) = touch(tmp_path, "a.nii.gz")
    assert found(path, tmp_path, tmp_path / "." / "a.nii.gz") == [path]


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_to_a_scan_is_that_scan(tmp_path) -> None:
    (path,) = touch(tmp_path, "a.nii.gz")
    (tmp_path / "b.nii.gz").symlink_to(path)
    assert len(found(path, tmp_path / "b.nii.gz")) == 1


def test_one_bad_input_does_not_hide_the_others(tmp_path) -> None:
    (path,) = touch(tmp_path, "a.nii.gz")
    scans, refused = find_scans([tmp_path / "missing.nii.gz", path, tmp_path / "also missing"])
    assert [scan.path for scan in scans] == [path]
    assert [str(one.error) for one in refused] == [
        f"{tmp_path / 'missing.nii.gz'}: no such file; check the path",
        f"{tmp_path / 'also missing'}: no such file; check the path",
    ]


def test_an_empty_folder_is_refused(tmp_path) -> None:
    assert refusal(tmp_path) == (
        f"{tmp_path}: no scan in this folder; it must hold .nii.gz or .nii files"
    )


def test_a_bids_folder_without_t1_is_refused(tmp_path) -> None:
    touch(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz")
    assert "a BIDS folder without *_T1w.nii.gz" in refusal(tmp_path)


DICOM = "DICOM cannot be read yet; convert it to NIfTI first, for example with dcm2niix"


def test_dicom_is_refused_in_every_form(tmp_path) -> None:
    series = tmp_path / "series" / "deeper" / "IM0001"
    series.parent.mkdir(parents=True)
    series.write_bytes(bytes(128) + b"DICM" + bytes(10))
    (file,) = touch(tmp_path, "one/slice.dcm")
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as zipped:
        zipped.writestr("IM0001", b"x")
    for path in (tmp_path / "series", file, file.parent, tmp_path / "series.zip"):
        assert refusal(path) == f"{path}: {DICOM}"


def places(*names: str) -> list[tuple[str, str]]:
    scans, refused = find_scans(Path(name) for name in names)
    assert refused == []
    return [(scan.subfolder, scan.stem) for scan in scans]


def test_names_that_differ_share_the_folder(tmp_path) -> None:
    paths = touch(tmp_path, "x/a.nii.gz", "y/b.nii.gz")
    assert places(*map(str, paths)) == [("", "a"), ("", "b")]


def test_equal_names_go_to_folders_of_their_own(tmp_path) -> None:
    paths = touch(tmp_path, "x/t1.nii.gz", "y/t1.nii", "z/b.nii")
    assert places(*map(str, paths)) == [("x", "t1"), ("y", "t1"), ("", "b")]


def test_equal_folders_are_told_apart_by_those_above(tmp_path) -> None:
    paths = touch(tmp_path, "p1/mri/t1.nii.gz", "p2/mri/t1.nii.gz", "mri/t1.nii.gz")
    (first, *_), (second, *_), _ = got = places(*map(str, paths))
    assert (first, second) == ("p1/mri", "p2/mri")
    assert len({subfolder for subfolder, _ in got}) == 3


def test_two_forms_of_one_name_in_one_folder_get_numbers(tmp_path) -> None:
    paths = touch(tmp_path, "x/t1.nii.gz", "x/t1.nii", "x/t1_2.nii")
    assert places(*map(str, paths)) == [("x", "t1"), ("x", "t1_2"), ("", "t1_2")]


def test_names_that_differ_in_case_alone_are_equal_on_some_disks(tmp_path) -> None:
    paths = touch(tmp_path, "x/T1.nii.gz", "y/t1.nii.gz")
    assert places(*map(str, paths)) == [("x", "T1"), ("y", "t1")]


FOLDERS = st.lists(st.sampled_from(["a", "b", "A"]), max_size=3).map("/".join)
NAMES = st.sampled_from(["t1.nii", "t1.nii.gz", "T1.nii", "t1_2.nii", "t1_3.nii.gz"])


@given(st.lists(st.tuples(FOLDERS, NAMES), unique=True, max_size=12))
def test_no_two_scans_ever_share_a_place(named) -> None:
    paths = [Path("/data", folder, name) for folder, name in named]
    scans = _placed(paths)
    assert [scan.path for scan in scans] == paths
    files = {f"{scan.subfolder}/{scan.stem}".casefold() for scan in scans}
    assert len(files) == len(paths)
    # a subfolder never leads out of the output folder
    assert all(not Path(scan.subfolder).is_absolute() for scan in scans)


def test_the_place_is_below_the_output(tmp_path) -> None:
    assert Scan(Path("a.nii"), "a").folder(tmp_path) == tmp_path
    assert Scan(Path("a.nii"), "a", "x/y").folder(tmp_path) == tmp_path / "x" / "y"
