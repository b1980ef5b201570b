"""DICOM series in: which a folder holds, and one of them as a scan in RAS mm.

Classic (one slice a file) and enhanced (all slices in one file) MR and CT. A series that is no
plain volume is refused with the reason. Nothing that names the patient is read, kept or told.

Source: DICOM PS3.3, C.7.3 (General Series), C.7.6.1.1.2 (Image Type).
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ddmseg.errors import DdmsegError, ScanError
from ddmseg.imaging.dicom import pixels
from ddmseg.imaging.dicom.archive import ZipMember, archive_members
from ddmseg.imaging.dicom.bounds import FILE_COST, LOOK_COST, Effort
from ddmseg.imaging.dicom.file import Source, is_dicom
from ddmseg.imaging.dicom.geometry import Stack, stack_frames
from ddmseg.imaging.dicom.header import MAX_FRAMES, Frame, Header, read_header
from ddmseg.imaging.dicom.mixture import check_mixture, left_out, magnitude_alone
from ddmseg.imaging.nifti_guard import MAX_VOXELS
from ddmseg.imaging.volume import Volume

MAX_FILES = 50_000  # files of a folder that are looked at
CONTENTS = "DICOMDIR"  # name of the file that lists what an exported disk holds
MODALITIES = ("MR", "CT")
GREY = ("MONOCHROME1", "MONOCHROME2", "")  # photometric interpretations; old files leave it out
LOCALISERS = frozenset({"LOCALIZER", "SCOUT"})
MAPS = frozenset(
    (
        *("ADC", "EADC", "FA", "TRACE", "TRACEW", "TENSOR", "TENSOR_B0", "DIFFUSION_MAP"),
        *("CBF", "CBV", "MTT", "TTP", "TMAX", "PBP", "RELCBF", "RELCBV", "RELMTT", "RCBF", "RCBV"),
        *("MIP", "MIN_IP", "MINIP", "PROJECTION IMAGE", "FIELD_MAP", "FIELD MAP"),
        *("SUB", "SUBTRACTION", "SUBTRACTED"),
        *("PHASE", "PHASE MAP", "PHASE_MAP", "B0 MAP", "T1 MAP", "T2 MAP", "T2_STAR MAP"),
        *("IMAGINARY", "VELOCITY MAP"),
        *("R2 MAP", "R2_STAR MAP", "CSA REPORT", "SCREEN SAVE"),
    )
)
"""Words of Image Type that say the values are computed, and no T1-like intensities."""
NO_SCAN = frozenset(("phase", "imaginary"))
"""Parts of a complex image that are no scan by themselves; the real part may be one."""
MOST_INTENSITY = 1e30  # largest intensity that the scaling of stored values may give


@dataclass(frozen=True)
class Series:
    """Images that were exported as one series.

    ``left_out`` is what was exported with the scan and is not part of it, such as "60 phase
    images"; mostly nothing.
    """

    uid: str
    number: int | None
    description: str
    modality: str
    manufacturer: str
    headers: tuple[Header, ...] = field(repr=False)
    left_out: str = ""
    files_left_out: int = 0

    @property
    def name(self) -> str:
        """A name for messages and files, such as ``series-004_t1_mprage_sag``."""
        number = "" if self.number is None else f"-{self.number:03d}"
        words = re.sub(r"[^0-9a-z]+", "_", self.description.lower()).strip("_")
        return f"series{number}{'_' if words else ''}{words}"

    @property
    def study_uid(self) -> str:
        """The examination that it belongs to; empty where no file says so."""
        return self.headers[0].study_uid

    @property
    def paths(self) -> tuple[Source, ...]:
        """The files."""
        return tuple(header.path for header in self.headers)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The slices, in no order."""
        return tuple(frame for header in self.headers for frame in header.frames)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices: voxels along i, j and k."""
        first = self.headers[0]
        count = sum(header.frame_count - header.left_out for header in self.headers)
        return (first.columns, first.rows, count)

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Voxel edges along i, j and k; None when the slices are no volume."""
        try:
            affine = stack_frames(self.frames, self.name).affine
        except ScanError:
            return None
        si, sj, sk = ((affine[:3, :3] ** 2).sum(axis=0) ** 0.5).tolist()
        return (si, sj, sk)


