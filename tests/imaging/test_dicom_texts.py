"""Values as writers store them: numbers in any kind of text, texts with more than letters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.file import quiet
from ddmseg.imaging.dicom.series import Series, list_series, read_series, refusal
from ddmseg.imaging.dicom.series_selection import describe_series
from dicom_files import affine_of, assert_same_world, enhanced_dataset, save, scan, slice_datasets

AFFINE = affine_of(np.eye(3))
TEXTS = (
    *("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT"),
    *("PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT", "UN", "OB"),
)
NUMBERS = (
    *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"),
    *("RescaleSlope", "RescaleIntercept"),
)
WHOLE = ("InstanceNumber", "SeriesNumber", "NumberOfFrames")


def stored(dataset: FileDataset, keyword: str, kind: str, value: bytes | None = None) -> None:
    """Store an element in another kind of text, as it is or with a value of its own."""
    now = dataset[keyword].value if keyword in dataset else ""
    several = now if hasattr(now, "append") else [now]
    raw = "\\".join(map(str, several)).encode() if value is None else value
    raw += b" " * (len(raw) % 2)
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, kind, len(raw), raw, 0, False, True)


def written(folder: Path, change: Callable[[FileDataset], None]) -> Series:
    datasets = slice_datasets(folder, scan(), AFFINE)
    for dataset in datasets:
        change(dataset)
    with quiet():  # pydicom looks at what it stores
        save(datasets)
    (series,) = list_series(folder)
    return series


@pytest.mark.parametrize("kind", TEXTS)
def test_numbers_are_read_from_any_kind_of_text(tmp_path: Path, kind: str) -> None:
    def change(dataset: FileDataset) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = "1.5", "-20"
        dataset.NumberOfFrames = 1
        for keyword in (*NUMBERS, *WHOLE):
            stored(dataset, keyword, kind)

    series = written(tmp_path, change)
    assert series.number == 4
    assert_same_world(read_series(series), scan() * 1.5 - 20, AFFINE)


@pytest.mark.parametrize("kind", ["UT", "LO", "ST"])
def test_so_are_those_of_enhanced_files(tmp_path: Path, kind: str) -> None:
    dataset = enhanced_dataset(tmp_path / "a.dcm", scan(), AFFINE)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    stored(shared.PlaneOrientationSequence[0], "ImageOrientationPatient", kind)
    stored(shared.PixelMeasuresSequence[0], "PixelSpacing", kind)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        stored(group.PlanePositionSequence[0], "ImagePositionPatient", kind)
    save([dataset])
    (series,) = list_series(tmp_path)
    assert_same_world(read_series(series), scan(), AFFINE)


@pytest.mark.parametrize("value", [b"1", b"1\\x", b"1\\1\\1", b"1\\nan", b"1_0\\1", b"\\"])
def test_what_is_no_pair_of_numbers_is_no_spacing(tmp_path: Path, value: bytes) -> None:
    series = written(tmp_path, lambda dataset: stored(dataset, "PixelSpacing", "UT", value))
    assert "3 of 3 images say not where they lie" in str(refusal(series))


@pytest.mark.parametrize("value", [b"x", b"1\\2", b"nan", b"0", b"1e300", b"-inf"])
def test_scaling_that_cannot_be_read_is_refused(tmp_path: Path, value: bytes) -> None:
    series = written(tmp_path, lambda dataset: stored(dataset, "RescaleSlope", "LO", value))
    told = str(refusal(series))
    assert "the scaling of its values (rescale slope or intercept) is damaged" in told
    with pytest.raises(ScanError) as caught:
        read_series(series)
    assert str(caught.value) == told


@pytest.mark.parametrize("value", [b"", b"  ", b"\0\0"])
def test_empty_scaling_counts_as_absent(tmp_path: Path, value: bytes) -> None:
    series = written(tmp_path, lambda dataset: stored(dataset, "RescaleSlope", "LO", value))
    assert_same_world(read_series(series), scan(), AFFINE)


def test_control_characters_of_texts_reach_no_line_or_name(tmp_path: Path) -> None:
    evil = "T1\x1b[2J\x07\r\n=cmd\u202e".encode()

    def change(dataset: FileDataset) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for keyword in ("SeriesDescription", "Manufacturer", "Modality", "ManufacturerModelName"):
            stored(dataset, keyword, "LO", evil)
        for keyword in ("SeriesInstanceUID", "PhotometricInterpretation", "ImageType"):
            stored(dataset, keyword, "LO", evil)

    series = written(tmp_path, change)
    header = series.headers[0]
    kept = (
        series.description,
        series.manufacturer,
        series.modality,
        series.uid,
        *header.image_type,
    )
    told = (series.name, describe_series(series), str(refusal(series)), header.scanner_model)
    assert all(text.isprintable() for text in (*kept, *told))
    assert set(series.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")


def test_control_characters_of_a_transfer_syntax_reach_no_message(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    for path in save(datasets):
        raw = path.read_bytes()
        path.write_bytes(raw.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.\x1b]0;x\x07.1.2.\0"))
    (series,) = list_series(tmp_path)
    assert "which cannot be read; send the series uncompressed" in str(refusal(series))
    assert str(refusal(series)).isprintable()
