"""Volumes as a Structured Report: read back by highdicom, pydicom, dcmtk and dcmqi."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from highdicom.sr import Comprehensive3DSR

from ddmseg.errors import OutputError, ScanError
from ddmseg.imaging.dicom.seg import PRIVATE_SCHEME, SegForm, tracking_uid, write_dicom_seg
from ddmseg.imaging.dicom.series import Series, list_series, read_series
from ddmseg.imaging.volume import LabelMap
from ddmseg.outputs.dicom import DicomTarget, dicom_writers
from ddmseg.outputs.dicom_measurements import ABOVE, BELOW, TOTALS, VOLUME
from ddmseg.outputs.dicom_volumes import write_dicom_volumes
from ddmseg.outputs.names import DICOM_SEG, DICOM_VOLUMES
from ddmseg.outputs.tables import write_volume_table
from ddmseg.quality.quantities import totals
from ddmseg.quality.segmentation import Quality, Segmentation, StructureVolume
from dicom_files import PATIENT, save, slice_datasets
from dicom_network import program

ABSENT = StructureVolume(17, "Left-Hippocampus", 0.0, 0.0, 0.31)
"""A structure that the model knows and did not find."""
TOTAL_ROWS = [
    StructureVolume(0, "Cerebral-White-Matter", 700.12344, 650.0, 801.99999),
    StructureVolume(0, "Brain", 1299.0368, 1100.4951, 1443.8405),
    StructureVolume(0, "Intracranial-Volume", 1654.1439, 1700.0, 1771.0939),
]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory, make_segmentation) -> Series:
    folder, scan = tmp_path_factory.mktemp("in"), make_segmentation().scan
    datasets = slice_datasets(folder, np.clip(scan.data, 0, None).astype(np.uint16), scan.affine)
    for dataset in datasets:
        dataset.PatientID, dataset.PatientBirthDate = "SECRET-7", "19500101"
        dataset.LossyImageCompression = "00"
    save(datasets)
    (series,) = list_series(folder)
    return series


@pytest.fixture(scope="module")
def result(series: Series, make_segmentation) -> Segmentation:
    """A made-up result with a structure that is absent, and with totals."""
    quality = Quality("warn", 0.83, {}, ["the left side is large"], 0, 0)
    made = make_segmentation(quality=quality)
    scan = read_series(series)
    return dataclasses.replace(
        made,
        scan=scan,
        labels=LabelMap(made.labels.data, scan.affine),
        volumes=[*made.volumes, ABSENT],
        totals=TOTAL_ROWS,
        not_measured={"Ventricles": "part of the brain lies outside the image"},
        receipt={"model": {"name": "anatomy", "weights_sha256": "ab" * 32}},
    )


def write(
    result: Segmentation, series: Series, folder: Path, form: SegForm = "binary"
) -> tuple[Path, Path]:
    """Write both files as a run does, and return their places."""
    folder.mkdir(exist_ok=True)
    writers = dicom_writers(result, DicomTarget(series, form))
    places = folder / f"scan{DICOM_SEG}", folder / f"scan{DICOM_VOLUMES}"
    for suffix, place in zip((DICOM_SEG, DICOM_VOLUMES), places, strict=True):
        writers[suffix](result, place)
    return places


@pytest.fixture(scope="module")
def written(
    result: Segmentation, series: Series, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Labels and volumes, written once."""
    return write(result, series, tmp_path_factory.mktemp("out"))


def read(path: Path) -> Comprehensive3DSR:
    found = hd.sr.srread(path)
    assert isinstance(found, Comprehensive3DSR)
    return found


def numbers(group) -> tuple[float, float | None, float | None]:
    """Volume and both ends of its interval, as a reader of the report finds them."""
    (measurement,) = group.get_measurements()
    assert (measurement.name.value, measurement.unit.value) == (VOLUME.value, "cm3")
    beyond = {
        str(item.ConceptNameCodeSequence[0].CodeValue): item
        for item in measurement[0].get("ContentSequence", [])
    }
    ends = [beyond.get(code.value) for code in (BELOW, ABOVE)]
    if ends == [None, None]:
        return measurement.value, None, None
    assert {end.unit.value for end in ends} == {"cm3"}
    below, above = (end.value for end in ends)
    return measurement.value, measurement.value - below, measurement.value + above


