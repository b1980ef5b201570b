"""Analyze 7.5 pairs (``.hdr`` and ``.img``, either one gzipped) in.

The format knows how large voxels are and not where they lie: it has no origin and says nothing
reliable of left and right. So the directions of the axes are an argument here, never a guess, and
the middle of the grid is put at 0. Sizes of voxels are millimetres, which is the format's habit and
not in its rules.

Source: ANALYZE 7.5 file format, Mayo Clinic (dbh.h); NIfTI-1 (nifti1.h) for pairs of that later
format, which are refused.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddmseg.errors import ScanError
from ddmseg.imaging.nifti_guard import MAX_VOXELS, read_start
from ddmseg.imaging.scan_checks import checked_labels, checked_scan
from ddmseg.imaging.volume import AnyArray, DoubleArray, LabelMap, Volume

PathLike = str | os.PathLike[str]
HEADER_BYTES = 348
DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 132: "u2", 512: "u2"}
"""Voxel types by code; 132 and 512 are what SPM and NIfTI writers use for uint16."""
MILLIMETRES = ("", "mm")  # texts of the unit field that are taken for millimetres
AXES = ("LR", "PA", "IS")
_AGAIN = "copy or download it again"


@dataclass(frozen=True, eq=False)
class AnalyzeImage:
    """Voxels as they are stored, axes i j k, and their edges."""

    data: AnyArray
    spacing_mm: tuple[float, float, float]
    name: str

    def volume(self, orientation: str) -> Volume:
        """Return the image as a scan whose axes i, j and k point as is said ("LAS")."""
        affine = centred_affine(self.data.shape, self.spacing_mm, orientation)
        return checked_scan(self.data, affine, self.name)

    def label_map(self, orientation: str) -> LabelMap:
        """Return the image as a label map; as :meth:`volume`."""
        affine = centred_affine(self.data.shape, self.spacing_mm, orientation)
        return checked_labels(self.data, affine, self.name)


def read_analyze(path: PathLike) -> AnalyzeImage:
    """Read a pair; a trailing axis of length 1 is dropped."""
    from nibabel.analyze import AnalyzeHeader

    header_path, image_path = pair_paths(path)
    raw = _content(header_path, HEADER_BYTES + 1)
    kind: Any = AnalyzeHeader
    header = kind(raw, check=False) if len(raw) == HEADER_BYTES else {"sizeof_hdr": 0}
    if header["sizeof_hdr"] != HEADER_BYTES:
        said = f"not an Analyze 7.5 header of {HEADER_BYTES} bytes; {_AGAIN}"
        raise ScanError(f"{header_path}: {said}")
    if raw[344:347] in (b"ni1", b"n+1"):
        raise ScanError(f"{header_path}: a NIfTI pair, not Analyze; convert it to .nii.gz first")
    shape = _shape(header, header_path)
    dtype, spacing_mm, offset = _voxels(header, header_path)
    promised = offset + math.prod(shape) * dtype.itemsize
    content = _content(image_path, promised + 1)
    if len(content) != promised:
        holds = "more" if len(content) > promised else str(len(content))
        said = f"the header promises {promised} bytes and the file holds {holds}; {_AGAIN}"
        raise ScanError(f"{image_path}: {said}")
    data = np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape, order="F")
    return AnalyzeImage(data, spacing_mm, _stem(header_path))


def centred_affine(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], orientation: str
) -> DoubleArray:
    """Return index to RAS mm for a grid whose middle is at 0.

    >>> centred_affine((3, 1, 1), (2.0, 1.0, 1.0), "LAS")[0].tolist()
    [-2.0, 0.0, 0.0, 2.0]
    """
    letters = orientation.upper()
    rows = [axis for letter in letters for axis, pair in enumerate(AXES) if letter in pair]
    if len(letters) != 3 or sorted(rows) != [0, 1, 2]:
        raise ScanError(
            f"orientation: got '{orientation}'; it must be three letters, one each of L or R, "
            "P or A, I or S, such as RAS"
        )
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for column, (letter, row) in enumerate(zip(letters, rows, strict=True)):
        affine[row, column] = spacing_mm[column] * (1.0 if letter == AXES[row][1] else -1.0)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[:3]) - 1) / 2)
    # 0.0 + x, because -0.0 would print as such
    return np.asarray(0.0 + affine)


def pair_paths(path: PathLike) -> tuple[Path, Path]:
    """Return the header and the image that belong together."""
    given = Path(path)
    stem = _stem(given)
    if stem == given.name:
        raise ScanError(f"{given}: not named like an Analyze pair; give the .hdr or .img file")
    found = []
    for suffix in (".hdr", ".img"):
        candidates = [given.with_name(stem + suffix + end) for end in ("", ".gz")]
        there = [candidate for candidate in candidates if candidate.is_file()]
        if not there:
            raise ScanError(
                f"{given}: no {stem}{suffix} or {stem}{suffix}.gz beside it; "
                "an Analyze image is two files; put both in one folder"
            )
        found.append(there[0])
    return found[0], found[1]


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return name[:-4] if name.lower().endswith((".hdr", ".img")) else path.name


def _content(path: Path, most: int) -> bytes:
    return read_start(path, most, zipped=path.name.endswith(".gz"))


def _shape(header: Any, path: Path) -> tuple[int, int, int]:
    count, *lengths = header["dim"].tolist()
    i, j, k, *rest = lengths[:count] if 3 <= count <= 7 else (0, 0, 0)
    if min(i, j, k) < 1 or any(n > 1 for n in rest):
        raise ScanError(f"{path}: sizes {[count, *lengths]}; the image must have 3 axes")
    if i * j * k > MAX_VOXELS:
        said = (
            f"{i} x {j} x {k} voxels; at most {MAX_VOXELS} are allowed; resample or crop it first"
        )
        raise ScanError(f"{path}: {said}")
    return (i, j, k)


def _voxels(header: Any, path: Path) -> tuple[np.dtype[Any], tuple[float, float, float], int]:
    """Voxel type, voxel edges in mm and bytes before the first voxel."""
    code, offset = int(header["datatype"]), float(header["vox_offset"])
    x, y, z = header["pixdim"][1:4].tolist()
    unit = header["vox_units"].item().split(b"\0")[0].decode("ascii", "replace").strip().lower()
    if code not in DTYPES:
        raise ScanError(f"{path}: voxel type code {code}; allowed are {sorted(DTYPES)}")
    if unit not in MILLIMETRES:
        raise ScanError(f"{path}: voxel edges in '{unit}'; they must be in mm; mend the header")
    if not (all(math.isfinite(edge) and edge > 0 for edge in (x, y, z)) and 0 <= offset < 2**31):
        raise ScanError(f"{path}: voxel edges {(x, y, z)} or offset {offset:g}; mend the header")
    return np.dtype(header.endianness + DTYPES[code]), (x, y, z), int(offset)
