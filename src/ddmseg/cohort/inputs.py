"""From what was named on the command line to scans and the places of their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.cohort.passed_over import is_result, passed_over
from ddmseg.datasets.bids import anat_images
from ddmseg.datasets.case import (
    VOLUME_SUFFIXES,
    is_volume_name,
    volume_files,
    volume_stem,
)
from ddmseg.errors import ScanError
from ddmseg.imaging.source_file import check_source

if TYPE_CHECKING:
    from ddmseg.imaging.dicom.series import Series
    from ddmseg.imaging.dicom.series_selection import Trained

BIDS_CONTRAST = "T1w"


@dataclass(frozen=True)
class Scan:
    """One scan to segment.

    Attributes:
        path: of the file; for DICOM of the folder, archive or file that was named.
        stem: what the names of its results begin with.
        subfolder: of the output folder, where its results go; empty for none.
        series: which one of a DICOM input; None for NIfTI.
        source: its path below the root of a BIDS folder; empty where results are not to be
            BIDS derivatives.
    """

    path: Path
    stem: str
    subfolder: str = ""
    series: Series | None = None
    source: str = ""

    def folder(self, output: Path) -> Path:
        """Return where the results go."""
        return output / self.subfolder

    @property
    def home(self) -> tuple[str, ...]:
        """The folders that it lies in, outermost first; a DICOM input is one itself.

        By the path that was given: links of an archive lead to names that say nothing.
        """
        path = Path(os.path.abspath(self.path))
        if self.series is None:
            return path.parent.parts[1:]
        return (path.with_suffix("") if path.is_file() else path).parts[1:]


@dataclass(frozen=True)
class Refused:
    """An input that holds no scan, and why."""

    path: Path
    error: Exception


def _silent(line: str) -> None:
    """Tell nobody."""


def find_scans(
    inputs: Iterable[Path],
    *,
    series: str | None = None,
    model: Trained | None = None,
    root: Path | None = None,
    tell: Callable[[str], None] = _silent,
) -> tuple[list[Scan], list[Refused]]:
    """Return every scan once, with places of their own for the results.

    Two names are two scans, also where they are links to one file. Whether a NIfTI file
    can be read is found out when it is read; of a DICOM input the headers are read here,
    and one series of it becomes a scan.
    Where file names are equal, the folders that tell the scans apart become
    subfolders of the output.

    Args:
        inputs: as named by the user.
        series: number or UID of the series to take from each DICOM input; None
            takes the one that fits the model best.
        model: what it was trained on; None for what holds for all.
        root: folder above all scans; results go to the folder that each has below it, so that a
            place depends on no other scan. None has folders only where names are equal.
        tell: is called with a line for each series where an input holds several, and
            with one that says which was chosen and why; none names a path or patient. Also
            with lines that count what of a folder was passed over, by its path.
    """
    found: dict[tuple[str, str, str], Scan] = {}
    refused = []
    for given in inputs:
        try:
            for one in _scans_in(given, series, model, tell):
                if isinstance(one, Refused):
                    refused.append(one)
                    continue
                # the text alone would take link/../a for a
                names = (os.path.abspath(one.path), os.path.realpath(one.path))
                found.setdefault((*names, one.series.uid if one.series else ""), one)
        except Exception as error:  # one bad input stops nothing else
            refused.append(Refused(given, _as_ours(given, error)))
    scans = []
    for one in found.values():
        try:
            scans.append(one if root is None else replace(one, subfolder=_below(root, one)))
        except ScanError as error:
            refused.append(Refused(one.path, error))
    return _placed(scans, by_name=root is None), refused


def series_lines(path: Path) -> Iterator[str]:
    """Yield a line for each series of a DICOM input, with its UID.

    Raises:
        ScanError: when the input holds no DICOM image or cannot be read.
    """
    from ddmseg.imaging.dicom.series import list_series
    from ddmseg.imaging.dicom.series_selection import describe_series

    if not path.exists():
        raise ScanError(f"{path}: no such file; check the path")
    yield from (f"{describe_series(one)}; UID {one.uid}" for one in list_series(path))


def _as_ours(path: Path, error: Exception) -> Exception:
    if not isinstance(error, OSError):
        return error
    return ScanError(f"{path}: cannot be read ({error.strerror or error}); check the path")


def _scans_in(
    path: Path, wanted: str | None, model: Trained | None, tell: Callable[[str], None]
) -> Iterator[Scan | Refused]:
    from ddmseg.imaging.dicom.series import holds_dicom, is_zip

    check_source(path)
    if path.is_dir():
        nifti = _nifti_in(path)
        if nifti or not holds_dicom(path):
            for line in passed_over(path, nifti):
                tell(line)
    else:
        nifti = [path] if is_volume_name(path) else []
    if nifti:
        yield from map(_checked, nifti)
    elif is_zip(path) or holds_dicom(path):
        yield _dicom_scan(path, wanted, model, tell)
    elif path.is_dir():
        raise ScanError(_why_empty(path))
    else:
        yield _named(path)  # reading it will say what is wrong


def _named(file: Path) -> Scan:
    return Scan(file, volume_stem(file) or "scan")


def _checked(file: Path) -> Scan | Refused:
    try:
        check_source(file)
    except ScanError as error:
        return Refused(file, error)
    return _named(file)


def _nifti_in(folder: Path) -> list[Path]:
    return _bids_scans(folder) or [file for file in volume_files(folder) if not is_result(file)]


def _dicom_scan(
    path: Path, wanted: str | None, model: Trained | None, tell: Callable[[str], None]
) -> Scan:
    """The series that was asked for, or that fits best."""
    from ddmseg.imaging.dicom.series import check_series, list_series, passed_over_files
    from ddmseg.imaging.dicom.series_selection import ANY_MODEL, choose_series, describe_series

    listed = list_series(path)
    if len(listed) > 1:
        for one in listed:
            tell(describe_series(one))
    choice = choose_series(listed, wanted, model=model or ANY_MODEL)
    check_series(choice.series)
    tell(f"chosen: {choice.series.name} ({choice.why})")
    if more := passed_over_files(path, listed):
        tell(more)
    return Scan(path, choice.series.name, series=choice.series)


def _bids_scans(root: Path) -> list[Path]:
    """Every T1 scan of a BIDS folder, all sessions and runs."""
    return [image.path for image in anat_images(root) if image.suffix == BIDS_CONTRAST]


def _why_empty(folder: Path) -> str:
    if any(folder.glob("sub-*/**/anat")):
        return (
            f"{folder}: a BIDS folder without *_{BIDS_CONTRAST}.nii.gz; name the scans themselves"
        )
    kinds = ", ".join(VOLUME_SUFFIXES)
    return f"{folder}: no scan in this folder; it must hold {kinds} or DICOM files"


def _below(root: Path, scan: Scan) -> str:
    """Return the folder of a scan below another one.

    Raises:
        ScanError: when it lies elsewhere.
    """
    top = Path(os.path.abspath(root)).parts[1:]
    if scan.home[: len(top)] != top:
        raise ScanError(f"{scan.path}: does not lie below --root {root}; name a folder above it")
    return "/".join(scan.home[len(top) :])


def _placed(scans: Sequence[Scan], *, by_name: bool = True) -> list[Scan]:
    """Give each scan a place of its own, comparing names as a disk that ignores case does.

    With ``by_name``, scans of equal names get the folders that tell them apart.
    """
    names = Counter(scan.stem.casefold() for scan in scans)
    taken: set[tuple[str, str]] = set()
    placed = []
    for scan in scans:
        subfolder = scan.subfolder
        if by_name:
            subfolder = _telling_parts(scan, scans) if names[scan.stem.casefold()] > 1 else ""
        stem, number = scan.stem, 2
        # one folder can still hold scan.nii and scan.nii.gz
        while (subfolder.casefold(), stem.casefold()) in taken:
            stem, number = f"{scan.stem}_{number}", number + 1
        taken.add((subfolder.casefold(), stem.casefold()))
        placed.append(replace(scan, stem=stem, subfolder=subfolder))
    return placed


def _telling_parts(scan: Scan, scans: Sequence[Scan]) -> str:
    """The last folders of a path, as many as tell it from the others of its name."""
    own = scan.home
    others = {other.home for other in scans if other.stem.casefold() == scan.stem.casefold()} - {
        own
    }
    for count in range(1, len(own) + 1):
        if all(other[-count:] != own[-count:] for other in others):
            return "/".join(own[-count:])
    return "/".join(own)
