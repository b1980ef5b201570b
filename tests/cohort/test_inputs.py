"""What was named becomes scans, each with a place of its own for its results."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.cohort.inputs import _placed, find_scans, series_lines
from ddmseg.cohort.scan import Scan
from ddmseg.datasets.case import volume_stem
from ddmseg.errors import ScanError
from dicom_files import PATIENT, affine_of, enhanced_dataset, save, slice_datasets
from dicom_files import scan as voxels


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


def annexed(root: Path, name: str, key: str, *, content: bytes | None = b"") -> Path:
    """Lay a file out as datalad does: a link into the annex, whose names say nothing."""
    held = root / ".git" / "annex" / "objects" / key / key
    if content is not None:
        held.parent.mkdir(parents=True, exist_ok=True)
        held.write_bytes(content)
    link = root / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(held, link.parent))
    return link


def test_two_names_are_two_scans_also_where_both_lead_to_one_file(tmp_path) -> None:
    """Results are called by the names that the user gave, and not by those of an annex."""
    links = [annexed(tmp_path, f"sub-0{n}/T1.nii.gz", "MD5E-s9--abc.nii.gz") for n in (1, 2)]
    scans, refused = find_scans(links)
    assert refused == []
    assert [scan.path for scan in scans] == links
    assert [(scan.subfolder, scan.stem) for scan in scans] == [("sub-01", "T1"), ("sub-02", "T1")]


def test_the_same_text_can_lead_to_two_files(tmp_path) -> None:
    (a,) = touch(tmp_path, "a.nii.gz")
    (b,) = touch(tmp_path, "far/a.nii.gz")
    (tmp_path / "far" / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    scans, _ = find_scans([a, tmp_path / "link" / ".." / "a.nii.gz"])
    assert [scan.path.resolve() for scan in scans] == [a, b]
    assert len({(scan.subfolder, scan.stem) for scan in scans}) == 2


def lfs_pointer(root: Path) -> Path:
    (path,) = touch(root, "a.nii.gz")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    return path


def unlocked_pointer(root: Path) -> Path:
    (path,) = touch(root, "a.nii.gz")
    path.write_bytes(b"/annex/objects/MD5E-s9--abc.nii.gz\n")
    return path


def dangling(root: Path) -> Path:
    (root / "a.nii.gz").symlink_to("nowhere.nii.gz")
    return root / "a.nii.gz"


def pipe(root: Path) -> Path:
    os.mkfifo(root / "a.nii.gz")
    return root / "a.nii.gz"


def device(root: Path) -> Path:
    (root / "a.nii.gz").symlink_to("/dev/zero")
    return root / "a.nii.gz"


NOTHING_TO_READ = {
    "annex": (
        lambda root: annexed(root, "a.nii.gz", "MD5E-s9--abc.nii.gz", content=None),
        "its content is not here; fetch it first (datalad get, git annex get)",
    ),
    "unlocked": (unlocked_pointer, "not here; fetch it first (datalad get, git annex get)"),
    "lfs": (lfs_pointer, "its content is not here; fetch it first (git lfs pull)"),
    "dangling": (dangling, "a link that leads nowhere (nowhere.nii.gz); mend it"),
    "pipe": (pipe, "a pipe, not a file; give the file itself"),
    "device": (device, "a device, not a file; give the file itself"),
}


@pytest.mark.parametrize("as_folder", [True, False])
@pytest.mark.parametrize("name", NOTHING_TO_READ)
def test_what_holds_nothing_to_read_is_refused_unopened_and_the_others_are_found(
    tmp_path, name, as_folder
) -> None:
    make, said = NOTHING_TO_READ[name]
    bad = make(tmp_path)
    (good,) = touch(tmp_path, "b.nii.gz")
    scans, (refused,) = find_scans([tmp_path] if as_folder else [bad, good])
    assert [scan.path for scan in scans] == [good]
    assert refused.path == bad
    assert str(refused.error).startswith(f"{bad}: ")
    assert said in str(refused.error)


def test_whatever_one_input_raises_the_others_are_found(tmp_path, monkeypatch) -> None:
    def broken(path: Path) -> bool:
        raise RecursionError("too deep")

    monkeypatch.setattr("ddmseg.imaging.dicom.series.is_zip", broken)
    a, b = touch(tmp_path, "a.bin", "b.nii.gz")
    scans, (refused,) = find_scans([a, b])
    assert [scan.path for scan in scans] == [b]
    assert isinstance(refused.error, RecursionError)


def test_names_in_capitals_are_scans_too(tmp_path) -> None:
    paths = touch(tmp_path, "A.NII.GZ", "B.Nii")
    assert found(tmp_path) == paths
    assert [scan.stem for scan in find_scans(paths)[0]] == ["A", "B"]


def told_of(*inputs: Path) -> list[str]:
    told: list[str] = []
    find_scans(inputs, tell=told.append)
    return told


def test_every_file_of_a_folder_is_a_scan_or_counted_with_the_reason(tmp_path) -> None:
    touch(tmp_path, "a.nii.gz", "a_dseg.mgz", "a_receipt.json", "a_volumes.tsv")
    touch(tmp_path, "b.mgz", "notes.txt", "LICENSE", ".hidden.nii.gz", "deeper/c.nii.gz")
    assert told_of(tmp_path) == [
        f"{tmp_path}: passed over 3 of earlier results, 2 neither NIfTI nor MGH "
        "(.txt, no ending), 1 folders that are not looked into, 1 hidden"
    ]


def test_a_folder_of_scans_alone_needs_no_words(tmp_path) -> None:
    touch(tmp_path, "a.nii.gz", "b.nii")
    assert told_of(tmp_path) == []


def test_what_of_a_bids_folder_is_left_out_is_told_subject_by_subject(tmp_path) -> None:
    touch(tmp_path, "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz", "README", "derivatives/x.txt")
    touch(tmp_path, "sub-01/ses-a/anat/sub-01_ses-a_T1w.json")
    touch(tmp_path, "sub-01/ses-b/func/sub-01_ses-b_bold.nii.gz")
    touch(tmp_path, "sub-02/anat/sub-02_T2w.nii.gz", "sub-02/anat/sub-02_FLAIR.nii.gz")
    assert told_of(tmp_path) == [
        f"{tmp_path}: no scan of sub-01/ses-b, sub-02",
        f"{tmp_path}: passed over 2 neither NIfTI nor MGH (.json, no ending), 1 *_FLAIR, "
        "1 *_T2w, 1 *_bold, 1 folders that are not looked into",
    ]


def test_files_beside_a_dicom_series_are_counted(tmp_path) -> None:
    dicom(tmp_path / "in")
    (tmp_path / "in" / "viewer.exe").write_bytes(b"MZ")
    assert told_of(tmp_path / "in")[-1] == "files passed over: 1 not DICOM"


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
        f"{tmp_path}: no scan in this folder; it must hold .nii.gz, .nii, .mgz, .mgh or DICOM files"
    )


def test_a_bids_folder_without_t1_is_refused(tmp_path) -> None:
    touch(tmp_path, "sub-01/anat/sub-01_T2w.nii.gz")
    assert "a BIDS folder without *_T1w.nii.gz" in refusal(tmp_path)


def dicom(folder: Path, *, number: int = 4, description: str = "t1 MPRAGE sag") -> Path:
    """Write a small series."""
    datasets = slice_datasets(folder, voxels(), affine_of(np.eye(3)))
    for dataset in datasets:
        dataset.SeriesNumber, dataset.SeriesDescription = number, description
    save(datasets)
    return folder


def only(path: Path, **options: Any) -> Scan:
    (scan,), refused = find_scans([path], **options)
    assert refused == []
    return scan


def test_a_dicom_folder_in_any_depth_is_one_scan(tmp_path) -> None:
    dicom(tmp_path / "export" / "A" / "B")
    (tmp_path / "export" / "viewer.exe").write_bytes(b"MZ")
    found = only(tmp_path / "export")
    assert (found.stem, found.subfolder) == ("series-004_t1_mprage_sag", "")
    assert found.series is not None
    assert found.series.shape == (5, 4, 3)


def test_a_zip_a_disk_list_and_a_single_file_are_dicom_too(tmp_path) -> None:
    folder = dicom(tmp_path / "in")
    save([enhanced_dataset(tmp_path / "one" / "IM1", voxels(), affine_of(np.eye(3)))])
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"deep/{file.name}")
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    for path in (tmp_path / "in.zip", folder / "DICOMDIR", tmp_path / "one" / "IM1"):
        assert only(path).series is not None


def test_of_several_series_the_best_is_taken_and_all_are_told(tmp_path) -> None:
    dicom(tmp_path / "in" / "a", number=2, description="t2_flair")
    dicom(tmp_path / "in" / "b", number=3, description="t1_mprage")
    told: list[str] = []
    assert only(tmp_path / "in", tell=told.append).stem == "series-003_t1_mprage"
    assert [line.split(",")[0] for line in told[:2]] == ["series 2", "series 3"]
    assert told[2].startswith("chosen: series-003_t1_mprage (T1-like by its description, ")
    assert not any(str(tmp_path) in line or PATIENT in line for line in told)
    told.clear()
    assert only(tmp_path / "in", series="2", tell=told.append).stem == "series-002_t2_flair"
    assert told[-1] == "chosen: series-002_t2_flair (named with --series)"


def test_a_localiser_by_its_description_must_be_asked_for_and_is_told(tmp_path) -> None:
    dicom(tmp_path / "in", number=2, description="t1 localizer")
    assert "described as a localiser ('localizer'), so it is not taken" in refusal(tmp_path / "in")
    told: list[str] = []
    assert only(tmp_path / "in", series="2", tell=told.append).series is not None
    assert told == [
        "chosen: series-002_t1_localizer (named with --series, though described as a localiser "
        "('localizer'))"
    ]


def test_one_series_alone_is_told_with_the_reason(tmp_path) -> None:
    told: list[str] = []
    only(dicom(tmp_path / "in"), tell=told.append)
    assert told == [
        "chosen: series-004_t1_mprage_sag (T1-like by its description, as scanned, part of a "
        "head, 2-D, 0.9 x 1.1 x 2.5 mm; the only one, for the models)"
    ]


def test_a_series_that_cannot_be_read_is_refused_with_the_reason(tmp_path) -> None:
    dicom(tmp_path / "in")
    (tmp_path / "in" / "001.dcm").unlink()
    datasets = slice_datasets(tmp_path / "lost", voxels((5, 4, 7)), affine_of(np.eye(3)))
    save(datasets[:3] + datasets[4:])
    assert "slices about 1 missing" in refusal(tmp_path / "lost")
    (slice_file,) = (tmp_path / "in").glob("002.dcm")
    assert "one slice; a scan must have 2 or more; give all its files" in refusal(slice_file)


def test_nifti_goes_before_dicom_in_one_folder(tmp_path) -> None:
    dicom(tmp_path / "raw")
    paths = touch(tmp_path, "scan.nii.gz")
    assert found(tmp_path) == paths


def test_series_of_one_name_go_to_folders_of_their_own(tmp_path) -> None:
    inputs = [dicom(tmp_path / name) for name in ("p1", "p2")]
    scans, _ = find_scans(inputs)
    assert [(one.subfolder, one.stem) for one in scans] == [
        ("p1", "series-004_t1_mprage_sag"),
        ("p2", "series-004_t1_mprage_sag"),
    ]


def test_a_dicom_input_named_twice_is_done_once(tmp_path) -> None:
    folder = dicom(tmp_path / "in")
    assert len(find_scans([folder, tmp_path / "." / "in"])[0]) == 1


def test_lines_of_a_list_hold_the_uid(tmp_path) -> None:
    folder = dicom(tmp_path / "in")
    (line,) = series_lines(folder)
    assert line.startswith("series 4, MR, TOYS, 't1 MPRAGE sag', 3 slices of 5 x 4")
    assert line.endswith(f"; UID {only(folder).series.uid}")
    with pytest.raises(ScanError, match="no such file; check the path"):
        list(series_lines(tmp_path / "absent"))


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


def test_below_a_root_a_place_depends_on_no_other_scan(tmp_path) -> None:
    paths = touch(tmp_path, "p1/mri/t1.nii.gz", "p2/mri/t1.nii.gz", "b.nii")
    series = dicom(tmp_path / "p3" / "export")
    (outside,) = touch(tmp_path.parent, f"{tmp_path.name} beside/t1.nii")
    together, refused = find_scans([*paths, series, outside], root=tmp_path)
    assert [(scan.subfolder, scan.stem) for scan in together] == [
        ("p1/mri", "t1"),
        ("p2/mri", "t1"),
        ("", "b"),
        ("p3/export", "series-004_t1_mprage_sag"),
    ]
    alone = [find_scans([path], root=tmp_path)[0][0] for path in (*paths, series)]
    assert [one.subfolder for one in alone] == [one.subfolder for one in together]
    (one,) = refused
    assert "does not lie below --root" in str(one.error)


def test_names_that_differ_in_case_alone_are_equal_on_some_disks(tmp_path) -> None:
    paths = touch(tmp_path, "x/T1.nii.gz", "y/t1.nii.gz")
    assert places(*map(str, paths)) == [("x", "T1"), ("y", "t1")]


FOLDERS = st.lists(st.sampled_from(["a", "b", "A"]), max_size=3).map("/".join)
NAMES = st.sampled_from(["t1.nii", "t1.nii.gz", "T1.nii", "t1_2.nii", "t1_3.nii.gz"])


@given(st.lists(st.tuples(FOLDERS, NAMES), unique=True, max_size=12))
def test_no_two_scans_ever_share_a_place(named) -> None:
    paths = [Path("/data", folder, name) for folder, name in named]
    scans = _placed([Scan(path, volume_stem(path)) for path in paths])
    assert [scan.path for scan in scans] == paths
    files = {f"{scan.subfolder}/{scan.stem}".casefold() for scan in scans}
    assert len(files) == len(paths)
    # a subfolder never leads out of the output folder
    assert all(not Path(scan.subfolder).is_absolute() for scan in scans)


def test_the_place_is_below_the_output(tmp_path) -> None:
    assert Scan(Path("a.nii"), "a").folder(tmp_path) == tmp_path
    assert Scan(Path("a.nii"), "a", "x/y").folder(tmp_path) == tmp_path / "x" / "y"
