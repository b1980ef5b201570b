"""DICOM series: geometry against truth, grouping, laws, and what is refused."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset

from ddmseg.errors import MissingExtraError, ScanError
from ddmseg.imaging.dicom.series import Series, list_series, read_series, refusal
from ddmseg.imaging.volume import Volume
from dicom_files import (
    PATIENT,
    affine_of,
    assert_same_world,
    base_dataset,
    ds,
    enhanced_dataset,
    rotation,
    save,
    scan,
    slice_datasets,
    write_series,
)

PLANES = {
    "axial": np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1.0]]),
    "coronal": np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0.0]]),
    "sagittal": np.array([[0, 0, -1], [-1, 0, 0], [0, -1, 0.0]]),
    "oblique": rotation(0.3, -0.2, 0.5),
}
AFFINE = affine_of(PLANES["axial"])


def only(folder: Path) -> Series:
    (series,) = list_series(folder)
    return series


def read(folder: Path) -> Volume:
    return read_series(only(folder))


def message(folder: Path) -> str:
    """The line with which a series is refused; the same from headers alone and on reading."""
    series = only(folder)
    with pytest.raises(ScanError) as caught:
        read_series(series)
    told = str(caught.value)
    assert refusal(series) == told
    assert "\n" not in told
    assert PATIENT not in told
    return told


# --- geometry ---------------------------------------------------------------


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("direction", [1, -1])
def test_voxels_lie_where_they_were_written(tmp_path: Path, plane: str, direction: int) -> None:
    data, affine = scan(), affine_of(PLANES[plane] @ np.diag([1, 1, direction]))
    write_series(tmp_path, data, affine)
    volume = read(tmp_path)
    assert volume.shape == (5, 4, 3)
    assert volume.spacing_mm == pytest.approx((0.9, 1.1, 2.5), abs=1e-6)
    assert_same_world(volume, data, affine)


@pytest.mark.parametrize("plane", PLANES)
def test_enhanced_file_gives_the_same_volume(tmp_path: Path, plane: str) -> None:
    data, affine = scan(), affine_of(PLANES[plane])
    write_series(tmp_path / "classic", data, affine)
    save([enhanced_dataset(tmp_path / "enhanced" / "one.dcm", data, affine)])
    classic, enhanced = read(tmp_path / "classic"), read(tmp_path / "enhanced")
    np.testing.assert_array_equal(classic.data, enhanced.data)
    np.testing.assert_allclose(classic.affine, enhanced.affine)


@settings(max_examples=15)
@given(order=st.permutations(range(5)), angles=st.tuples(*[st.floats(-3, 3)] * 3))
def test_names_and_numbers_of_files_decide_nothing(
    order: list[int], angles: tuple[float, float, float]
) -> None:
    data, affine = scan((4, 3, 5)), affine_of(rotation(*angles))
    with tempfile.TemporaryDirectory() as folder:
        datasets = slice_datasets(Path(folder), data, affine)
        for place, dataset in zip(order, datasets, strict=True):
            dataset.InstanceNumber = place
            dataset.filename = str(Path(folder) / f"{place}.dcm")
        save(datasets)
        assert_same_world(read(Path(folder)), data, affine)


@settings(max_examples=8)
@given(angles=st.tuples(*[st.floats(-3, 3)] * 3), gap=st.floats(0.3, 9))
def test_slices_written_the_other_way_round_give_the_same_volume(
    angles: tuple[float, float, float], gap: float
) -> None:
    data, affine = scan((3, 4, 4)), affine_of(rotation(*angles), (1, 1, gap))
    flip = np.diag([1.0, 1, -1, 1])
    flip[2, 3] = data.shape[2] - 1
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder) / "one", Path(folder) / "other"
        write_series(one, data, affine)
        write_series(other, data[:, :, ::-1], affine @ flip)
        here, there = read(one), read(other)
    np.testing.assert_array_equal(here.data, there.data)
    np.testing.assert_allclose(here.affine, there.affine, atol=1e-5)


def test_rounded_positions_are_tolerated(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path, scan((4, 4, 9)), affine_of(np.eye(3), (1, 1, 0.625)))
    for dataset in datasets:
        dataset.ImagePositionPatient = [f"{v:.2f}" for v in dataset.ImagePositionPatient]
    save(datasets)
    assert read(tmp_path).spacing_mm[2] == pytest.approx(0.625, abs=0.002)


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    data = scan()
    datasets = slice_datasets(tmp_path, data, AFFINE)
    for k, dataset in enumerate(datasets):
        dataset.RescaleSlope, dataset.RescaleIntercept = ds([0.5 * (k + 1)])[0], ds([10 * k])[0]
    save(datasets)
    scales, offsets = np.array([0.5, 1.0, 1.5]), np.array([0, 10, 20])
    assert_same_world(read(tmp_path), data * scales + offsets, AFFINE)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
def test_stored_types(tmp_path: Path, dtype: type) -> None:
    data = (scan() - np.int32(2000) if dtype is np.int16 else scan() % 256).astype(dtype)
    write_series(tmp_path, data, AFFINE)
    assert_same_world(read(tmp_path), data, AFFINE)


# --- listing ----------------------------------------------------------------


def test_series_are_told_apart_and_sorted(tmp_path: Path) -> None:
    for number, count in ((7, 3), (2, 4)):
        datasets = slice_datasets(tmp_path / f"s{number}" / "deep", scan((4, 4, count)), AFFINE)
        for dataset in datasets:
            dataset.SeriesNumber = number
        save(datasets)
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty.dcm").touch()
    report = base_dataset(tmp_path / "report.dcm", "1.2.840.10008.5.1.4.1.1.88.11", "1.2.3")
    save([report])
    first, second = list_series(tmp_path)
    assert (first.number, first.shape, second.number) == (2, (4, 4, 4), 7)
    assert first.name == "series-002_t1_mprage_sag"
    assert (first.modality, first.manufacturer) == ("MR", "TOYS")
    assert first.spacing_mm == pytest.approx((0.9, 1.1, 2.5))
    assert len(first.paths) == 4
    assert refusal(first) is None


def test_nothing_of_the_patient_is_kept(tmp_path: Path) -> None:
    write_series(tmp_path, scan(), AFFINE)
    series = only(tmp_path)
    kept = repr(dataclasses.asdict(series)) + repr(read_series(series))
    assert "Doe" not in kept
    assert "SECRET" not in kept


def test_two_files_of_one_name_and_different_pixels_are_refused(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    save(datasets)
    other = datasets[1]
    other.PixelData = other.PixelData[:-2] + b"\1\0"
    other.save_as(tmp_path / "zz.dcm")
    (series,) = list_series(tmp_path)
    told = (
        "series-004_t1_mprage_sag: two files of image 2 with one SOP Instance UID and different "
        "pixels, and nothing says which is right; leave the wrong one out, or export the series "
        "again"
    )
    assert refusal(series) == told
    with pytest.raises(ScanError) as caught:
        read_series(series)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        ({"PatientComments": "seen"}, True),
        ({"RescaleSlope": "2"}, False),
        ({"BitsStored": 12}, False),
        ({"PixelData": b""}, False),
    ],
)
def test_a_copy_may_differ_where_it_does_not_matter(
    tmp_path: Path, change: dict[str, object], taken: bool
) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    save(datasets)
    for keyword, value in change.items():
        setattr(datasets[1], keyword, value)
    datasets[1].save_as(tmp_path / "zz.dcm")
    (series,) = list_series(tmp_path)
    assert (refusal(series) is None) == taken
    assert len(series.headers) == (3 if taken else 4)


def test_two_images_at_one_place_are_refused(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    save(datasets)
    datasets[1].SOPInstanceUID = datasets[1].file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    datasets[1].save_as(tmp_path / "zz.dcm")
    (series,) = list_series(tmp_path)
    assert "1 images lie where another lies" in str(refusal(series))


def test_an_image_exported_twice_counts_once(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "a", scan(), AFFINE):
        (tmp_path / f"copy-{path.name}").write_bytes(path.read_bytes())
    assert read(tmp_path).shape == (5, 4, 3)


def test_blanked_image_uids_do_not_merge_slices(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    for dataset in datasets:
        dataset.SOPInstanceUID = "1.2.3"
    save(datasets)
    assert read(tmp_path).shape == (5, 4, 3)


def test_files_without_a_preamble_are_read(tmp_path: Path) -> None:
    data = scan()
    for path in write_series(tmp_path, data, AFFINE):
        raw = path.read_bytes()
        length = int.from_bytes(raw[140:144], "little")
        path.write_bytes(raw[144 + length :])
    assert_same_world(read(tmp_path), data, AFFINE)


def test_values_that_break_the_standard_are_read_in_silence(tmp_path: Path) -> None:
    paths = write_series(tmp_path, scan(), AFFINE)
    for path in paths:  # numbers of more than 16 characters, as many scanners write
        raw = path.read_bytes()
        at = raw.index(b"\x28\x00\x30\x00DS")
        length = int.from_bytes(raw[at + 6 : at + 8], "little")
        text = b"1.10000000000000000009\\0.90"
        new = raw[at : at + 6] + len(text).to_bytes(2, "little") + text
        path.write_bytes(raw[:at] + new + raw[at + 8 + length :])
    assert read(tmp_path).spacing_mm == pytest.approx((0.9, 1.1, 2.5))  # a warning would raise


def test_one_file_can_be_named(tmp_path: Path) -> None:
    data = scan()
    save([enhanced_dataset(tmp_path / "one.dcm", data, AFFINE)])
    assert_same_world(read(tmp_path / "one.dcm"), data, AFFINE)


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no such folder; check the path"):
        list_series(tmp_path / "absent")
    (tmp_path / "a.dcm").write_bytes(b"text" * 100)
    with pytest.raises(ScanError, match="no DICOM file here; give a folder with DICOM"):
        list_series(tmp_path)
    save([base_dataset(tmp_path / "b.dcm", "1.2.840.10008.5.1.4.1.1.88.11", "1.2.3")])
    with pytest.raises(ScanError, match="1 DICOM files and none holds an image"):
        list_series(tmp_path)
    with pytest.raises(ScanError, match="more than 1 files; give the folder of one examination"):
        list_series(tmp_path, max_files=1)


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, scan(), AFFINE)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"of the extra 'dicom'"):
        list_series(tmp_path)


def test_a_damaged_file_below_a_folder_is_told_by_number(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    bad = write_series(folder / PATIENT, scan(), AFFINE)[1]
    (folder / "notes.txt").touch()
    raw = bad.read_bytes()
    bad.write_bytes(raw[: raw.index(b"TOYS") + 1])
    with pytest.raises(ScanError) as caught:
        list_series(folder)
    told = "damaged DICOM file (cut off in its header); export it again"
    assert str(caught.value) == f"{folder}, file 3: {told}"
    with pytest.raises(ScanError) as caught:
        list_series(bad)  # named by the user, who knows its name
    assert str(caught.value) == f"{bad}: {told}"


def test_a_file_that_vanishes_is_told_by_number(tmp_path: Path) -> None:
    paths = write_series(tmp_path / PATIENT, scan(), AFFINE)
    series = only(tmp_path)
    paths[2].unlink()
    with pytest.raises(ScanError) as caught:
        read_series(series)
    assert str(caught.value) == (
        "series-004_t1_mprage_sag, image 3: cannot be read (No such file or directory)"
    )


# --- refusals ---------------------------------------------------------------


def changed(folder: Path, change: Callable[[int, FileDataset], None], count: int = 4) -> str:
    """The refusal of a sound series after a change to each of its slices."""
    datasets = slice_datasets(folder, scan((4, 4, count)), AFFINE)
    for k, dataset in enumerate(datasets):
        change(k, dataset)
    save(datasets)
    return message(folder)


def set_all(keyword: str, value: object) -> Callable[[int, FileDataset], None]:
    return lambda _, dataset: setattr(dataset, keyword, value)


@pytest.mark.parametrize(
    ("keyword", "value", "told"),
    [
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "a localiser, not a scan; choose"),
        ("ImageType", ["DERIVED", "PRIMARY", "ADC", "ND"], "a computed map (ADC), not a scan"),
        ("ImageType", ["DERIVED", "PRIMARY", "M", "SUB"], "a computed map (SUB), not a scan"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "P", "ND"], "a computed map (PHASE), not a scan"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "M", "MOSAIC"], "tiled into one picture (MOSAIC)"),
        ("Modality", "PT", "modality PT; it must be one of MR, CT; choose another series"),
        ("SamplesPerPixel", 3, "colour images; a scan must be grey; choose another series"),
        ("PhotometricInterpretation", "PALETTE COLOR", "colour images; a scan must be grey"),
        ("PixelSpacing", ["0", "0"], "pixel spacings from 0 to 0 mm; all slices must have"),
        ("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"], "no pair of perpendicular"),
        ("ImagePositionPatient", ["1", "2", "3"], "4 images of one and the same place; they make"),
        ("ImagePositionPatient", None, "4 of 4 images say not where they lie (position,"),
        ("NumberOfFrames", 2, "8 images and the places of 4; a file with many images must say"),
    ],
)
def test_a_header_that_makes_no_scan(
    tmp_path: Path, keyword: str, value: object, told: str
) -> None:
    assert told in changed(tmp_path, set_all(keyword, value))


def test_one_slice_is_no_scan(tmp_path: Path) -> None:
    assert changed(tmp_path, lambda *_: None, 1).endswith(
        "one slice; a scan must have 2 or more; give all its files"
    )


def test_absurd_sizes_are_refused_before_pixels_are_read(tmp_path: Path) -> None:
    def grow(_: int, dataset: FileDataset) -> None:
        dataset.Rows = dataset.Columns = 60000

    assert "60000 x 60000 x 4 voxels; at most 134217728 are allowed" in changed(tmp_path, grow)


def test_a_missing_slice_is_noticed_wherever_it_was(tmp_path: Path) -> None:
    for absent in (1, 2, 6, 10):
        folder = tmp_path / str(absent)
        write_series(folder, scan((4, 4, 12)), AFFINE)[absent].unlink()
        told = message(folder)
        assert "slices about 1 missing: they lie 2.5 to 5 mm apart" in told
        assert "at most 10% of their distance; export the whole series again" in told


def test_uneven_slices_are_refused(tmp_path: Path) -> None:
    def nudge(k: int, dataset: FileDataset) -> None:
        if k == 1:
            x, y, z = map(float, dataset.ImagePositionPatient)
            dataset.ImagePositionPatient = ds((x, y, z + 0.5))

    assert "slices uneven: they lie 2 to 3 mm apart" in changed(tmp_path, nudge)


def test_two_volumes_in_one_series_are_told_apart(tmp_path: Path) -> None:
    for echo in ("5", "20"):
        datasets = slice_datasets(tmp_path / echo, scan(), AFFINE, series="1.2.3")
        for dataset in datasets:
            dataset.EchoTime = echo
        save(datasets)
    told = message(tmp_path)
    assert "differ in echo time (5 ms in 3 images; 20 ms in 3 images); a scan has one" in told


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    def shear(k: int, dataset: FileDataset) -> None:
        x, y, z = map(float, dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = ds((x, y + k * 2.5 * np.tan(np.radians(14)), z))

    told = changed(tmp_path, shear)
    assert "slices sheared by 14.0 degrees (a tilted gantry); that cannot be undone" in told


def test_mixed_orientations_sizes_and_spacings(tmp_path: Path) -> None:
    def last(keyword: str, value: object) -> Callable[[int, FileDataset], None]:
        return lambda k, dataset: setattr(dataset, keyword, value) if k == 3 else None

    turned = last("ImageOrientationPatient", ["0", "1", "0", "0", "0", "-1"])
    assert "slices in 2 orientations; all must be parallel" in changed(tmp_path / "a", turned)
    assert "images of 2 sizes (4 x 2, 4 x 4); all must be alike" in changed(
        tmp_path / "b", last("Rows", 2)
    )
    assert "pixel spacings from 0.9 to 3 mm" in changed(
        tmp_path / "c", last("PixelSpacing", ["3", "3"])
    )


# --- against other readers --------------------------------------------------

SNIPPETS = "dicom/snippets"
WITH_TRUTH = (
    *("anatomical/001", "ge/anatomical/001", "siemens/anatomical/001", "philips/anatomical/001"),
    *("hitachi/anatomical/001", "hyperfine/anatomical/001", "failing/slicecount/001"),
    *("philips_enhanced/anatomical/001", "siemens_multiframe/anatomical/001"),
    *("generic/anatomical/001", "generic/anatomical/002_non_isotropic"),
    *("generic/compressed_rle/001",),
)
REFUSED = {
    "failing/gantrytilting/001": "sheared by 14.0 degrees",
    "failing/notavolume/001": "4 images of one and the same place",
    "failing/sliceincrement/001": "about 1 missing: they lie 5 to 10 mm apart",
    "failing/sliceincrement/002": "about 1 missing",
    "failing/sliceorientation/001": "echo time (90 ms in 2 images; 120 ms in 2 images)",
    "ge/anatomical/001_single_slice": "one slice",
    "generic/rgb/001": "colour images",
}


@pytest.mark.parametrize("name", WITH_TRUTH)
def test_real_series_agree_with_their_nifti(data_folder: Path, name: str) -> None:
    folder = data_folder / SNIPPETS / name
    truth = nib.load(folder.with_name(f"{folder.name}_ground_truth.nii.gz"))
    volume = read(folder)
    assert_same_world(volume, np.asarray(truth.dataobj).squeeze(), truth.affine)
    middle = np.append((np.array(volume.shape) - 1) / 2, 1)
    centroid = np.linalg.inv(truth.affine) @ volume.affine @ middle
    assert np.abs(centroid[:3] - (np.array(truth.shape[:3]) - 1) / 2).max() < 0.1


@pytest.mark.parametrize("name", REFUSED)
def test_real_series_that_are_no_volume(data_folder: Path, name: str) -> None:
    assert REFUSED[name] in message(data_folder / SNIPPETS / name)


@pytest.mark.parametrize(
    ("elements", "date"),
    [
        ({"AcquisitionDateTime": "20261129123000.5+0100", "StudyDate": "20200101"}, "2026-11-29"),
        ({"AcquisitionDate": "20261129"}, "2026-11-29"),
        ({"AcquisitionDate": "", "SeriesDate": "20261128"}, "2026-11-28"),
        ({"AcquisitionDate": "99999999", "StudyDate": "20261127"}, "2026-11-27"),
        ({}, ""),
    ],
)
def test_the_day_of_a_scan_is_that_of_its_acquisition_where_it_is_one(
    tmp_path, elements, date
) -> None:
    datasets = slice_datasets(tmp_path, scan(), affine_of(np.eye(3)))
    for dataset in datasets:
        for keyword in ("AcquisitionDateTime", "AcquisitionDate", "SeriesDate", "StudyDate"):
            if keyword in dataset:
                del dataset[keyword]
        for keyword, value in elements.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom warns of what is no date
                setattr(dataset, keyword, value)
    save(datasets)
    (found,) = list_series(tmp_path)
    assert read_series(found).date == date