@pytest.mark.parametrize("form", ["binary", "labelmap"])
def test_each_segment_has_its_volume(
    result: Segmentation, series: Series, tmp_path: Path, form: SegForm
) -> None:
    labels, path = write(result, series, tmp_path / "out", form)
    seg = hd.seg.segread(labels)
    groups = read(path).content.get_volumetric_roi_measurement_groups()
    rows = {tracking_uid(series, row.index): row for row in result.volumes}
    assert len(groups) == 3
    for group in groups:
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert reference.referenced_sop_class_uid == seg.SOPClassUID
        (number,) = reference.referenced_segment_numbers
        segment = seg.get_segment_description(number)
        assert (segment.tracking_uid, segment.tracking_id) == (
            group.tracking_uid,
            group.tracking_identifier,
        )
        assert segment.segmented_property_type == group.finding_type
        assert segment.segmented_property_category == group.finding_category
        row = rows[group.tracking_uid]
        assert group.tracking_identifier == f"FreeSurfer {row.index} {row.name}"
        expected = (row.volume_ml, row.interval_low_ml, row.interval_high_ml)
        assert numbers(group) == pytest.approx(expected, abs=1e-4)
        assert numbers(group)[0] == round(row.volume_ml, 4)
        assert reference.source_series_for_segmentation.value == series.uid


def test_sides_are_where_the_structure_lies(written: tuple[Path, Path]) -> None:
    _, path = written
    content = read(path).content
    sites = {
        group.tracking_identifier: [(s.value.meaning, s.laterality) for s in group.finding_sites]
        for group in (
            *content.get_volumetric_roi_measurement_groups(),
            *content.get_image_measurement_groups(),
        )
    }
    sides = {name: side and side.meaning for name, ((_, side),) in sites.items()}
    assert sides == {
        "FreeSurfer 2 Left-Cerebral-White-Matter": "Left",
        "FreeSurfer 41 Right-Cerebral-White-Matter": "Right",
        "FreeSurfer 53 Right-Hippocampus": "Right",
        "FreeSurfer 17 Left-Hippocampus": "Left",
        "Cerebral-White-Matter": "Bilateral",
        "Brain": None,
        "Intracranial-Volume": None,
    }
    assert sites["FreeSurfer 17 Left-Hippocampus"][0][0] == "Hippocampus"


def test_what_has_no_segment_is_a_group_without_reference(written: tuple[Path, Path]) -> None:
    _, path = written
    groups = read(path).content.get_image_measurement_groups()
    absent, pair, brain, head = groups
    assert numbers(absent) == (0.0, 0.0, 0.31)
    assert numbers(pair) == pytest.approx((700.1234, 650.0, 802.0), abs=1e-9)
    assert numbers(brain) == pytest.approx((1299.0368, 1100.4951, 1443.8405), abs=1e-9)
    assert brain.finding_type.value == "12738006"
    # the interval does not hold the volume, and a range has no sign
    assert numbers(head) == (1654.1439, None, None)


def test_the_numbers_are_those_of_the_table(
    written: tuple[Path, Path], result: Segmentation, tmp_path: Path
) -> None:
    _, path = written
    content = read(path).content
    found = {
        group.tracking_identifier.rpartition(" ")[2]: numbers(group)[0]
        for group in (
            *content.get_volumetric_roi_measurement_groups(),
            *content.get_image_measurement_groups(),
        )
    }
    write_volume_table(result, tmp_path / "table.tsv")
    lines = (line.split("\t") for line in (tmp_path / "table.tsv").read_text().splitlines()[1:])
    assert found == {name: float(volume) for _, name, volume, *_ in lines}


