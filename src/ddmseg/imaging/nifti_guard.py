"""Checks a NIfTI or MGH file byte by byte before anything believes its header.

nibabel reads many damaged files without a word: it ignores the gzip checksum of what it does not
read, and believes any size. Here a gzipped file is read to its end, so that its checksum and length
are checked, and nothing is allocated that the file could not hold.

Source: NIfTI-1 and NIfTI-2 standard headers (nifti1.h, nifti2.h); FreeSurfer's MGH format.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import ScanError
from ddmseg.imaging.gzip_stream import MAGIC, GzipStream, Readable
from ddmseg.imaging.source_file import check_source, coded_error

MAX_VOXELS = 512**3  # voxels of the largest volume that is read: 512 along each axis
DEFLATE_RATIO = 1032  # the best that deflate can do; a file that promises more is lying
SCAN_RATIO = 100
"""The best that it does with scans: a brain alone, as 64-bit numbers in a large box, gets 50."""
_FREE_BYTES = 64 << 20  # a file may inflate to so much whatever its size
# some writers leave a little after the voxels; a bomb leaves a lot
_TRAILING_BYTES = 1 << 20
_CHUNK = 1 << 20
MGH_MAGIC, MGH_BYTES = b"\0\0\0\1", 284
"""Version and length of FreeSurfer's header; no NIfTI header begins so."""
_AGAIN = "copy or download it again"
_CONVERT = "give a .nii, .nii.gz or .mgz file, or convert it first (dcm2niix, mri_convert)"

_DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1",
    512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_MGH_DTYPES = {0: "u1", 1: "i4", 3: "f4", 4: "i2", 10: "u2"}
_FORBIDDEN = {1: "1-bit", 32: "complex", 1792: "complex", 128: "RGB", 2304: "RGBA"}


@dataclass(frozen=True)
class Layout:
    """What the header says about where the voxels are.

    ``version`` is of NIfTI, 0 for MGH; ``volumes`` are the 3-D volumes in the file; ``offset`` is
    the bytes before the first voxel.
    """

    version: int
    shape: tuple[int, int, int]
    volumes: int
    dtype: np.dtype[np.generic]
    offset: int

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def promised_bytes(self) -> int:
        """Bytes of the whole file, inflated."""
        return self.offset + self.volumes * self.volume_bytes


@dataclass(frozen=True, eq=False)
class RawScan:
    """A file whose header has been checked: its first 540 bytes, what they say, and the volume."""

    path: Path
    header: bytes
    layout: Layout
    index: int

    def voxels(self) -> NDArray[np.generic]:
        """Return the voxels of the volume, unscaled; a gzipped file is read to its end."""
        layout, path = self.layout, self.path
        start = layout.offset + self.index * layout.volume_bytes
        with _opened(path) as stream:
            if not isinstance(stream, GzipStream):
                return np.memmap(path, layout.dtype, "r", start, layout.shape, order="F")
            held = _skip(stream, start)
            voxels = np.empty(layout.volume_bytes, dtype=np.uint8)
            held += _fill(stream, voxels.data)
            # on to the end, so that gzip checks itself
            held += _skip(stream, layout.promised_bytes + _TRAILING_BYTES + 1 - held)
        if held < layout.promised_bytes:
            raise _short(path, layout, held)
        if held > layout.promised_bytes + _TRAILING_BYTES:
            raise _long(path, layout)
        return voxels.view(layout.dtype).reshape(layout.shape, order="F")


