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
from real_command import Outcome, run_quietly
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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model) -> tuple[Path, Outcome]:
    """The folder of the results of a series, and what was said."""
    folder = tmp_path_factory.mktemp("run")
    save(slice_datasets(folder / "export" / "series", head(), AFFINE))
    words = ("-o", folder / "out", "--mode", "fast", "--no-cache", "--model", tiny_model)
    return folder / "out", run_quietly("segment", folder / "export", *words)


def test_a_folder_gives_the_dicom_files_beside_the_others(run) -> None:
    out, outcome = run
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


def test_the_report_of_volumes_says_what_the_table_says(run) -> None:
    out, _ = run
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


def test_what_names_the_patient_is_for_its_owner_only(run) -> None:
    out, _ = run
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


def test_one_series_is_explained_too(run) -> None:
    assert (
        f"chosen: {STEM} (T1-like by its description, as scanned, whole head, 3-D, 6 x 6 x 6 mm; "
        "the only one, for tiny)"
    ) in run[1].err.splitlines()


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


def cut(path: Path, count: int) -> Path:
    path.write_bytes(path.read_bytes()[:-count])
    return path


def plain(folder: Path, count: int) -> Path:
    """A series whose seventh slice is cut off by so many bytes."""
    cut(save(slice_datasets(folder, head(), AFFINE))[6], count)
    return folder


def compressed(folder: Path, count: int) -> Path:
    """The same in RLE."""
    datasets = slice_datasets(folder, head(), AFFINE)
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
    cut(save(datasets)[6], count)
    return folder


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in enumerate(sorted(folder.rglob("*.dcm"))):
            archive.write(file, str(number))
    return path


PROMISED = (
    f"{STEM}, image 7: 1460 bytes of pixels where the header promises 1560; the file is cut off; "
    "export the series again"
)
CUT_OFF = {
    "a slice": (lambda folder: plain(folder, 100), PROMISED),
    "a slice of a series that was named": (lambda folder: plain(folder, 100), "again"),
    "before the pixels": (
        lambda folder: plain(folder, 1560 + 12),
        f"{STEM}, image 7: holds no pixels, or is cut off",
    ),
    "compressed, at its end": (
        lambda folder: compressed(folder, 9),
        f"{STEM}, image 7: the pixels are cut off; export the series again",
    ),
    "compressed, earlier": (
        lambda folder: compressed(folder, 200),
        f"{STEM}, image 7: the pixels are cut off; export the series again",
    ),
    "enhanced": (
        lambda folder: cut(*save([enhanced_dataset(folder / "one.dcm", head(), AFFINE)]), 5000),
        "the file is cut off",
    ),
    "in an archive": (lambda folder: zipped(plain(folder, 200)), f"{STEM}, image 7: "),
    "compressed, in an archive": (
        lambda folder: zipped(compressed(folder, 200)),
        f"{STEM}, image 7: ",
    ),
}
"""How an input is made that lacks its end, and what is said of it."""


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Each input and its error line, of one process that must never have imported torch."""
    folder = tmp_path_factory.mktemp("cut off")
    inputs = {name: make(folder / name) for name, (make, _) in CUT_OFF.items()}
    named = {"a slice of a series that was named": ["--series", "4"]}
    calls = [
        ["segment", str(path), "-o", str(folder / "out"), *named.get(name, [])]
        for name, path in inputs.items()
    ]
    driver = (
        "import json, sys\n"
        "from ddmseg.cli.main import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    print(main(words), 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", driver, json.dumps(calls)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "1 False\n" * len(calls), done.stdout + done.stderr
    assert not (folder / "out").exists()
    lines = done.stderr.splitlines()
    return {name: (inputs[name], line) for name, line in zip(inputs, lines, strict=True)}


@pytest.mark.parametrize("name", CUT_OFF)
def test_what_is_cut_off_is_refused_before_torch_is_loaded(refusals, name) -> None:
    path, line = refusals[name]
    assert line.startswith(f"error: {path}: ")
    assert CUT_OFF[name][1] in line
    assert "cut off" in line
    assert PATIENT not in line


def test_the_list_says_which_series_is_cut_off(segment, exported) -> None:
    cut(sorted(exported.rglob("*.dcm"))[6], 100)
    outcome = segment(exported, "--list-series")
    assert "; not usable: image 7: 1460 bytes of pixels where" in outcome.out


def test_nifti_gives_no_dicom(segment, tmp_path) -> None:
    path = tmp_path / "scan.nii.gz"
    nib.Nifti1Image(head_voxels(), np.diag([6.0, 6, 6, 1])).to_filename(path)
    assert segment(path, "-o", tmp_path / "out", "--mode", "fast").code == 0
    assert not list((tmp_path / "out").glob("*.dcm"))
