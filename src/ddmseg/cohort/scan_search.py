"""What one named input holds: a file, a folder of scans or of patients, DICOM examinations."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.cohort.passed_over import is_result, passed_over, says_labels
from ddmseg.cohort.scan import Refused, Scan
from ddmseg.datasets.bids import anat_images
from ddmseg.datasets.case import VOLUME_SUFFIXES, is_volume_name, volume_files, volume_stem
from ddmseg.errors import ScanError
from ddmseg.imaging.source_file import check_source

if TYPE_CHECKING:
    from ddmseg.imaging.dicom.series import Series
    from ddmseg.imaging.dicom.series_selection import Trained

BIDS_CONTRAST = "T1w"

Tell = Callable[[str], None]


def scans_in(
    path: Path, wanted: str | None, model: Trained | None, tell: Tell
) -> Iterator[Scan | Refused]:
    """Yield the scans of one input, and what in it holds none; a DdmsegError where no scan is."""
    from ddmseg.imaging.dicom.series import holds_dicom, is_zip

    check_source(path)
    if path.is_dir():
        yield from _in_folder(path, wanted, model, tell)
    elif is_volume_name(path):
        yield _checked(path)
    elif is_zip(path) or holds_dicom(path):
        yield from _examinations(path, wanted, model, tell)
    else:
        yield Scan(path, volume_stem(path) or "scan")  # reading it will say what is wrong


def as_ours(path: Path, error: Exception) -> Exception:
    """Return an error of the system as one that names the file and what to do."""
    if isinstance(error, OSError):
        return ScanError(f"{path}: cannot be read ({error.strerror or error}); check the path")
    return error


def _in_folder(
    folder: Path, wanted: str | None, model: Trained | None, tell: Tell
) -> Iterator[Scan | Refused]:
    """Yield the scans of a folder, with the folders that each has below it; count the rest."""
    found = list(_leaves(folder, wanted, model, tell, set()))
    in_bids = any(anat_images(folder))  # whose names tell all scans apart
    for one in found:
        if in_bids or isinstance(one, Refused):
            yield one
        else:
            yield replace(one, subfolder=one.below(folder) or "")
    if any(one.path != folder for one in found):  # else the series of one DICOM folder
        for line in passed_over(folder, [one.path for one in found]):
            tell(line)


def _leaves(
    folder: Path, wanted: str | None, model: Trained | None, tell: Tell, seen: set[str]
) -> Iterator[Scan | Refused]:
    """Yield the scans of a folder, or of the patients in it.

    A link may lead back to a folder above it, of which ``seen`` holds the real paths.
    """
    from ddmseg.imaging.dicom.series import holds_dicom

    above = seen | {os.path.realpath(folder)}
    if volumes := _volumes(folder, named=not seen):
        yield from map(_checked, volumes)
    elif patients := _patient_folders(folder, above):
        for patient in patients:
            try:
                yield from _leaves(patient, wanted, model, tell, above)
            except Exception as error:  # one bad patient stops no other
                yield Refused(patient, as_ours(patient, error))
    elif holds_dicom(folder):
        yield from _examinations(folder, wanted, model, tell)
    else:
        if any(folder.glob("sub-*/**/anat")):
            raise ScanError(
                f"{folder}: a BIDS folder without *_{BIDS_CONTRAST}.nii.gz; name the scans "
                "themselves"
            )
        kinds = ", ".join(VOLUME_SUFFIXES)
        raise ScanError(f"{folder}: no scan in this folder; it must hold {kinds} or DICOM files")


def _volumes(folder: Path, *, named: bool) -> list[Path]:
    """Return the scans that lie in a folder, or all T1 scans of a BIDS folder.

    Label maps are no scans where others lie beside them, nor where nobody named the folder.
    """
    bids = [image.path for image in anat_images(folder) if image.suffix == BIDS_CONTRAST]
    files = [file for file in volume_files(folder) if not is_result(file)]
    scans = [file for file in files if not says_labels(file.name)]
    return bids or scans or (files if named else [])


def _patient_folders(folder: Path, above: Collection[str]) -> list[Path]:
    """Return the folders in a folder that each hold scans of their own, in order of name.

    None where the folder itself holds DICOM files, nor where all below it are of one
    examination: its series lie in folders, too.
    """
    from ddmseg.imaging.dicom.file import is_dicom
    from ddmseg.imaging.dicom.series import first_study

    if any(folder.glob("sub-*/**/anat")):
        return []  # of BIDS, and without the contrast that is looked for
    entries = sorted(folder.iterdir())
    inside = [path for path in entries if path.is_dir() and os.path.realpath(path) not in above]
    inside = [path for path in inside if not (path.name.startswith(".") or says_labels(path.name))]
    with_volumes = [path for path in inside if _holds_volume(path)]
    with_dicom = [path for path in inside if path not in with_volumes and _may_hold_dicom(path)]
    if with_volumes:
        return sorted(with_volumes + with_dicom)
    if any(is_dicom(path) for path in entries):
        return []
    if len(with_dicom) == 1:
        return with_dicom if _patient_folders(with_dicom[0], above) else []
    studies = {first_study(path) for path in with_dicom}
    return with_dicom if len(studies) == len(with_dicom) else []


def _may_hold_dicom(folder: Path) -> bool:
    """Say whether a folder holds DICOM, or has to be refused by itself: it stops no other."""
    from ddmseg.imaging.dicom.series import holds_dicom

    try:
        return not os.access(folder, os.R_OK | os.X_OK) or holds_dicom(folder)
    except ScanError:
        return True


def _holds_volume(folder: Path) -> bool:
    """Say whether a folder, or one below it, has a scan that is a file by its name."""
    return any(
        is_volume_name(path) and not (is_result(path) or name.startswith("."))
        for parent, _, names in os.walk(folder)
        for name in names
        if (path := Path(parent) / name)
    )


def _examinations(
    path: Path, wanted: str | None, model: Trained | None, tell: Tell
) -> Iterator[Scan]:
    """Yield one series of each examination: that which was asked for, or fits best."""
    from ddmseg.imaging.dicom.series import check_series, list_series, passed_over_files
    from ddmseg.imaging.dicom.series_selection import ANY_MODEL, choose_series, describe_series

    listed = list_series(path)
    if len(listed) > 1:
        for one in listed:
            tell(describe_series(one))
    studies = {one.study_uid: [s for s in listed if s.study_uid == one.study_uid] for one in listed}
    if wanted is not None or len(studies) == 1:
        studies = {"": listed}
    chosen: dict[str, Series] = {}
    why: list[ScanError] = []
    for uid, series in studies.items():
        try:
            choice = choose_series(series, wanted, model=model or ANY_MODEL)
            check_series(choice.series)
            chosen[uid] = choice.series
            tell(f"chosen: {choice.series.name} ({choice.why})")
        except ScanError as error:
            why.append(error)
    if not chosen:
        raise why[0]
    for reason in why:
        tell(f"an examination passed over: {reason}")
    if more := passed_over_files(path, listed):
        tell(more)
    for uid, one in chosen.items():
        alone = Scan(path, one.name, series=one)
        yield alone if len(studies) == 1 or not uid else _of_examination(path, one, uid)


def _of_examination(path: Path, series: Series, study_uid: str) -> Scan:
    """Return a series of one of several examinations as a scan, by the folder of its files.

    Where these lie side by side in one folder or archive, the name tells them apart.
    """
    folders = {str(file.parent) for file in series.paths if isinstance(file, Path)}
    own = Path(os.path.commonpath(folders)) if folders else path
    if own != path:
        return Scan(own, series.name, series=series)
    number = hashlib.sha256(study_uid.encode()).hexdigest()[:8]
    return Scan(path, f"{series.name}_study-{number}", series=series)


def _checked(file: Path) -> Scan | Refused:
    try:
        check_source(file)
    except ScanError as error:
        return Refused(file, error)
    return Scan(file, volume_stem(file) or "scan")
