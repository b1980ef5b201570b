"""Labels that a person has corrected, as a DICOM SEG of their own beside the first one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ddmseg.atomic import atomic_write
from ddmseg.errors import ScanError, optional
from ddmseg.imaging.dicom.file import quiet, read_dataset
from ddmseg.imaging.dicom.seg import SegForm, write_dicom_seg
from ddmseg.imaging.dicom.series import Series, list_series
from ddmseg.imaging.nifti import read_label_map
from ddmseg.models.json_reader import read_json
from ddmseg.node.spool import check_uid
from ddmseg.outputs.names import DICOM_REPORT, DICOM_SEG, DICOM_VOLUMES, RECEIPT
from ddmseg.review.results import CORRECTED

CORRECTED_SEG = "_desc-corrected_dseg.dcm"
SERIES_NUMBER_STEP = 20_000
"""Added to the number of the first labels, which lie 10 000 above the scan; the
report and the volumes have 20 000 and 40 000."""
SERIES_DESCRIPTION = "ddmseg labels, corrected, research use, not for diagnosis"


def files_to_send(result: Path, source: Path | None, *, form: SegForm = "binary") -> list[Path]:
    """Return the DICOM files of a result (folder and stem): the corrected labels if there are any.

    The DICOM SEG of a correction is made once; asked again for the same correction, the
    same file is sent, with the same UIDs. ``source`` holds the scan: the spool of a node, or any
    DICOM folder or zip archive.

    Raises:
        ScanError: when there is nothing to send, or the scan is not found.
        OutputError: when the new file cannot be written.
    """
    correction, target = _beside(result, CORRECTED), _beside(result, CORRECTED_SEG)
    if not correction.is_file():
        files = [_beside(result, suffix) for suffix in (DICOM_SEG, DICOM_VOLUMES, DICOM_REPORT)]
        there = [path for path in files if path.is_file()]
        if not there:
            raise ScanError(
                f"{result}: no DICOM result of that name; give folder and stem, such as "
                "OUT/job-000001/series-004"
            )
        return there
    if not (target.is_file() and target.stat().st_mtime_ns >= correction.stat().st_mtime_ns):
        if source is None:
            raise ScanError(
                f"{result}: a correction, and no scan to refer to; name the spool or the DICOM "
                "folder that holds it with --source"
            )
        series, labels = _source_series(result, source), read_label_map(correction)
        with atomic_write(target, private=True) as partial:
            write_dicom_seg(partial, labels, series, form=form, **_model(result))
            _mark_corrected(partial)
    return [target]


def _beside(result: Path, suffix: str) -> Path:
    return result.with_name(f"{result.name}{suffix}")


def _source_series(result: Path, source: Path) -> Series:
    """The series that the first labels refer to."""
    uid = _series_uid(_beside(result, DICOM_SEG))
    # the images of one series lie in one folder of a spool, whose name is its UID
    folders = sorted(source.glob(f"jobs/*/images/*/{uid}")) if source.is_dir() else []
    # of several jobs with slices of one series the last has them all
    for series in list_series(folders[-1] if folders else source):
        if series.uid == uid:
            return series
    raise ScanError(
        f"{source}: the series of these labels is not here; a node keeps images for a time only "
        "(--keep-days): name the folder that the scan was exported to"
    )


def _series_uid(labels: Path) -> str:
    if not labels.is_file():
        raise ScanError(f"{labels}: missing; it tells which series the labels belong to")
    dataset = read_dataset(labels, ("ReferencedSeriesSequence",))
    try:
        with quiet():
            return check_uid(str(dataset.ReferencedSeriesSequence[0].SeriesInstanceUID))
    except (AttributeError, IndexError) as error:
        raise ScanError(f"{labels}: names no series; segment the scan again") from error


def _model(result: Path) -> dict[str, str]:
    """Name of the model and hash of its weights, as the receipt has them."""
    try:
        model = read_json(_beside(result, RECEIPT))["model"]
        return {"model": str(model["name"]), "weights_sha256": str(model["weights_sha256"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"model": "unnamed", "weights_sha256": "unknown"}


def _mark_corrected(path: Path) -> None:
    """Mark that a person has had a hand in it.

    Source: DICOM PS3.3, C.8.20.4 (Segment Algorithm Type: SEMIAUTOMATIC).
    """
    with quiet():
        dataset: Any = optional("pydicom", "dicom").dcmread(path)
        dataset.SeriesDescription = SERIES_DESCRIPTION
        dataset.SeriesNumber = int(dataset.SeriesNumber) + SERIES_NUMBER_STEP
        for segment in dataset.SegmentSequence:
            segment.SegmentAlgorithmType = "SEMIAUTOMATIC"
        dataset.save_as(path, enforce_file_format=True)
