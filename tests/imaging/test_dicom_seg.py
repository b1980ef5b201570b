"""Labels to DICOM SEG and back through readers that know nothing of the writer."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement

from ddmseg import __version__
from ddmseg.errors import MissingExtraError, OutputError, ScanError
from ddmseg.imaging.dicom.seg import SegForm, write_dicom_seg
from ddmseg.imaging.dicom.series import Series, list_series, read_series
from ddmseg.imaging.labels import structure
from ddmseg.imaging.nifti import write_label_map
from ddmseg.imaging.volume import LabelMap
from dicom_files import (
    FRAME_OF_REFERENCE,
    LPS,
    STUDY,
    affine_of,
    enhanced_dataset,
    read_seg,
    rotation,
    save,
    scan,
    slice_datasets,
    world_dice,
    world_points,
)
from pairs import pairs

SHAPE = (9, 7, 6)
IDS = (17, 53, 4, 232)
FORMS = ("binary", "labelmap")
PLANES = {
    "axial": np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1.0]]),
    "coronal": np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0.0]]),
    "sagittal": np.array([[0, 0, -1], [-1, 0, 0], [0, -1, 0.0]]),
    "oblique": rotation(0.3, -0.2, 0.5),
}
CASES = pairs(tuple(PLANES), (1, -1), (False, True), FORMS)


def series_of(folder: Path, affine: np.ndarray, *, multi_frame: bool = False) -> Series:
    data = scan(SHAPE)
    if multi_frame:
        save([enhanced_dataset(folder / "one.dcm", data, affine)])
    else:
        save(slice_datasets(folder, data, affine))
    (series,) = list_series(folder)
    return series


def labels_on(series: Series) -> LabelMap:
    """Four structures without any symmetry; the last slice but one is empty."""
    volume = read_series(series)
    labels = np.zeros(SHAPE, np.int32)
    labels[1:4, 1:3, 0:3] = 17
    labels[5:8, 2:6, 1:4] = 53
    labels[0, 6, 5] = 4
    labels[3, 5, 1:4] = 232
    return LabelMap(labels, volume.affine)


def written(folder: Path, labels: LabelMap, series: Series, form: SegForm) -> Path:
    path = folder / f"{form}.dcm"
    write_dicom_seg(path, labels, series, form=form, model="toy", weights_sha256="ab" * 32)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Series, LabelMap]:
    series = series_of(tmp_path_factory.mktemp("in"), affine_of(PLANES["oblique"]))
    return series, labels_on(series)


@pytest.fixture(scope="module")
def segs(
    made: tuple[Series, LabelMap], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("segs")
    return {form: written(folder, made[1], made[0], form) for form in FORMS}


# --- round trips ------------------------------------------------------------


def assert_comes_back(path: Path, labels: LabelMap) -> None:
    found = read_seg(path)
    found.pop("Background", None)
    assert set(found) == {structure(index).name for index in IDS}
    for index in IDS:
        truth = (labels.data == index, labels.affine)
        assert world_dice(found[structure(index).name], truth) == 1.0


@settings(max_examples=6)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    direction=st.sampled_from([1, -1]),
)
def test_any_plane_and_spacing_comes_back(
    angles: tuple[float, float, float], spacing: tuple[float, float, float], direction: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        affine = affine_of(rotation(*angles) @ np.diag([1, 1, direction]), spacing)
        series = series_of(folder / "in", affine)
        labels = labels_on(series)
        found = read_seg(written(folder, labels, series, "labelmap"))
        for index in IDS:
            here = world_points(*found[structure(index).name])
            truth = world_points(labels.data == index, labels.affine)
            # a hundredth of a millimetre may round either way
            gaps = np.array(sorted(here)) - np.array(sorted(truth))
            assert len(here) == len(truth)
            assert np.abs(np.sort(gaps, axis=0)).max() < 12  # sorted ties may swap
            assert np.allclose(np.mean(list(here), 0), np.mean(list(truth), 0), atol=0.01)


def highdicom_volumes(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Voxels and affine to RAS mm of each structure, as highdicom's own reader has them."""
    seg = highdicom.seg.segread(path)
    found = {}
    for number in seg.get_segment_numbers():
        volume = seg.get_volume(segment_numbers=[number], combine_segments=True)
        label = seg.get_segment_description(number).segment_label
        found[label] = (volume.array != 0, LPS @ volume.affine)
    return found


