"""``ddmseg segment`` from a DICOM series to DICOM results, with a model that knows nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from ddmseg.imaging.labels import structure
from dicom_files import (
    PATIENT,
    affine_of,
    enhanced_dataset,
    read_seg,
    rotation,
    save,
    slice_datasets,
    world_dice,
)
from toy_head import everything_in, head_voxels

STEM = "series-004_t1_mprage_sag"
DICOM_FILES = {f"{STEM}_dseg.dcm", f"{STEM}_volumes.dcm", f"{STEM}_report.dcm"}
AFFINE = affine_of(rotation(0.2, -0.1, 0.3), (6, 6, 6), (-70, -80, -60))


def head() -> np.ndarray:
    return np.clip(head_voxels(), 0, None).astype(np.uint16)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    save(slice_datasets(folder / "series", head(), AFFINE))
    return folder


def assert_seg_is_the_nifti(out: Path) -> None:
    labels = nib.load(out / f"{STEM}_dseg.nii.gz")
    values = np.asarray(labels.dataobj)
    found = read_seg(out / f"{STEM}_dseg.dcm")
    found.pop("Background", None)
    assert found
    names = {structure(int(index)).name: index for index in np.unique(values) if index}
    assert set(found) == set(names)
    for name, index in names.items():
        dice = world_dice(found[name], (values == index, labels.affine))
        assert dice > 0.998  # places in mm are rounded in the file


def test_a_folder_gives_the_dicom_files_beside_the_others(segment, exported, tmp_path) -> None:
    out = tmp_path / "out"
    outcome = segment(exported, "-o", out, "--mode", "fast")
    assert (outcome.code, outcome.errors) == (0, [])
    assert set(everything_in(out)) >= DICOM_FILES
    assert_seg_is_the_nifti(out)
    receipt = json.loads((out / f"{STEM}_receipt.json").read_text())
    for name in DICOM_FILES:
        content = (out / name).read_bytes()
        assert receipt["outputs"][name] == hashlib.sha256(content).hexdigest()
    page = pydicom.dcmread(out / f"{STEM}_report.dcm")
    quality = json.loads((out / f"{STEM}_qc.json").read_text())
    assert f"verdict: {quality['verdict']}; expected Dice" in page.ImageComments
    assert page.ImageComments.startswith("research use, not for diagnosis")
    assert PATIENT not in outcome.out + outcome.err + json.dumps(receipt)


def test_the_report_of_volumes_says_what_the_table_says(segment, exported, tmp_path) -> None:
    out = tmp_path / "out"
    assert segment(exported, "-o", out, "--mode", "fast").code == 0
    report = hd.sr.srread(out / f"{STEM}_volumes.dcm")
    found = [
        measurement.value
        for groups in (
            report.content.get_volumetric_roi_measurement_groups(),
            report.content.get_image_measurement_groups(),
        )
        for group in groups
        for measurement in group.get_measurements()
    ]
    table = (out / f"{STEM}_volumes.tsv").read_text().splitlines()[1:]
    assert sorted(found) == sorted(float(row.split("\t")[2]) for row in table)


def test_what_names_the_patient_is_for_its_owner_only(segment, exported, tmp_path) -> None:
    out = tmp_path / "out"
    assert segment(exported, "-o", out, "--mode", "fast").code == 0
    naming = {path.name for path in out.iterdir() if PATIENT.encode() in path.read_bytes()}
    assert naming == DICOM_FILES
    for name in naming:
        assert (out / name).stat().st_mode & 0o777 == 0o600


def test_an_enhanced_file_and_labelmaps(segment, tmp_path) -> None:
    save([enhanced_dataset(tmp_path / "one.dcm", head(), AFFINE)])
    out = tmp_path / "out"
    words = (tmp_path / "one.dcm", "-o", out, "--mode", "fast", "--dicom-seg", "labelmap")
    assert segment(*words).code == 0
    assert pydicom.dcmread(out / f"{STEM}_dseg.dcm").SegmentationType == "LABELMAP"
    assert_seg_is_the_nifti(out)


def test_a_zip_of_a_mixed_export(segment, exported, tmp_path) -> None:
    other = slice_datasets(exported / "other", head()[:, :, :4], AFFINE)
    for dataset in other:
        dataset.SeriesNumber, dataset.SeriesDescription = 2, "t2_tse"
    save(other)
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(exported.rglob("*.dcm")):
            archive.write(file, file.relative_to(exported))
        archive.writestr("AUTORUN.INF", "open=viewer.exe")
    outcome = segment(path, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 0
    lines = outcome.err.splitlines()
    assert lines[0].startswith("series 2, MR, TOYS, 't2_tse', 4 slices of 26 x 30, 6 x 6 x 6 mm")
    assert lines[1].startswith("series 4, MR, TOYS, 't1 MPRAGE sag', 22 slices")
    assert lines[2].startswith(f"chosen: {STEM} (T1-like")
    assert_seg_is_the_nifti(tmp_path / "out")


def test_one_series_is_explained_too(segment, exported, tmp_path) -> None:
    outcome = segment(exported, "-o", tmp_path / "out", "--mode", "fast")
    assert (
        f"chosen: {STEM} (T1-like by its description, as scanned, whole head, 3-D, 6 x 6 x 6 mm; "
        "the only one, for tiny)"
    ) in outcome.err.splitlines()


def test_the_list_of_series_needs_no_output(segment, exported) -> None:
    outcome = segment(exported, "--list-series")
    assert (outcome.code, outcome.err) == (0, "")
    (line,) = outcome.out.splitlines()
    assert line.startswith("series 4, MR, TOYS, 't1 MPRAGE sag', 22 slices of 26 x 30")
    assert "; UID " in line


def test_the_list_of_what_holds_none_is_an_error(segment, exported, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = segment(tmp_path / "empty", exported, "--list-series")
    assert outcome.code == 1
    assert "no DICOM file here" in outcome.error
    assert len(outcome.out.splitlines()) == 1


def test_no_labels_when_none_are_wanted(segment, exported, tmp_path) -> None:
    out = tmp_path / "out"
    assert segment(exported, "-o", out, "--mode", "fast", "--dicom-seg", "none").code == 0
    assert {name for name in everything_in(out) if name.endswith(".dcm")} == {f"{STEM}_report.dcm"}


def test_what_cannot_be_referred_to_is_told_before_the_work(segment, tmp_path) -> None:
    datasets = slice_datasets(tmp_path / "in", head(), AFFINE)
    for dataset in datasets:
        del dataset.FrameOfReferenceUID
    save(datasets)
    out = tmp_path / "out"
    outcome = segment(tmp_path / "in", "-o", out, "--mode", "fast")
    assert outcome.code == 1
    assert "its files name no common Frame of Reference UID" in outcome.error
    assert outcome.error.endswith("or pass --dicom-seg none")
    assert not out.exists()
    words = (tmp_path / "in", "-o", out, "--mode", "fast", "--dicom-seg", "none")
    assert segment(*words).code == 0


def test_a_series_that_is_not_there(segment, exported, tmp_path) -> None:
    outcome = segment(exported, "-o", tmp_path / "out", "--series", "9")
    assert outcome.code == 1
    assert "--series 9: no such series; there are 4" in outcome.error
    assert not (tmp_path / "out").exists()


# --- refused before the model is loaded -----------------------------------------


def refused_without_torch(path: Path, tmp_path: Path, *words: str) -> str:
    """The error line of the command, which must never have imported torch."""
    driver = (
        "import sys\n"
        "from ddmseg.cli.main import main\n"
        "print(main(sys.argv[1:]), 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", driver, "segment", path, "-o", tmp_path / "out", *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "1 False\n", done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert PATIENT not in line
    assert not (tmp_path / "out").exists()
    return line


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def compressed(folder: Path) -> Path:
    """A series in RLE; return the file of one slice."""
    datasets = slice_datasets(folder, head(), AFFINE)
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
    return save(datasets)[6]


def test_a_slice_that_is_cut_off(exported, tmp_path) -> None:
    cut(sorted(exported.rglob("*.dcm"))[6], 100)
    assert refused_without_torch(exported, tmp_path) == (
        f"error: {exported}: {STEM}, image 7: 1460 bytes of pixels where the header promises "
        "1560; the file is cut off; export the series again"
    )
    assert refused_without_torch(exported, tmp_path, "--series", "4").endswith("again")


def test_a_slice_that_ends_before_its_pixels(exported, tmp_path) -> None:
    cut(sorted(exported.rglob("*.dcm"))[6], 1560 + 12)
    assert "image 7: holds no pixels, or is cut off" in refused_without_torch(exported, tmp_path)


@pytest.mark.parametrize("count", [9, 200])
def test_a_compressed_slice_that_is_cut_off(tmp_path, count) -> None:
    cut(compressed(tmp_path / "in"), count)
    line = refused_without_torch(tmp_path / "in", tmp_path)
    assert f"{STEM}, image 7: the pixels are cut off; export the series again" in line


def test_an_enhanced_file_that_is_cut_off(tmp_path) -> None:
    (path,) = save([enhanced_dataset(tmp_path / "one.dcm", head(), AFFINE)])
    cut(path, 5000)
    assert "the file is cut off" in refused_without_torch(path, tmp_path)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_a_slice_in_an_archive_that_is_cut_off(exported, tmp_path, packed) -> None:
    folder = exported
    if packed:
        folder = tmp_path / "in"
        cut(compressed(folder), 200)
    else:
        cut(sorted(folder.rglob("*.dcm"))[6], 200)
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in enumerate(sorted(folder.rglob("*.dcm"))):
            archive.write(file, str(number))
    line = refused_without_torch(path, tmp_path)
    assert f"{STEM}, image 7: " in line
    assert "cut off" in line


def test_the_list_says_which_series_is_cut_off(segment, exported) -> None:
    cut(sorted(exported.rglob("*.dcm"))[6], 100)
    outcome = segment(exported, "--list-series")
    assert "; not usable: image 7: 1460 bytes of pixels where" in outcome.out


def test_nifti_gives_no_dicom(segment, tmp_path) -> None:
    path = tmp_path / "scan.nii.gz"
    nib.Nifti1Image(head_voxels(), np.diag([6.0, 6, 6, 1])).to_filename(path)
    assert segment(path, "-o", tmp_path / "out", "--mode", "fast").code == 0
    assert not list((tmp_path / "out").glob("*.dcm"))