def open_raw(
    path: Path,
    *,
    volume: int | None = None,
    max_voxels: int = MAX_VOXELS,
    most_ratio: int = DEFLATE_RATIO,
) -> RawScan:
    """Check what the header of a NIfTI or MGH file says, before any voxel is read.

    The first bytes decide what is gzipped, not the name; one byte of it may promise ``most_ratio``,
    in small files more.

    Raises:
        ScanError: when the file is missing, empty, damaged, of no such format or not a 3-D scan of
            a size that is allowed.
    """
    size = _file_size(path)
    with _opened(path) as stream:
        header, zipped = _read(stream, 540), isinstance(stream, GzipStream)
    layout = parse_layout(header, path)
    index = choose_volume(layout.volumes, volume, str(path))
    if math.prod(layout.shape) > max_voxels:
        shown = " x ".join(str(n) for n in layout.shape)
        said = f"{shown} voxels; at most {max_voxels} are allowed; resample or crop it first"
        raise coded_error(path, said, "too_many_voxels", voxels=shown, most=max_voxels)
    # plain files hold what they hold
    most = max(size * most_ratio, min(size * DEFLATE_RATIO, _FREE_BYTES)) if zipped else size
    if layout.promised_bytes > most:
        raise _short(path, layout, most, "cannot hold more than")
    if not zipped and size > layout.promised_bytes + _TRAILING_BYTES:
        raise _long(path, layout)
    return RawScan(path, header, layout, index)


def parse_layout(header: bytes, path: Path) -> Layout:
    """Return what the first 540 bytes of a file say, if they are the header of a 3-D scan."""
    if header.startswith(MGH_MAGIC):
        if len(header) < MGH_BYTES:
            raise coded_error(path, f"the file ends within its header; {_AGAIN}", "scan_empty")
        version, order, types = 0, ">", _MGH_DTYPES
        *sizes, code = struct.unpack_from(">5i", header, 4)
        dim, offset, least = (len(sizes), *sizes), 0, MGH_BYTES
    else:
        version, order = _version(header, path)
        types, least = _DTYPES, 352 if version == 1 else 544
        fields = (("8h", 40), ("h", 70), ("f", 108))
        if version == 2:
            fields = (("8q", 16), ("h", 12), ("q", 168))
        dim, (code,), (offset,) = (struct.unpack_from(order + k, header, at) for k, at in fields)
    shape, volumes = _shape(dim, path)
    if code not in types:
        kind = (_FORBIDDEN if version else {}).get(code, f"type code {code}")
        said = f"{kind} voxels; a scan must hold whole or real numbers"
        raise coded_error(path, said, "voxel_type", kind=kind)
    if not (math.isfinite(offset) and 0 <= offset < 2**31):
        said = f"the header puts the voxels at byte {offset:g}; mend the header"
        raise coded_error(path, said, "voxels_at", byte=f"{offset:g}")
    return Layout(version, shape, volumes, np.dtype(order + types[code]), max(int(offset), least))


def _file_size(path: Path) -> int:
    try:
        check_source(path)
        found = path.stat()
    except ValueError as error:  # a name that no file can have
        why = str(error)
        raise coded_error(path, f"{why}; check the path", "scan_absent", why=why) from error
    if stat.S_ISDIR(found.st_mode):
        raise coded_error(path, "a folder; give a .nii, .nii.gz or .mgz file", "scan_folder")
    if found.st_size == 0:
        raise coded_error(path, f"the file is empty; {_AGAIN}", "scan_empty")
    return found.st_size


@contextlib.contextmanager
def _opened(path: Path, zipped: bool | None = None) -> Iterator[Readable]:
    """Open a file, through gzip where its first bytes say so, and say what goes wrong."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == MAGIC if zipped is None else zipped
            file.seek(0)
            yield GzipStream(file) if zipped else file
    except EOFError as error:
        said = f"the gzip data stop early, the file is cut off; {_AGAIN}"
        raise coded_error(path, said, "gzip_cut") from error
    except gzip.BadGzipFile as error:
        why = str(error)
        said = f"damaged gzip file ({why}); {_AGAIN}"
        raise coded_error(path, said, "gzip_damaged", why=why) from error
    except OSError as error:
        why = str(error.strerror or error)
        raise coded_error(path, f"cannot be read ({why})", "scan_unreadable", why=why) from error


def _version(header: bytes, path: Path) -> tuple[int, str]:
    """NIfTI version and byte order, from the header's own length and its magic."""
    for version, length, magic, at in ((1, 348, b"n+1", 344), (2, 540, b"n+2", 4)):
        for order in "<>":
            if len(header) >= length and struct.unpack_from(order + "i", header)[0] == length:
                if header[at : at + 3] == magic:
                    return version, order
                said = f"half of a .hdr/.img pair or Analyze format; {_CONVERT}"
                raise coded_error(path, said, "nifti_half")
    if header[128:132] == b"DICM":
        said = "a DICOM file; give the folder that holds its series"
        raise coded_error(path, said, "dicom_file")
    raise coded_error(path, f"neither NIfTI nor MGH; {_CONVERT}", "no_nifti")


