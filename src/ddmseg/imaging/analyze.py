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
import struct
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


def read_analyze(path: PathLike) -> AnalyzeImage:
    """Read a pair; a trailing axis of length 1 is dropped."""
    header, image = pair_paths(path)
    raw = _content(header, HEADER_BYTES + 1)
    shape, dtype, spacing, offset = _parse(raw, header)
    voxels = math.prod(shape)
    if voxels > MAX_VOXELS:
        shown = " x ".join(str(n) for n in shape)
        raise ScanError(
            f"{header}: {shown} voxels; at most {MAX_VOXELS} are allowed; resample or crop it first"
        )
    promised = offset + voxels * dtype.itemsize
    content = _content(image, promised + 1)
    if len(content) != promised:
        holds = "more" if len(content) > promised else str(len(content))
        raise ScanError(
            f"{image}: the header promises {promised} bytes and the file holds {holds}; {_AGAIN}"
        )
    data = np.frombuffer(content, dtype, voxels, offset).reshape(shape, order="F")
    return AnalyzeImage(data, spacing, _stem(header))


def volume_of(image: AnalyzeImage, orientation: str) -> Volume:
    """Return the image as a scan whose axes i, j and k point as ``orientation`` says ("LAS")."""
    affine = centred_affine(image.data.shape, image.spacing_mm, orientation)
    return checked_scan(image.data, affine, image.name)


def label_map_of(image: AnalyzeImage, orientation: str) -> LabelMap:
    """Return the image as a label map; as :func:`volume_of`."""
    affine = centred_affine(image.data.shape, image.spacing_mm, orientation)
    return checked_labels(image.data, affine, image.name)


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


def _parse(
    raw: bytes, path: Path
) -> tuple[tuple[int, int, int], np.dtype[Any], tuple[float, float, float], int]:
    """Shape, voxel type, voxel edges in mm and bytes before the first voxel."""
    order = next((o for o in "<>" if raw[:4] == struct.pack(o + "i", HEADER_BYTES)), None)
    if order is None or len(raw) != HEADER_BYTES:
        raise ScanError(f"{path}: not an Analyze 7.5 header of {HEADER_BYTES} bytes; {_AGAIN}")
    if raw[344:347] in (b"ni1", b"n+1"):
        raise ScanError(f"{path}: a NIfTI pair, not Analyze; convert it to .nii.gz first")
    dim = struct.unpack_from(order + "8h", raw, 40)
    (code,) = struct.unpack_from(order + "h", raw, 70)
    edges = struct.unpack_from(order + "4f", raw, 76)[1:]
    (offset,) = struct.unpack_from(order + "f", raw, 108)
    unit = raw[56:60].split(b"\0")[0].decode("ascii", "replace").strip().lower()
    i, j, k, *rest = dim[1 : 1 + max(dim[0], 0)] if 3 <= dim[0] <= 7 else (0, 0, 0)
    if min(i, j, k) < 1 or any(n > 1 for n in rest):
        raise ScanError(f"{path}: sizes {list(dim)}; the image must have 3 axes")
    if code not in DTYPES:
        raise ScanError(f"{path}: voxel type code {code}; allowed are {sorted(DTYPES)}")
    if unit not in MILLIMETRES:
        raise ScanError(f"{path}: voxel edges in '{unit}'; they must be in mm; mend the header")
    if not (all(math.isfinite(edge) and edge > 0 for edge in edges) and 0 <= offset < 2**31):
        raise ScanError(f"{path}: voxel edges {edges} or offset {offset:g}; mend the header")
    spacing = (float(edges[0]), float(edges[1]), float(edges[2]))
    return (i, j, k), np.dtype(order + DTYPES[code]), spacing, int(offset)
