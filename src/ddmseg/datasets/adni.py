"""ADNI: older adults, cognitively normal, impaired or with dementia; T1, many visits.

As the Image and Data Archive unpacks:
``ADNI/<subject>/<description>/<date_time>/<series or image id>/`` with ``*.dcm`` of one
series or with one ``.nii`` an image, and the collection's CSV beside. XML files are
left alone: the CSV says the same in one place.

No labels: those of the harmonised hippocampal protocol (HarP) are drawn on copies
that were moved to the AC-PC line, so they lie on other grids than these images.

Source: Alzheimer's Disease Neuroimaging Initiative, adni.loni.usc.edu. Data use
agreement; no redistribution.
"""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ddmseg.datasets.case import Case, data_folder, is_volume_name, require_cases, volume_files
from ddmseg.errors import ScanError
from ddmseg.imaging.volume import Volume

NAME = "adni"
IMAGE_COLUMN = "Image Data ID"
"""Column of the collection's CSV by which it is known."""
_COLUMNS = ("Subject", "Group", "Sex", "Age", "Visit", "Description")
_SUBJECT = re.compile(r"\d{3}_S_\d{4,5}")
_IMAGE_ID = re.compile(r"_(I\d+)(?:\.dcm|\.nii|\.nii\.gz)$")


@dataclass(frozen=True)
class Record:
    """What the collection's table says of an image; empty where it says nothing."""

    subject: str
    diagnosis: str  # the column Group: CN, MCI, AD and finer ones
    sex: str
    age: str
    visit: str
    description: str


def list_cases(root: str | os.PathLike[str] | None = None, *, description: str = "*") -> list[Case]:
    """Return one case an image; the group is the person, over all visits.

    The image of a case is its NIfTI file, or the folder of its DICOM files. The
    identifier is the subject with the image id, which is the key of :func:`read_collection`.
    Folders are kept that match ``description``, such as "MPR*" or "*N3*".

    Raises:
        ScanError: when two images have one id.
    """
    folder = data_folder(NAME, root)
    cases = [
        case
        for subject in (*folder.glob("*/"), *folder.glob("ADNI/*/"))
        if _SUBJECT.fullmatch(subject.name)
        for leaf in sorted(subject.glob("*/*/*/"))
        if fnmatch(leaf.parent.parent.name, description)
        for case in _cases(subject.name, leaf)
    ]
    _check_distinct(cases)
    found = sorted(cases, key=lambda case: case.identifier)
    return require_cases(found, folder, "ADNI/002_S_0295/MP-RAGE/<date>/I13722/*.dcm or *.nii")


def image_id(case: Case) -> str:
    """Return the archive's id of a case's image, such as "I118671"."""
    return case.identifier.removeprefix(f"{case.group}_")


def read_scan(case: Case) -> Volume:
    """Return the scan of a case, from NIfTI or DICOM.

    Raises:
        ScanError: when it cannot be read or the folder holds several series.
    """
    path = case.images[0]
    if path.is_file():
        from ddmseg.imaging.nifti import read_volume

        return read_volume(path)
    from ddmseg.imaging.dicom.series import list_series, read_series

    series = list_series(path)
    if len(series) > 1:
        raise ScanError(f"{path}: {len(series)} DICOM series; leave one in the folder")
    return read_series(series[0])


def read_collection(root: str | os.PathLike[str] | None = None) -> dict[str, Record]:
    """Return ``{image id: record}`` of the collection tables in the folder; others are passed over.

    Raises:
        ScanError: when a table cannot be read.
    """
    folder = data_folder(NAME, root)
    records = {}
    for path in sorted((*folder.glob("*.csv"), *folder.glob("ADNI/*.csv"))):
        try:
            rows = list(csv.DictReader(path.read_text("utf-8-sig").splitlines()))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ScanError(f"{path}: cannot be read as a table ({error})") from error
        if rows and IMAGE_COLUMN in rows[0]:
            # early tables leave out the letter
            for row in rows:
                cells = ((row.get(column) or "").strip() for column in _COLUMNS)
                records[f"I{row[IMAGE_COLUMN].lstrip('I')}"] = Record(*cells)
    return records


def _cases(subject: str, leaf: Path) -> list[Case]:
    found = [(path, path) for path in volume_files(leaf)]
    if not found:
        slices = sorted(path for path in leaf.iterdir() if path.suffix.lower() == ".dcm")
        found = [(path, leaf) for path in slices[:1]]
    return [Case(_identifier(subject, leaf, path), (at,), None, subject) for path, at in found]


def _identifier(subject: str, leaf: Path, file: Path) -> str:
    """Subject and image id: from the file's name, or else from its folder's."""
    match = _IMAGE_ID.search(file.name)
    if match:
        return f"{subject}_{match[1]}"
    if is_volume_name(file) and len(volume_files(leaf)) > 1:
        return f"{subject}_{leaf.name}_{file.name.split('.')[0]}"
    return f"{subject}_{leaf.name}"


def _check_distinct(cases: list[Case]) -> None:
    seen: dict[str, Case] = {}
    for case in cases:
        other = seen.setdefault(case.identifier, case)
        if other is not case:
            raise ScanError(
                f"{case.identifier}: found twice ({other.images[0]}, {case.images[0]}); "
                "leave only one"
            )
