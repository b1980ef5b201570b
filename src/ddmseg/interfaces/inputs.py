"""From what was named on the command line to scans and the places of their results."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ddmseg.errors import DdmsegError, ScanError
from ddmseg.imaging.datasets.case import NIFTI_SUFFIXES, nifti_files, nifti_stem

CONVERT_DICOM = "DICOM cannot be read yet; convert it to NIfTI first, for example with dcm2niix"
BIDS_CONTRAST = "_T1w"
RESULT_ENDINGS = ("_dseg", "_probseg", "_desc-uncertainty_map", "_desc-discrepancy_map")
"""Files of earlier results, which a folder may hold beside its scans."""

_LOOKED_AT = 50
"""Files of a folder that are opened to see whether it holds DICOM."""


@dataclass(frozen=True)
class Scan:
    """One scan to segment.

    Attributes:
        path: of the file.
        stem: what the names of its results begin with.
        subfolder: of the output folder, where its results go; empty for none.
    """

    path: Path
    stem: str
    subfolder: str = ""

    def folder(self, output: Path) -> Path:
        """Return where the results go."""
        return output / self.subfolder


@dataclass(frozen=True)
class Refused:
    """An input that holds no scan, and why."""

    path: Path
    error: DdmsegError


def find_scans(inputs: Iterable[Path]) -> tuple[list[Scan], list[Refused]]:
    """Return every scan once, with places of their own for the results.

    Whether a file can be read is found out when it is read.
    Where file names are equal, the folders that tell the scans apart become
    subfolders of the output.
    """
    paths: dict[str, Path] = {}
    refused = []
    for given in inputs:
        try:
            for path in _scans_in(given):
                paths.setdefault(os.path.realpath(path), path)
        except (DdmsegError, OSError) as error:
            refused.append(Refused(given, _as_ours(given, error)))
    return _placed(list(paths.values())), refused


def _as_ours(path: Path, error: DdmsegError | OSError) -> DdmsegError:
    if isinstance(error, DdmsegError):
        return error
    return ScanError(f"{path}: cannot be read ({error.strerror or error}); check the path")


def _scans_in(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise ScanError(f"{path}: no such file; check the path")
    if not path.is_dir():
        if path.suffix.lower() in (".dcm", ".ima") or zipfile.is_zipfile(path):
            raise ScanError(f"{path}: {CONVERT_DICOM}")
        yield path
        return
    found = _bids_scans(path) or [file for file in nifti_files(path) if not _is_result(file)]
    if not found:
        raise ScanError(_why_empty(path))
    yield from found


def _bids_scans(root: Path) -> list[Path]:
    """Every T1 scan of a BIDS folder, all sessions and runs.

    Source: BIDS 1.9, "Magnetic Resonance Imaging data".
    """
    folders = sorted((*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")))
    files = (file for folder in folders for file in nifti_files(folder))
    return [file for file in files if nifti_stem(file).endswith(BIDS_CONTRAST)]


def _is_result(path: Path) -> bool:
    return nifti_stem(path).endswith(RESULT_ENDINGS)


def _why_empty(folder: Path) -> str:
    if any(folder.glob("sub-*/**/anat")):
        return f"{folder}: a BIDS folder without *{BIDS_CONTRAST}.nii.gz; name the scans themselves"
    if _holds_dicom(folder):
        return f"{folder}: {CONVERT_DICOM}"
    return f"{folder}: no scan in this folder; it must hold {' or '.join(NIFTI_SUFFIXES)} files"


def _holds_dicom(folder: Path) -> bool:
    """Whether one of the first files has DICOM's magic word or suffix."""
    files = (file for file in folder.rglob("*") if file.is_file())
    for _, file in zip(range(_LOOKED_AT), files, strict=False):
        if file.suffix.lower() == ".dcm" or _magic_word(file) == b"DICM":
            return True
    return False


def _magic_word(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:]
    except OSError:
        return b""


def _placed(paths: Sequence[Path]) -> list[Scan]:
    """Give each scan a place of its own, comparing names as a disk that ignores case does."""
    scans = [Scan(path, nifti_stem(path)) for path in paths]
    names = Counter(scan.stem.casefold() for scan in scans)
    parts = {scan.path: _telling_parts(scan, scans) for scan in scans}
    taken: set[tuple[str, str]] = set()
    placed = []
    for scan in scans:
        subfolder = parts[scan.path] if names[scan.stem.casefold()] > 1 else ""
        stem, number = scan.stem, 2
        # one folder can still hold scan.nii and scan.nii.gz
        while (subfolder.casefold(), stem.casefold()) in taken:
            stem, number = f"{scan.stem}_{number}", number + 1
        taken.add((subfolder.casefold(), stem.casefold()))
        placed.append(replace(scan, stem=stem, subfolder=subfolder))
    return placed


def _telling_parts(scan: Scan, scans: Sequence[Scan]) -> str:
    """The last folders of a path, as many as tell it from the others of its name."""
    own = scan.path.resolve().parent.parts[1:]
    others = {
        other.path.resolve().parent.parts[1:]
        for other in scans
        if other.stem.casefold() == scan.stem.casefold()
    } - {own}
    for count in range(1, len(own) + 1):
        if all(other[-count:] != own[-count:] for other in others):
            return "/".join(own[-count:])
    return "/".join(own)
