"""Every file that has a place for it says that it is for research; beside a table stands one."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from ddmseg.imaging.dicom.series import list_series, read_series
from ddmseg.imaging.volume import LabelMap
from ddmseg.inference.options import SegmentOptions
from ddmseg.messages import NOTICE
from ddmseg.outputs import dicom_report
from ddmseg.outputs import write as outputs
from ddmseg.outputs.dicom import DicomTarget
from ddmseg.outputs.write import write_outputs
from dicom_files import save, slice_datasets


@pytest.fixture
def written(tmp_path: Path, make_segmentation, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that a run can write, of a made-up result on a made-up series."""
    monkeypatch.setattr(dicom_report, "PANEL", 120)
    monkeypatch.setattr("ddmseg.quality.segmentation.WHOLE_BRAIN", 1)
    made = make_segmentation(probabilities=True)
    data = np.clip(made.scan.data, 0, None).astype(np.uint16)
    save(slice_datasets(tmp_path / "in", data, made.scan.affine))
    (series,) = list_series(tmp_path / "in")
    scan = read_series(series)
    frames = np.stack([made.labels.data] * 2, axis=-1)
    result = dataclasses.replace(
        made,
        scan=scan,
        labels=LabelMap(made.labels.data, scan.affine),
        sample_labels=frames,
        step_labels=frames,
        receipt={**made.receipt, "notice": NOTICE},
    )
    target = DicomTarget(series)
    return write_outputs(
        result,
        tmp_path / "out",
        stem="scan",
        options=SegmentOptions(probabilities=True, brain=True, mgz=True),
        dicom=target,
        source="bids:raw:scan.nii.gz",
    )


def told(path: Path) -> str:
    """What a file says of its use, in the place that its format has for it."""
    if path.name.endswith(".nii.gz"):
        return nib.load(path).header["descrip"].item().decode()
    if path.suffix == ".mgz":
        return gzip.decompress(path.read_bytes())[-200:].decode("latin-1")
    if path.suffix == ".dcm":
        dataset = pydicom.dcmread(path)
        return f"{dataset.SeriesDescription} {dataset.get('ImageComments', '')}"
    text = path.read_text(encoding="utf-8")
    return json.loads(text)["notice"] if path.suffix == ".json" else text


def test_every_file_says_it_and_for_a_table_the_one_beside_it(written: list[Path]) -> None:
    assert {p.name.removeprefix("scan") for p in written} == set(outputs.SUFFIXES)
    for path in written:
        # a line of words is no table: see docs/outputs.md
        beside = path.with_suffix(".json") if path.suffix == ".tsv" else path
        assert beside in written
        text = told(beside).casefold()
        assert "research use" in text, path.name
        assert "not for diagnosis" in text, path.name


def test_there_is_one_sentence() -> None:
    assert NOTICE.isascii()  # NIfTI knows nothing else