def _shape(dim: tuple[int, ...], path: Path) -> tuple[tuple[int, int, int], int]:
    """Axes of one volume, and how many volumes there are."""
    count, lengths = dim[0], dim[1:]
    if not 1 <= count <= 7 or any(n < 1 for n in lengths[:count]):
        said = f"the header gives sizes {list(dim)}, which cannot be; mend it"
        raise coded_error(path, said, "header_sizes", sizes=str(list(dim)))
    i, j, k = (*lengths[:count], 1, 1)[:3]
    if min(i, j, k) < 2:
        shown = " x ".join(str(n) for n in lengths[:count])
        said = f"a 2-D image ({shown}); give a 3-D scan, 2 voxels or more an axis"
        raise coded_error(path, said, "flat_image", voxels=shown)
    return (i, j, k), math.prod(lengths[3:count])


def choose_volume(volumes: int, volume: int | None, name: str) -> int:
    """Return the index of the volume to read; of many, one must be asked for."""
    if volume is None and volumes > 1:
        said = f"{volumes} volumes; choose one from 0 to {volumes - 1} with --volume"
        raise coded_error(name, said, "several_volumes", volumes=volumes, last=volumes - 1)
    if volume is not None and not 0 <= volume < volumes:
        said = f"no volume {volume}; --volume must be from 0 to {volumes - 1}"
        raise coded_error(name, said, "no_such_volume", volume=volume, last=volumes - 1)
    return volume or 0


def _short(path: Path, layout: Layout, held: int, holds: str = "holds") -> ScanError:
    said = (
        f"the header promises {layout.promised_bytes} bytes and the file {holds} {held}; "
        f"it is cut off or its header is wrong; {_AGAIN}"
    )
    code = "file_short" if holds == "holds" else "file_too_short"
    return coded_error(path, said, code, promised=layout.promised_bytes, held=held)


def _long(path: Path, layout: Layout) -> ScanError:
    promised = layout.promised_bytes
    said = (
        f"the file goes on after the {promised} bytes that its header promises; the header is "
        f"wrong; {_AGAIN}"
    )
    return coded_error(path, said, "file_long", promised=promised)


def read_start(path: Path, most: int, *, zipped: bool) -> bytes:
    """Return up to so many bytes of a file, inflated if it is gzipped."""
    with _opened(path, zipped) as stream:
        return _read(stream, most)


def _read(stream: Readable, most: int) -> bytes:
    """Read up to so many bytes, in as many pieces as they come in."""
    found = bytearray()
    while len(found) < most and (chunk := stream.read(min(_CHUNK, most - len(found)))):
        found += chunk
    return bytes(found)


def _fill(stream: Readable, view: memoryview) -> int:
    """Read into ``view`` until it is full or the file ends; return the bytes read."""
    got = 0
    while got < len(view) and (chunk := stream.read(min(_CHUNK, len(view) - got))):
        view[got : got + len(chunk)] = chunk
        got += len(chunk)
    return got


def _skip(stream: Readable, count: int) -> int:
    """Read and drop up to ``count`` bytes; return how many there were."""
    left = count
    while left and (chunk := stream.read(min(left, _CHUNK))):
        left -= len(chunk)
    return count - left
