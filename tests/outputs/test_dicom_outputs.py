"""The picture of a result and its DICOM files, from a made-up result."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ddmseg.errors import MissingExtraError, ScanError
from ddmseg.imaging.dicom.series import Series, list_series, read_series
from ddmseg.imaging.volume import LabelMap
from ddmseg.outputs import dicom_report
from ddmseg.outputs.dicom import DicomTarget, dicom_writers
from ddmseg.outputs.dicom_report import MARGIN, SLICES, report_picture
from ddmseg.outputs.names import DICOM_REPORT, DICOM_SEG, existing_outputs
from ddmseg.outputs.report.figures import colour_of
from ddmseg.outputs.write import write_outputs
from ddmseg.quality.segmentation import Quality, Segmentation
from dicom_files import save, slice_datasets

PANEL = 120
"""Pixels of a slice in tests, where they need not be looked at."""


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_report, "PANEL", PANEL)


@pytest.fixture
def series(tmp_path: Path, make_segmentation) -> Series:
    """The made-up scan as a DICOM series."""
    scan = make_segmentation().scan
    data = np.clip(scan.data, 0, None).astype(np.uint16)
    save(slice_datasets(tmp_path / "in", data, scan.affine))
    (series,) = list_series(tmp_path / "in")
    return series


@pytest.fixture
def result(series: Series, make_segmentation) -> Segmentation:
    """A made-up result on the grid of the series."""
    made = make_segmentation()
    scan = read_series(series)
    return dataclasses.replace(made, scan=scan, labels=LabelMap(made.labels.data, scan.affine))


def has_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(picture.astype(int) - colour).max(-1) <= 2).any())


def test_the_picture_holds_slices_legend_and_verdict(make_segmentation) -> None:
    picture = report_picture(make_segmentation())
    assert picture.dtype == np.uint8
    assert picture.shape[0] >= 3 * PANEL
    legend = picture[:, MARGIN + SLICES * (PANEL + 8) :]
    for index in (2, 41, 53):
        assert has_colour(legend, colour_of(index))
    slices = picture[:, : MARGIN + SLICES * (PANEL + 8)]
    assert slices.max() > 200
    # each plane has its row of slices
    for row in range(3):
        top = MARGIN + row * (PANEL + 8)
        band = slices[top + 20 : top + PANEL - 20]
        assert (band.max(axis=(0, 2)) > 60).mean() > 0.4


@pytest.mark.parametrize("verdict", ["pass", "warn", "fail"])
def test_each_verdict_has_its_colour(make_segmentation, verdict: str) -> None:
    colours = {"pass": (72, 187, 120), "warn": (236, 182, 60), "fail": (240, 96, 90)}
    quality = Quality(verdict, float("nan"), {}, ["a reason that is " * 20], 0, 0)
    picture = report_picture(make_segmentation(quality=quality))
    assert has_colour(picture[60:200, MARGIN + SLICES * (PANEL + 8) :], colours[verdict])


def test_nothing_found_is_a_picture_too(make_segmentation) -> None:
    made = make_segmentation()
    empty = dataclasses.replace(
        made, labels=LabelMap(np.zeros_like(made.labels.data), made.labels.affine), volumes=[]
    )
    picture = report_picture(empty)
    assert picture.shape[1:] == report_picture(made).shape[1:]
    assert not has_colour(picture[300:, MARGIN + SLICES * (PANEL + 8) :], colour_of(53))


def test_pillow_is_named_when_it_is_missing(
    make_segmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"'pillow' of the extra 'dicom'"):
        report_picture(make_segmentation())


def test_all_files_are_written_with_the_others(
    result: Segmentation, series: Series, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    written = write_outputs(result, out, stem="scan", dicom=DicomTarget(series))
    names = ("scan_dseg.dcm", "scan_volumes.dcm", "scan_report.dcm")
    assert {out / name for name in names} <= set(written)
    assert existing_outputs(out, "scan") == written
    seg = pydicom.dcmread(out / "scan_dseg.dcm")
    assert [one.SegmentLabel for one in seg.SegmentSequence] == [
        "Left-Cerebral-White-Matter",
        "Right-Cerebral-White-Matter",
        "Right-Hippocampus",
    ]
    page = pydicom.dcmread(out / "scan_report.dcm")
    np.testing.assert_array_equal(page.pixel_array, report_picture(result))
    hippocampus = next(row for row in result.volumes if row.index == 53)
    assert f"Right-Hippocampus: {hippocampus.volume_ml:.2f} ml" in page.ImageComments
    assert seg.ManufacturerModelName == page.ManufacturerModelName == "ddmseg anatomy"


def test_weights_are_named_in_the_labels(
    result: Segmentation, series: Series, tmp_path: Path
) -> None:
    model = {"name": "anatomy", "weights_sha256": "c0ffee"}
    told = dataclasses.replace(result, receipt={"model": model})
    dicom_writers(told, DicomTarget(series, "labelmap"))[DICOM_SEG](told, tmp_path / "a.dcm")
    seg = pydicom.dcmread(tmp_path / "a.dcm")
    assert (seg.DeviceSerialNumber, seg.SegmentationType) == ("c0ffee", "LABELMAP")


def test_without_labels_or_wish_there_is_the_page_alone(
    result: Segmentation, series: Series
) -> None:
    assert set(dicom_writers(result, DicomTarget(series, "none"))) == {DICOM_REPORT}
    empty = dataclasses.replace(
        result, labels=LabelMap(np.zeros_like(result.labels.data), result.labels.affine)
    )
    assert set(dicom_writers(empty, DicomTarget(series))) == {DICOM_REPORT}


def test_a_later_run_without_dicom_takes_the_old_files_away(
    result: Segmentation, series: Series, tmp_path: Path
) -> None:
    write_outputs(result, tmp_path / "out", stem="scan", dicom=DicomTarget(series))
    write_outputs(result, tmp_path / "out", stem="scan", overwrite=True)
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_a_source_that_has_gone_leaves_nothing_behind(
    result: Segmentation, series: Series, tmp_path: Path
) -> None:
    DicomTarget(series).check()
    for path in series.paths:
        Path(path).unlink()
    with pytest.raises(ScanError, match="cannot be read"):
        write_outputs(result, tmp_path / "out", stem="scan", dicom=DicomTarget(series))
    assert not (tmp_path / "out").exists()


def test_the_missing_package_is_told_before_the_work(
    series: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingExtraError, match=r"'highdicom' of the extra 'dicom'"):
        DicomTarget(series).check()