def test_the_same_twice_is_the_same_bytes(
    written: tuple[Path, Path], result: Segmentation, series: Series, tmp_path: Path
) -> None:
    labels, path = written
    again = tmp_path / "again.dcm"
    write_dicom_volumes(
        again, result, series, labels=labels, model="anatomy", weights_sha256="ab" * 32
    )
    assert again.read_bytes() == path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_document_is_of_the_study_and_unverified(
    written: tuple[Path, Path],
    result: Segmentation,
    series: Series,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    labels, path = written[0], tmp_path / "x.dcm"
    write_dicom_volumes(path, result, series, labels=labels)
    assert PATIENT not in caplog.text
    assert "SECRET-7" not in caplog.text
    sr, seg = pydicom.dcmread(path), pydicom.dcmread(labels, stop_before_pixels=True)
    source = pydicom.dcmread(series.paths[0])
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID"):
        assert sr[keyword] == source[keyword]
    assert "LossyImageCompression" not in sr
    assert (sr.ContentDate, sr.ContentTime) == (seg.ContentDate, seg.ContentTime)
    assert (sr.Modality, sr.SeriesNumber) == ("SR", 40_004)
    assert sr.SeriesDescription == "ddmseg volumes, research use, not for diagnosis"
    assert (sr.VerificationFlag, sr.CompletionFlag) == ("UNVERIFIED", "COMPLETE")
    assert sr.PreliminaryFlag == "PRELIMINARY"
    assert sr.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == PRIVATE_SCHEME
    assert len({sr.SOPInstanceUID, seg.SOPInstanceUID, source.SOPInstanceUID}) == 3
    (study,) = sr.CurrentRequestedProcedureEvidenceSequence
    evidence = {
        str(one.ReferencedSOPInstanceUID)
        for of_series in study.ReferencedSeriesSequence
        for one in of_series.ReferencedSOPSequence
    }
    assert evidence == {seg.SOPInstanceUID, *(header.image_uid for header in series.headers)}


def test_observer_procedure_and_language(written: tuple[Path, Path]) -> None:
    _, path = written
    sr = read(path)
    (group, *_) = sr.content.get_volumetric_roi_measurement_groups()
    told = {
        item.name.meaning: item.value if not hasattr(item.value, "meaning") else item.value.meaning
        for item in (*sr.content[0].ContentSequence, *group[0].ContentSequence)
        if item.value_type.value in ("TEXT", "CODE")
    }
    expected = {
        "Language of Content Item and Descendants": "English",
        "Procedure reported": "Brain MRI",
        "Observer Type": "Device",
        "Device Observer Name": "ddmseg",
        "Device Observer Model Name": "ddmseg anatomy",
        "Device Observer Serial Number": "ab" * 32,
        "Algorithm Name": "ddmseg",
        "Algorithm Parameters": "model anatomy",
        "Algorithm Family": "Artificial Intelligence",
    }
    assert {name: told[name] for name in expected} == expected


def test_notice_and_verdict_are_in_the_content(written: tuple[Path, Path]) -> None:
    _, path = written
    last = pydicom.dcmread(path).ContentSequence[-1]
    assert [item.TextValue for item in last.ContentSequence] == [
        "Research use, not for diagnosis.",
        "Verdict: warn; expected Dice 0.83",
        "the left side is large",
        "The ranges of uncertainty end an interval meant to hold the true volume in 95% of scans",
        "Ventricles was not measured: part of the brain lies outside the image",
    ]


def test_every_total_of_a_whole_brain_has_a_code() -> None:
    from ddmseg.imaging.labels import protocol_rows

    known = [int(row["index"]) for row in protocol_rows("dicom_codes")]
    assert {row.name for row in totals(known)} == set(TOTALS)


def test_an_unknown_pair_gets_a_code_of_ours(
    result: Segmentation, series: Series, tmp_path: Path
) -> None:
    left = StructureVolume(40021, "Left-Superior-Frontal-Gyrus", 0.0, 0.0, 0.0)
    both = StructureVolume(0, "Superior-Frontal-Gyrus", 0.0, 0.0, math.inf)
    odd = dataclasses.replace(result, volumes=[*result.volumes, left], totals=[both])
    _, path = write(odd, series, tmp_path / "out")
    found = read(path).content.get_image_measurement_groups()[-1]
    assert (found.finding_type.value, found.finding_type.meaning) == (
        "BOWN40021",
        "Superior-Frontal-Gyrus",
    )
    assert numbers(found) == (0.0, None, None)


# --- other readers ----------------------------------------------------------


def test_dcmtk_reads_it_without_a_word(written: tuple[Path, Path]) -> None:
    _, path = written
    done = subprocess.run(
        [program("dsrdump"), "+Pl", path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Comprehensive 3D SR Document")
    assert 'NUM:(,,"Volume")="1299.0368" (cm3,UCUM,"cubic centimeter")' in done.stdout
    assert "Research use, not for diagnosis." in done.stdout


def test_dcmtk_reads_references_to_a_label_map_as_well(
    result: Segmentation, series: Series, tmp_path: Path
) -> None:
    _, path = write(result, series, tmp_path / "out", "labelmap")
    # -Ee: its releases before label maps doubt the class that the references name
    words = [program("dsrdump"), "+Pl", "-Ee", path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.count('NUM:(,,"Volume")') == 7
    assert {line[:2] for line in done.stderr.splitlines()} <= {"W:"}


def test_dcmqi_reads_the_same_volumes(
    written: tuple[Path, Path], result: Segmentation, tmp_path: Path
) -> None:
    pytest.importorskip("dcmqi", reason="dcmqi is not installed")
    _, path = written
    target = tmp_path / "out.json"
    program = Path(sys.executable).with_name("tid1500reader")
    words = (program, "--inputDICOM", path, "--outputMetadata", target)
    subprocess.run(words, capture_output=True, timeout=60, check=True)
    found = json.loads(target.read_text())["Measurements"]
    volumes = [one["measurementItems"][0]["value"] for one in found if "ReferencedSegment" in one]
    assert [float(one) for one in volumes] == [round(row.volume_ml, 4) for row in result.volumes][
        :3
    ]


# --- refusals ---------------------------------------------------------------


def test_without_labels_there_are_no_volumes(
    result: Segmentation, series: Series, tmp_path: Path
) -> None:
    assert DICOM_VOLUMES not in dicom_writers(result, DicomTarget(series, "none"))
    nothing = LabelMap(np.zeros_like(result.labels.data), result.labels.affine)
    empty = dataclasses.replace(result, labels=nothing)
    assert DICOM_VOLUMES not in dicom_writers(empty, DicomTarget(series))


def test_labels_that_are_none_are_refused(
    result: Segmentation, series: Series, tmp_path: Path
) -> None:
    target = tmp_path / "x.dcm"
    with pytest.raises(ScanError, match="cannot be read"):
        write_dicom_volumes(target, result, series, labels=tmp_path / "gone.dcm")
    with pytest.raises(ScanError, match=r"no DICOM SEG of ddmseg; segment the scan again"):
        write_dicom_volumes(target, result, series, labels=Path(series.paths[0]))
    assert not target.exists()


def test_a_series_without_uids_is_refused(
    result: Segmentation, series: Series, tmp_path: Path
) -> None:
    headers = tuple(dataclasses.replace(header, study_uid="") for header in series.headers)
    odd = dataclasses.replace(series, headers=headers)
    write_dicom_seg(tmp_path / "seg.dcm", result.labels, series)
    with pytest.raises(ScanError, match="UIDs are missing from its files"):
        write_dicom_volumes(tmp_path / "x.dcm", result, odd, labels=tmp_path / "seg.dcm")


def test_a_place_that_cannot_be_written(
    written: tuple[Path, Path], result: Segmentation, series: Series, tmp_path: Path
) -> None:
    labels, _ = written
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        write_dicom_volumes(tmp_path / "file" / "x.dcm", result, series, labels=labels)