def list_series(folder: str | os.PathLike[str], *, max_files: int = MAX_FILES) -> list[Series]:
    """Return the series of images in a folder and those below it, by number.

    A zip archive counts as a folder; archives in archives are passed over. So is a DICOMDIR, the
    list of contents of an exported disk, unless it was named: then its folder is meant. Headers
    only are read, and the pixels of files of one SOP Instance UID: an image that was exported twice
    counts once, and where the pixels differ the series is refused (:func:`refusal`). Files that are
    no DICOM, or hold no image, are passed over.

    Raises:
        ScanError: when there is no such folder, no DICOM image in it, too many files, a DICOM file
            that is damaged, or an archive that is not safe.
    """
    root = Path(folder)
    files = list(_files(root, max_files))
    groups: dict[str, list[Header]] = {}
    try:
        effort = Effort(str(root))
        for header in _without_copies(_headers(root, files, effort), effort):
            groups.setdefault(header.series_uid, []).append(header)
    except DdmsegError:
        for path, _ in files[:1]:  # members of an archive share one that is open
            if isinstance(path, ZipMember):
                path.close()
        raise
    listed = []
    for uid, members in groups.items():
        first, kept = members[0], magnitude_alone(members)
        listed.append(
            Series(
                *(uid, first.number, first.description, first.modality, first.manufacturer),
                *(kept, left_out(members, kept), len(members) - len(kept)),
            )
        )
    return sorted(listed, key=lambda one: (one.number is None, one.number or 0, one.uid))


def _headers(root: Path, files: list[tuple[Source, str]], effort: Effort) -> list[Header]:
    """The headers of all images; files that hold none are counted and passed over."""
    count, headers = 0, []
    for path, told in files:
        effort.allow(path.stored_size if isinstance(path, ZipMember) else _size(path))
        effort.spend(LOOK_COST)
        if is_dicom(path):
            count += 1
            header = read_header(path, told=told, effort=effort)
            headers += [header] if header is not None else []
    if not count:
        raise ScanError(f"{root}: no DICOM file here; give a folder with DICOM or NIfTI files")
    if not headers:
        raise ScanError(
            f"{root}: {count} DICOM files and none holds an image; give the folder of a scan"
        )
    return headers


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # reading it will say what is wrong


def holds_dicom(path: Path) -> bool:
    """Say whether a file, or one of the first ``MAX_FILES`` of a folder, is DICOM."""
    return any(is_dicom(file) for file, _ in _files(path, MAX_FILES))


def first_study(folder: Path) -> str:
    """Return the Study Instance UID of the first image below a folder, else the folder's path.

    What cannot be read is an examination of its own, so that it is refused alone.
    """
    try:
        effort = Effort(str(folder))
        for path, told in _files(folder, MAX_FILES):
            effort.spend(LOOK_COST)
            header = read_header(path, told=told, effort=effort) if is_dicom(path) else None
            if header is not None and header.study_uid:
                return header.study_uid
    except DdmsegError:
        pass
    return str(folder)


def passed_over_files(folder: Path, listed: Sequence[Series]) -> str:
    """Return a line that counts the files of an input that no series is of; empty for none."""
    files = [path for path, _ in _files(folder, MAX_FILES)]
    dicom = sum(map(is_dicom, files))
    images = sum(len(series.headers) + series.files_left_out for series in listed)
    counts = {"not DICOM": len(files) - dicom, "DICOM without an image, or copies": dicom - images}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count > 0)
    return f"files passed over: {told}" if told else ""


def is_zip(path: Path) -> bool:
    """Say whether a file is a zip archive by what it holds; what cannot be opened is none."""
    try:
        return path.is_file() and zipfile.is_zipfile(path)
    except OSError:
        return False


def refusal(series: Series) -> str | None:
    """Return why a series cannot be read, as far as headers tell; None when it can be.

    Headers tell how many pixels there are, unless these are compressed in an archive.
    """
    try:
        _checked(series)
    except ScanError as error:
        return str(error)
    return None


def check_series(series: Series) -> None:
    """Check all of a series that can be checked without decoding its pixels, and without torch."""
    _checked(series)
    pixels.check_stored(series.headers, series.name)


def read_series(series: Series) -> Volume:
    """Return a series as a scan: intensities in the scanner's units, affine to RAS mm.

    The first voxel axis runs along a row of the images, the second down a column, the third along
    the normal of the slices (row cross column).

    Raises:
        ScanError: one line with what is wrong with the series and what to do.
    """
    from ddmseg.imaging.scan_checks import checked_scan  # imports torch: lists are quick without

    stack = _checked(series)
    data = pixels.read_pixels(stack.frames, series.headers, series.name)
    return replace(checked_scan(data, stack.affine, series.name), date=series.headers[0].date)


def _checked(series: Series) -> Stack:
    """The slices in order, if everything the headers tell allows to read them."""
    name = series.name
    check_mixture(series.headers, name)
    if reason := _unfit(series) or _twofold(series) or _unlike(series):
        raise ScanError(f"{name}: {reason}")
    stack = stack_frames(series.frames, name)
    pixels.check_decoder(series.headers[0], name)
    pixels.check_lengths(series.headers, name)
    return stack


