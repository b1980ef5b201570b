"""Writes label maps and maps onto the grid of the scan they belong to.

The geometry of the scan is carried over field by field, so that qform, sform, their codes and the
units stay exactly as they were. The same data give the same bytes: gzip stores no time and no name.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ddmseg.atomic import atomic_write
from ddmseg.errors import ScanError
from ddmseg.imaging.volume import AnyArray, LabelMap, Volume, WholeArray
from ddmseg.messages import NOTICE

INTENT_LABEL = 1002  # NIfTI intent code NIFTI_INTENT_LABEL
SCANNER = 1  # NIfTI transform code NIFTI_XFORM_SCANNER_ANAT, for scans that came without a header
LEVEL = 4  # gzip level: a third of the time of the usual 6, and files hardly larger
DESCRIPTION_LENGTH = 79  # characters of the header's ``descrip``, which ends with a zero
_LABEL_DTYPES = ("u1", "i2", "u2", "i4")


def write_label_map(path: str | os.PathLike[str], labels: LabelMap, like: Volume) -> None:
    """Write labels in the smallest integer type of up to 32 bits, on the grid of ``like``.

    ``path`` ends in ``.nii.gz``, or ``.nii`` for a file that is not compressed.

    Raises:
        OutputError: when the file cannot be written.
        ScanError: when the shapes differ or an id needs more than 32 bits.
    """
    _write_ids(Path(path), labels.data, like, labels.name)


def write_label_frames(path: str | os.PathLike[str], frames: WholeArray, like: Volume) -> None:
    """Write several label maps on one grid (``i j k frame``), as :func:`write_label_map` does."""
    _write_ids(Path(path), frames, like, like.name)


def _write_ids(path: Path, ids: WholeArray, like: Volume, name: str) -> None:
    low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
    limits = ((np.dtype(f"<{code}"), np.iinfo(code)) for code in _LABEL_DTYPES)
    dtype = next((one for one, fits in limits if fits.min <= low and high <= fits.max), None)
    if dtype is None:
        raise ScanError(f"{name}: ids from {low} to {high}; they must fit in 32 bits")
    header = _header(like, ids.shape, dtype, "ddmseg labels")
    header["intent_code"] = INTENT_LABEL
    header["cal_max"] = 0
    _write(path, header, ids, dtype)


def write_map(
    path: str | os.PathLike[str], data: NDArray[np.floating[Any]], like: Volume, *, description: str
) -> None:
    """Write a map (``i j k``) as float32, on the grid of ``like``, as :func:`write_label_map` does.

    The description is cut to what the notice leaves of the header's 79 characters.
    """
    dtype = np.dtype("<f4")
    header = _header(like, data.shape, dtype, description)
    _write(Path(path), header, data, dtype)


def write_probabilities(
    path: str | os.PathLike[str], p: NDArray[np.floating[Any]], like: Volume
) -> None:
    """Write class probabilities (``i j k class``, in [0, 1]) in 8 bits, on the grid of ``like``.

    The header's slope makes them probabilities again for every reader, to 0.002.
    """
    dtype = np.dtype("u1")
    header = _header(like, p.shape, dtype, "ddmseg class probabilities")
    header.set_slope_inter(1 / 255, 0.0)
    _write(Path(path), header, p, dtype, steps=255)


def _header(like: Volume, shape: tuple[int, ...], dtype: np.dtype[Any], description: str) -> Any:
    """Header of the scan with what describes its voxels replaced."""
    if len(shape) not in (3, 4) or shape[:3] != like.shape:
        raise ScanError(f"a result of shape {shape} does not fit the scan of shape {like.shape}")
    header = _carried_over(like)
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_slope_inter(1.0, 0.0)
    kinds = header.structarr.dtype
    # the texts of the scan may say who was scanned, or anything else; db_name among them
    texts = {name: b"" for name in kinds.names if kinds[name].kind == "S"}
    for field, value in {
        "cal_min": 0, "cal_max": 0, "glmin": 0, "glmax": 0, "intent_code": 0,
        "intent_p1": 0, "intent_p2": 0, "intent_p3": 0, "toffset": 0,
        "extents": 0, "session_error": 0, **texts, "descrip": _described(description),
    }.items():  # fmt: skip
        if field in header:
            header[field] = value
    pixdim = header["pixdim"]
    pixdim[4:] = 0.0
    if len(shape) == 4:
        pixdim[4] = 1.0
    return header


def _described(description: str) -> bytes:
    """Return a description that ends with the notice: it may be cut, the notice never."""
    notice = f"; {NOTICE}".encode("ascii")
    return description.encode("ascii", "replace")[: DESCRIPTION_LENGTH - len(notice)] + notice


def _carried_over(like: Volume) -> Any:
    """Little-endian single-file header with the scan's qform, sform, codes and units."""
    import nibabel as nib

    known = like.header if isinstance(like.header, nib.Nifti1Header) else None
    kind: Any = nib.Nifti2Header if isinstance(known, nib.Nifti2Header) else nib.Nifti1Header
    # by the block and not by from_header, which drops the qform of .hdr/.img pairs
    block, order = (known.binaryblock, known.endianness) if known is not None else (None, None)
    header = kind(block, order, check=False).as_byteswapped("<")
    if known is None or not np.allclose(header.get_best_affine(), like.affine, atol=1e-4):
        header.set_data_shape(like.shape)
        header.set_sform(like.affine, SCANNER)
        header.set_qform(like.affine, SCANNER)
        header.set_xyzt_units("mm")
    return header


def _write(
    path: Path, header: Any, data: AnyArray, dtype: np.dtype[Any], *, steps: int = 0
) -> None:
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    with atomic_write(path) as partial, packed(partial) as file:
        file.write(header.binaryblock)
        file.write(bytes(header.single_vox_offset - len(header.binaryblock)))
        for plane in _planes(data):
            plane = np.rint(plane * np.float32(steps)) if steps else plane
            file.write(plane.astype(dtype, copy=False).tobytes(order="F"))


def _planes(data: AnyArray) -> Iterator[AnyArray]:
    """Planes in the order of the file, first axis fastest."""
    for volume in np.moveaxis(data, 3, 0) if data.ndim == 4 else (data,):
        yield from np.moveaxis(volume, 2, 0)


@contextlib.contextmanager
def packed(path: Path) -> Iterator[BinaryIO]:
    """Open for writing, through gzip when the name asks for it."""
    with path.open("wb") as raw:
        if path.suffix.lower() not in (".gz", ".mgz"):
            yield raw
            return
        with gzip.GzipFile("", "wb", compresslevel=LEVEL, fileobj=raw, mtime=0) as zipped:
            yield cast(BinaryIO, zipped)
