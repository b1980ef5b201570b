"""FreeSurfer's volumes, ``.mgh`` and ``.mgz``: where they lie, and label maps for its tools.

They are read by the guard that NIfTI files are read by (``nifti_guard``).

Source: FreeSurfer's wiki, "MghFormat": 284 bytes, big-endian, then the voxels.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ddmseg.atomic import atomic_write
from ddmseg.errors import ScanError
from ddmseg.imaging.nifti_guard import MGH_BYTES
from ddmseg.imaging.nifti_write import packed
from ddmseg.imaging.volume import DoubleArray, LabelMap, Volume
from ddmseg.messages import NOTICE

USED_BYTES, FOOTER_BYTES = 90, 20
"""What of the header is in use, and the scan parameters behind the voxels: nibabel's header."""
COMMAND_LINE = 3  # tag of the text behind the footer that says what made a file (TAG_CMDLINE)
PERPENDICULAR = 1e-3  # how far the cosines between axes may be from 0


def mgh_place(block: bytes, name: str) -> tuple[DoubleArray, Any]:
    """Return the affine, voxel index to RAS mm, and nibabel's header."""
    from nibabel.freesurfer.mghformat import MGHHeader

    numbers = struct.unpack_from(">15f", block, 30)
    if struct.unpack_from(">h", block, 28)[0] <= 0:
        raise ScanError(
            f"{name}: the header does not say how the head lies (goodRASFlag 0), so that left "
            "and right cannot be known; set its directions with mri_convert"
        )
    if not all(map(math.isfinite, numbers)) or min(numbers[:3]) <= 0:
        raise ScanError(
            f"{name}: voxel sizes or directions in the header that cannot be; mend it (mri_convert)"
        )
    kind: Any = MGHHeader
    header = kind(block[:USED_BYTES] + bytes(FOOTER_BYTES), check=False)
    return np.asarray(header.get_affine(), np.float64), header


def write_mgz(path: str | os.PathLike[str], labels: LabelMap, like: Volume) -> None:
    """Write labels (32-bit ids on the grid of ``like``) as FreeSurfer's tools read them.

    The same labels give the same bytes.

    Raises:
        OutputError: when the file cannot be written.
        ScanError: when the grid is sheared, which the format cannot tell.
    """
    from nibabel.freesurfer.mghformat import MGHHeader

    spacing_mm = np.linalg.norm(like.affine[:3, :3], axis=0)
    directions = like.affine[:3, :3] / spacing_mm
    if np.abs(directions.T @ directions - np.eye(3)).max() > PERPENDICULAR:
        raise ScanError(
            f"{like.name}: a sheared grid, which .mgz cannot tell; leave mgz out, and convert the "
            "labels with mri_convert"
        )
    kind: Any = MGHHeader
    header = kind()
    header.set_data_dtype(np.dtype(">i4"))
    header.set_data_shape(labels.data.shape)
    header["delta"], header["Mdc"] = spacing_mm, directions.T
    middle = [n / 2 for n in like.data.shape]
    header["Pxyz_c"] = (like.affine @ [*middle, 1.0])[:3]
    with atomic_write(Path(path)) as partial, packed(partial) as file:
        file.write(header.binaryblock[:USED_BYTES].ljust(MGH_BYTES, b"\0"))
        for plane in np.moveaxis(labels.data, 2, 0):
            file.write(plane.astype(">i4").tobytes(order="F"))
        text = f"ddmseg labels; {NOTICE}\0".encode("ascii")
        file.write(bytes(FOOTER_BYTES) + struct.pack(">iq", COMMAND_LINE, len(text)) + text)