def _unfit(series: Series) -> str:
    """Why a series is of a kind that is no scan; empty where it may be one."""
    if series.modality not in MODALITIES:
        allowed = ", ".join(MODALITIES)
        return f"modality {series.modality}; it must be one of {allowed}; choose another series"
    # what Image Type says of the files, and Frame Type of their slices
    words = {word for header in series.headers for word in header.image_type}
    for frame in series.frames:
        words.update(dict(frame.contrast).get("image type", "").split("\\"))
        words.update({frame.part.upper()} if frame.part in NO_SCAN else ())
    if words & LOCALISERS:
        return "a localiser, not a scan; choose another series"
    if maps := ", ".join(sorted(words & MAPS)):
        return f"a computed map ({maps}), not a scan; choose the series that it was made from"
    if "MOSAIC" in words:
        advice = "choose another series, or convert it with dcm2niix"
        return f"slices tiled into one picture (MOSAIC); {advice}"
    return ""


def _twofold(series: Series) -> str:
    """Which image two files claim to be; empty for none."""
    seen = set()
    for header in series.headers:
        if header.image_uid and _identity(header) in seen:
            instance = header.frames[0].instance if header.frames else None
            about = "an image" if instance is None else f"image {instance}"
            return (
                f"two files of {about} with one SOP Instance UID and different pixels, and nothing "
                "says which is right; leave the wrong one out, or export the series again"
            )
        seen.add(_identity(header))
    return ""


def _unlike(series: Series) -> str:
    """Why images do not make one grey volume of a size that is allowed; empty where they may."""
    first, count = series.headers[0], series.shape[2]
    if any(header.samples != 1 or header.photometric not in GREY for header in series.headers):
        return "colour images; a scan must be grey; choose another series"
    sizes = sorted({(header.columns, header.rows) for header in series.headers})
    if len(sizes) > 1:
        shown = ", ".join(f"{columns} x {rows}" for columns, rows in sizes[:4])
        return (
            f"images of {len(sizes)} sizes ({shown}); all must be alike; "
            "export each stack as a series of its own"
        )
    if any(not _is_scaled(frame) for frame in series.frames):
        return (
            "the scaling of its values (rescale slope or intercept) is damaged: no numbers, 0 or "
            "beyond all intensities; export the series again"
        )
    if len({header.transfer_syntax for header in series.headers}) > 1:
        return "files in several transfer syntaxes; export the series again"
    if first.rows * first.columns * count > MAX_VOXELS:
        shown = f"{first.columns} x {first.rows} x {count}"
        return f"{shown} voxels; at most {MAX_VOXELS} are allowed; resample or crop it first"
    if count != len(series.frames):
        return (
            f"{count} images and the places of {len(series.frames)}; a file with many images must "
            f"say where each lies (enhanced MR or CT), and may have at most {MAX_FRAMES}; convert "
            "it with dcm2niix"
        )
    return ""


def _is_scaled(frame: Frame) -> bool:
    most = abs(frame.slope) * 2.0**32 + abs(frame.intercept)
    return frame.slope != 0 and most < MOST_INTENSITY  # NaN is below nothing


def _files(root: Path, max_files: int) -> Iterator[tuple[Source, str]]:
    """Every file and what it is called in messages, in a fixed order.

    Files below a folder are told by number, for their names are often those of patients. Folders
    that are links are not entered.
    """
    if root.name.upper() == CONTENTS and root.is_file():
        root = root.absolute().parent
    if is_zip(root):
        members = archive_members(root, max_files=max_files)
        yield from ((one, str(one)) for one in members if one.name.upper() != CONTENTS)
        return
    if root.is_file():
        yield root, str(root)
        return
    if not root.is_dir():
        raise ScanError(f"{root}: no such folder; check the path")
    seen = 0
    for parent, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            seen += 1
            if seen > max_files:
                raise ScanError(
                    f"{root}: more than {max_files} files; give the folder of one examination"
                )
            if name.upper() != CONTENTS:
                yield Path(parent) / name, f"{root}, file {seen}"


def _without_copies(headers: Iterable[Header], effort: Effort) -> Iterator[Header]:
    """Each image once; one of the same name and another content stays, to be refused."""
    seen: dict[tuple[Any, ...], Header] = {}
    digests: dict[tuple[Any, ...], str | None] = {}

    def digest(header: Header) -> str | None:
        effort.spend(FILE_COST)
        return pixels.images_digest(header)

    for header in headers:
        identity = _identity(header)
        first = seen.setdefault(identity, header)
        if first is header or not header.image_uid:
            yield header
            continue
        if identity not in digests:
            digests[identity] = digest(first)
        if digests[identity] is None or digest(header) != digests[identity]:
            yield header


def _identity(header: Header) -> tuple[Any, ...]:
    """What tells images apart: the UID and, where UIDs were blanked, the place too."""
    places = tuple((frame.position, frame.contrast) for frame in header.frames)
    return header.series_uid, header.image_uid, places