@pytest.mark.parametrize(("plane", "direction", "multi_frame", "form"), CASES)
def test_every_voxel_comes_back_where_it_was_and_where_the_nifti_has_it(
    tmp_path: Path, plane: str, direction: int, multi_frame: bool, form: SegForm
) -> None:
    affine = affine_of(PLANES[plane] @ np.diag([1, 1, direction]), (0.9, 1.1, 2.5))
    series = series_of(tmp_path / "in", affine, multi_frame=multi_frame)
    labels = labels_on(series)
    write_label_map(tmp_path / "labels.nii.gz", labels, read_series(series))
    image = nib.load(tmp_path / "labels.nii.gz")
    values = np.asarray(image.dataobj)
    path = written(tmp_path, labels, series, form)
    assert_comes_back(path, labels)
    found = highdicom_volumes(path)
    found.pop("Background", None)
    assert set(found) == {structure(index).name for index in IDS}
    for index in IDS:
        assert world_dice(found[structure(index).name], (values == index, image.affine)) == 1.0
    # the reader is no mirror: the same labels in reverse order are somewhere else
    name = structure(17).name
    assert world_dice(found[name], (np.flip(values, 2) == 17, image.affine)) < 0.5


def converter(name: str) -> str:
    found = shutil.which(name) or shutil.which(str(Path(sys.executable).with_name(name)))
    if found is None:
        pytest.skip(f"{name} is not installed (pip install dcmqi)")
    return found


@pytest.mark.parametrize(("direction", "multi_frame"), [(1, True), (-1, False)])
def test_dcmqi_reads_the_same_voxels(tmp_path: Path, direction: int, multi_frame: bool) -> None:
    program = converter("segimage2itkimage")
    affine = affine_of(PLANES["oblique"] @ np.diag([1, 1, direction]))
    series = series_of(tmp_path / "in", affine, multi_frame=multi_frame)
    labels = labels_on(series)
    path = written(tmp_path, labels, series, "binary")
    words = (program, "--inputDICOM", path, "--outputDirectory", tmp_path, "-t", "nii", "-p", "s")
    told = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    described = json.loads((tmp_path / "s-meta.json").read_text())
    numbers = [group[0]["labelID"] for group in described["segmentAttributes"]]
    names = [group[0]["SegmentLabel"] for group in described["segmentAttributes"]]
    assert sorted(names) == sorted(structure(index).name for index in IDS)
    for number, name in zip(numbers, names, strict=True):
        image = nib.load(tmp_path / f"s-{number}.nii.gz")
        (index,) = [one for one in IDS if structure(one).name == name]
        truth = (labels.data == index, labels.affine)
        assert world_dice((np.asarray(image.dataobj) != 0, image.affine), truth) == 1.0


# --- what the object says ---------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_it_refers_to_every_source_image(
    made: tuple[Series, LabelMap], segs: dict[str, Path], form: SegForm
) -> None:
    series, seg = made[0], pydicom.dcmread(segs[form])
    sources = {pydicom.dcmread(path).SOPInstanceUID: path for path in series.paths}
    named = {item.ReferencedSOPInstanceUID for item in seg.SourceImageSequence}
    (whole,) = seg.ReferencedSeriesSequence
    assert whole.SeriesInstanceUID == series.uid
    listed = {item.ReferencedSOPInstanceUID for item in whole.ReferencedInstanceSequence}
    assert named == listed == set(sources)
    assert (seg.StudyInstanceUID, seg.FrameOfReferenceUID) == (STUDY, FRAME_OF_REFERENCE)
    assert seg.SeriesInstanceUID != series.uid
    for group in seg.PerFrameFunctionalGroupsSequence:
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        source = pydicom.dcmread(sources[item.ReferencedSOPInstanceUID])
        assert item.ReferencedSOPClassUID == source.SOPClassUID
        # the very slice that the frame lies on
        own = group.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(own, source.ImagePositionPatient, atol=1e-6)


