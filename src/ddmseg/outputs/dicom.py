"""The DICOM files of a scan that came as DICOM: labels, their volumes, a page to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ddmseg.errors import optional
from ddmseg.imaging.dicom.capture import write_capture
from ddmseg.imaging.dicom.reference import check_reference
from ddmseg.imaging.dicom.seg import write_dicom_seg
from ddmseg.imaging.dicom.series import Series
from ddmseg.messages import NOTICE
from ddmseg.outputs.dicom_report import report_picture
from ddmseg.outputs.dicom_volumes import write_dicom_volumes
from ddmseg.outputs.names import DICOM_REPORT, DICOM_SEG, DICOM_VOLUMES
from ddmseg.quality.segmentation import Segmentation

DicomSegForm = Literal["binary", "labelmap", "none"]

Writer = Callable[[Segmentation, Path], None]


@dataclass(frozen=True)
class DicomTarget:
    """What DICOM results are to refer to, and how labels are stored.

    ``binary`` is read by every viewer that knows segmentations, ``labelmap`` by new
    ones alone; ``none`` leaves the labels and their volumes out and writes the page alone.
    """

    series: Series
    form: DicomSegForm = "binary"

    def check(self) -> None:
        """Find out before the work whether its result can be stored, highdicom included."""
        optional("highdicom", "dicom")
        check_reference(self.series, placed=self.form != "none")


def dicom_writers(segmentation: Segmentation, target: DicomTarget) -> dict[str, Writer]:
    """Return what writes each file, by suffix; no labels where no structure was found.

    The volumes refer to the labels, so these are written before them, to the same folder.
    """
    told = segmentation.receipt.get("model")
    model = told if isinstance(told, dict) else {"name": told or "unnamed"}
    name, form, series = str(model["name"]), target.form, target.series
    made = {"model": name, "weights_sha256": str(model.get("weights_sha256", "unknown"))}

    def write_labels(one: Segmentation, path: Path) -> None:
        assert form != "none"
        write_dicom_seg(path, one.labels, series, form=form, **made)

    def write_volumes(one: Segmentation, path: Path) -> None:
        labels = path.with_name(f"{path.name.removesuffix(DICOM_VOLUMES)}{DICOM_SEG}")
        write_dicom_volumes(path, one, series, labels=labels, **made)

    def write_page(one: Segmentation, path: Path) -> None:
        write_capture(path, report_picture(one), series, comments=_comments(one), model=name)

    writers: dict[str, Writer] = {DICOM_REPORT: write_page}
    if form != "none" and bool((segmentation.labels.data != 0).any()):
        writers |= {DICOM_SEG: write_labels, DICOM_VOLUMES: write_volumes}
    return writers


def _comments(segmentation: Segmentation) -> str:
    """The page in words, for viewers that list elements: at most 10 240 characters."""
    quality = segmentation.quality
    lines = [
        f"{NOTICE}; verdict: {quality.verdict}; expected Dice {quality.expected_dice:.2f}",
        *quality.reasons,
    ]
    for row in segmentation.volumes:
        interval = f"{row.interval_low_ml:.2f} to {row.interval_high_ml:.2f}"
        lines.append(f"{row.name}: {row.volume_ml:.2f} ml ({interval})")
    # the source's character set may know ASCII alone
    return "\r\n".join(lines).encode("ascii", "replace").decode("ascii")[:10_240]
