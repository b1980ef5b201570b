"""Arrays as NIfTI bytes for a viewer in the browser: few bytes, one affine for all.

Results carry the header of their scan, whose qform and sform may differ; viewers
choose between the two in ways of their own. What is shown has one affine only, so
that everything lies where nibabel puts it.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import Reason, ScanError, about_file
from ddmseg.imaging.intensity import intensity_range
from ddmseg.imaging.nifti_guard import MAX_VOXELS, Layout, open_raw, parse_layout
from ddmseg.imaging.nifti_write import INTENT_LABEL
from ddmseg.imaging.volume import Volume

SCANNER = 1
"""NIfTI transform code NIFTI_XFORM_SCANNER_ANAT."""
MAX_FRAMES = 512
"""Frames of a 4-D label map that are shown."""
SMALL_VOXELS = 256**3
"""Voxels that any result may have, whatever its receipt says of the scan."""
_LEVELS = 32767
_HEADER = 540
_GZIP = b"\x1f\x8b"
_HEADROOM = 4.0


def display_labels(labels: NDArray[np.integer], affine: NDArray[np.float64]) -> bytes:
    """Return label ids as NIfTI bytes, one byte a voxel when they fit."""
    dtype = "u1" if int(labels.max(initial=0)) <= 255 else "<i4"
    return _nifti(labels.astype(dtype, copy=False), affine, intent=INTENT_LABEL)


def display_map(values: NDArray[np.float32], affine: NDArray[np.float64], *, top: float) -> bytes:
    """Return a map as NIfTI bytes: 255 steps from 0 to ``top``, which is above 0."""
    steps = np.rint(np.clip(np.nan_to_num(values) / top, 0.0, 1.0) * 255).astype(np.uint8)
    return _nifti(steps, affine, slope=top / 255, window=(0.0, top))


def discrepancy_top(temperature: float) -> float:
    """Return where the colour scale of the discrepancy ends, the same for all scans of a model:
    twice the discrepancy at which a label is as probably wrong as right, where
    exp(-D / sigma_D^2) = 1/2.
    """
    return 2 * math.log(2) * temperature**2


def display_scan(scan: Volume) -> bytes:
    """Return a scan as NIfTI bytes with a window that shows the brain.

    Values are kept to a thirty-thousandth of the range; a few far brighter than
    everything else (vessels, spikes) end at four times the window.
    """
    low, high = intensity_range(scan.data)
    slope = _HEADROOM * (high - low) / _LEVELS
    bottom = max(float(scan.data.min()), low - _HEADROOM * (high - low))
    levels = np.clip(np.rint((scan.data - bottom) / slope), 0, _LEVELS).astype("<i2")
    return _nifti(levels, scan.affine, slope=slope, intercept=bottom, window=(low, 1.1 * high))


def display_nothing(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> bytes:
    """Return black voxels, for a result whose scan was not found."""
    return _nifti(np.zeros(shape, np.uint8), affine, window=(0.0, 1.0))


def _nifti(
    data: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
    window: tuple[float, float] = (0.0, 0.0),
    intent: int = 0,
) -> bytes:
    import nibabel as nib

    kind: Any = nib.Nifti1Header
    header = kind()
    header.set_data_shape(data.shape)
    header.set_data_dtype(data.dtype)
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    header.set_sform(affine, SCANNER)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["cal_min"], header["cal_max"] = window
    header["intent_code"] = intent
    header["vox_offset"], header["magic"] = header.single_vox_offset, header.single_magic
    padding = bytes(int(header.single_vox_offset) - len(header.binaryblock))
    return bytes(header.binaryblock) + padding + data.tobytes(order="F")


class Frames:
    """The frames of a 4-D label map, kept small in memory so that stepping is quick.

    They take the affine of the labels they belong to; ScanError when the file is damaged, its
    frames are of another shape than given, or there are too many.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], affine: NDArray[np.float64]
    ) -> None:
        most = max(math.prod(shape), SMALL_VOXELS)
        raw = open_raw(path, volume=0, max_voxels=most)
        raw.voxels()  # read to its end and checked, so that the second reading may believe it
        layout = raw.layout
        if layout.volumes > MAX_FRAMES:
            why = f"{layout.volumes} frames; at most {MAX_FRAMES} can be shown"
            known = {"frames": layout.volumes, "most": MAX_FRAMES}
            raise ScanError(about_file(path, why, "frames_many", **known))
        if layout.shape != shape or not np.issubdtype(layout.dtype, np.integer):
            why = "not label maps on the grid of the result"
            raise ScanError(about_file(path, why, "frames_other"))
        self._kept: list[bytes] = []
        with gzip.open(path, "rb") as stream:
            stream.read(layout.offset)
            for _ in range(layout.volumes):
                voxels = np.frombuffer(stream.read(layout.volume_bytes), layout.dtype)
                shown = display_labels(voxels.reshape(shape, order="F"), affine)
                self._kept.append(zlib.compress(shown, 1))

    def __len__(self) -> int:
        return len(self._kept)

    def frame(self, place: int) -> bytes:
        """Return one frame as NIfTI bytes; ScanError when there is none such."""
        if not 0 <= place < len(self._kept):
            last = len(self._kept) - 1
            said = f"frame: got {place}; it must be from 0 to {last}"
            raise ScanError(Reason(said, "no_such_frame", {"place": place, "last": last}))
        return zlib.decompress(self._kept[place])


def frame_count(path: Path) -> int:
    """Return how many 3-D volumes a NIfTI file says it holds; ScanError when it is none."""
    try:
        return _layout(path).volumes
    except (OSError, EOFError, zlib.error) as error:
        why = f"damaged gzip file ({error}); segment the scan again"
        raise ScanError(about_file(path, why, "frames_damaged", why=str(error))) from error


def _layout(path: Path) -> Layout:
    with gzip.open(path, "rb") as stream:
        return parse_layout(stream.read(_HEADER), path)


def check_label_size(path: Path, shape: Any) -> None:
    """Raise ScanError for labels that would take far more memory than the scan, by their header.

    A header that cannot be read is left to whoever reads the file. The shape is that of the scan
    in the receipt; anything but a list of lengths counts as unknown.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER)
        layout = _layout(path) if start.startswith(_GZIP) else parse_layout(start, path)
    except (OSError, EOFError, zlib.error, ScanError):
        return
    known = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    # ids take four bytes at most; small ones may be as wide as they like
    most = max(8 * SMALL_VOXELS, 4 * math.prod(shape) if known else 0)
    if layout.volume_bytes > most and math.prod(layout.shape) <= MAX_VOXELS:
        why = "far larger than the scan; segment the scan again"
        raise ScanError(about_file(path, why, "labels_large"))