def test_it_refers_to_frames_of_an_enhanced_source(tmp_path: Path) -> None:
    series = series_of(tmp_path / "in", affine_of(np.eye(3)), multi_frame=True)
    seg = pydicom.dcmread(written(tmp_path, labels_on(series), series, "binary"))
    source = pydicom.dcmread(series.paths[0])
    (named,) = seg.SourceImageSequence
    assert named.ReferencedSOPInstanceUID == source.SOPInstanceUID
    for group in seg.PerFrameFunctionalGroupsSequence:
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        there = source.PerFrameFunctionalGroupsSequence[item.ReferencedFrameNumber - 1]
        assert (
            there.PlanePositionSequence[0].ImagePositionPatient
            == group.PlanePositionSequence[0].ImagePositionPatient
        )


def test_segments_are_coded_coloured_and_tracked(segs: dict[str, Path]) -> None:
    seg = pydicom.dcmread(segs["binary"])
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2, 3, 4]
    hippocampus = seg.SegmentSequence[1]
    assert hippocampus.SegmentLabel == "Left-Hippocampus"
    assert hippocampus.SegmentDescription == "FreeSurfer 17"
    (kind,) = hippocampus.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("5366008", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    (algorithm,) = hippocampus.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("ddmseg", __version__)
    assert algorithm.AlgorithmParameters == "model=toy"
    head = seg.SegmentSequence[3]
    (own,) = head.SegmentedPropertyTypeCodeSequence
    assert (own.CodeValue, own.CodingSchemeDesignator) == ("FS232", "99DDMSEG")
    assert head.AnatomicRegionSequence[0].CodeValue == "5366008"
    # FreeSurfer's hippocampus (220, 216, 20) in CIELab: L 84.5, a -14.1, b 81.7
    lightness, a, b = hippocampus.RecommendedDisplayCIELabValue
    assert lightness / 65535 * 100 == pytest.approx(84.5, abs=1.0)
    assert a / 257 - 128 == pytest.approx(-14.1, abs=4)
    assert b / 257 - 128 == pytest.approx(81.7, abs=4)
    tracked = {item.TrackingUID for item in seg.SegmentSequence}
    assert len(tracked) == 4
    again = pydicom.dcmread(segs["labelmap"])
    assert {item.TrackingUID for item in again.SegmentSequence[1:]} == tracked
    assert again.SOPInstanceUID != seg.SOPInstanceUID
    assert [item.SegmentNumber for item in again.SegmentSequence] == [0, 4, 17, 53, 232]


@pytest.mark.parametrize("form", FORMS)
def test_it_says_that_it_is_for_research(segs: dict[str, Path], form: SegForm) -> None:
    seg = pydicom.dcmread(segs[form])
    assert "research use, not for diagnosis" in seg.SeriesDescription
    assert "research use, not for diagnosis" in seg.ContentDescription
    assert seg.ContentQualification == "RESEARCH"
    assert seg.SeriesNumber == 10_004
    assert seg.SegmentsOverlap == "NO"
    assert (seg.Manufacturer, seg.SoftwareVersions) == ("ddmseg", __version__)


def test_the_patient_goes_from_file_to_file_and_into_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    datasets = slice_datasets(tmp_path / "in", scan(SHAPE), affine_of(np.eye(3)))
    for dataset in datasets:  # a name and a sex that break the standard, as they occur
        dataset.PatientName, dataset.PatientID = "Jane Doe Smith", "SECRET-7"
        dataset.AccessionNumber, dataset.SpecificCharacterSet = "A1", "ISO_IR 192"
        dataset["PatientSex"] = DataElement("PatientSex", "CS", "w", validation_mode=IGNORE)
    save(datasets)
    caplog.clear()
    (series,) = list_series(tmp_path / "in")
    seg = pydicom.dcmread(written(tmp_path, labels_on(series), series, "binary"))
    assert (str(seg.PatientName), seg.PatientID) == ("Jane Doe Smith", "SECRET-7")
    assert (seg.AccessionNumber, seg.SpecificCharacterSet) == ("A1", "ISO_IR 192")
    assert "Jane" not in caplog.text
    assert "SECRET" not in caplog.text


def test_a_lossy_source_is_told(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path / "in", scan(SHAPE), affine_of(np.eye(3)))
    for dataset in datasets:
        dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", "12.5"
    save(datasets)
    (series,) = list_series(tmp_path / "in")
    seg = pydicom.dcmread(written(tmp_path, labels_on(series), series, "labelmap"))
    assert (seg.LossyImageCompression, seg.LossyImageCompressionRatio) == ("01", 12.5)


@pytest.mark.parametrize("form", FORMS)
def test_the_standard_is_kept(segs: dict[str, Path], form: SegForm) -> None:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    told = subprocess.run([program, segs[form]], capture_output=True, text=True, timeout=60).stderr
    errors = [line for line in told.splitlines() if line.startswith("Error")]
    if form == "labelmap" and "Information Object Not found" in told:
        pytest.skip("this dciodvfy is older than label map segmentations")
    assert errors == []


# --- refusals ---------------------------------------------------------------


def refused(folder: Path, labels: LabelMap, series: Series) -> str:
    with pytest.raises(ScanError) as caught:
        written(folder, labels, series, "binary")
    assert not list(folder.glob("*.dcm"))
    return str(caught.value)


def test_labels_of_another_grid_are_refused(tmp_path: Path, made: tuple[Series, LabelMap]) -> None:
    series, labels = made
    moved = labels.affine.copy()
    moved[0, 3] += 1
    told = refused(tmp_path, LabelMap(labels.data, moved), series)
    assert told == (
        "series-004_t1_mprage_sag: the labels are not on its grid of 9 x 7 x 6 voxels; give the "
        "labels that were made from this series"
    )


def test_an_empty_label_map_is_refused(tmp_path: Path, made: tuple[Series, LabelMap]) -> None:
    series, labels = made
    told = refused(tmp_path, LabelMap(np.zeros_like(labels.data), labels.affine), series)
    assert "no structure in the labels; a DICOM SEG needs one" in told


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("FrameOfReferenceUID", "", "its files name no common Frame of Reference UID"),
        ("SOPInstanceUID", "1.2.3", "several of its files share one UID"),
        ("StudyInstanceUID", "", "UIDs are missing from its files"),
    ],
)
def test_a_source_without_uids_is_refused(
    tmp_path: Path, keyword: str, value: str, reason: str
) -> None:
    datasets = slice_datasets(tmp_path / "in", scan(SHAPE), affine_of(np.eye(3)))
    for dataset in datasets:
        setattr(dataset, keyword, value)
    save(datasets)
    (series,) = list_series(tmp_path / "in")
    told = refused(tmp_path, labels_on(series), series)
    assert reason in told
    assert told.endswith("give the scanner's own series, or pass --dicom-seg none")


def test_a_place_that_cannot_be_written_is_told(
    tmp_path: Path, made: tuple[Series, LabelMap]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of this path is a file"):
        write_dicom_seg(tmp_path / "file" / "x.dcm", made[1], made[0])


def test_the_missing_package_is_named(
    tmp_path: Path, made: tuple[Series, LabelMap], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingExtraError, match=r"'highdicom' of the extra 'dicom'"):
        write_dicom_seg(tmp_path / "x.dcm", made[1], made[0])
