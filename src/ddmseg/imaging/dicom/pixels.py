"""The pixels of DICOM files, checked before a decoder sees them.

A decoder believes the compressed image and not the header around it, so a few bytes can ask for
gigabytes. The size that a compressed image says it has is read here first and must be that of the
header.

Source: DICOM PS3.5, section 8 and annexes A.4 and G; ITU-T T.81 (JPEG), T.87 (JPEG-LS) and T.800
(JPEG 2000).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from ddmseg.errors import ScanError, optional
from ddmseg.imaging.dicom.element_parser import MAX_FRAGMENTS, fragments_end
from ddmseg.imaging.dicom.elements import whole
from ddmseg.imaging.dicom.file import UNCOMPRESSED, read_header_elements, refused, too_many_pixels
from ddmseg.imaging.dicom.header import Frame, Header
from ddmseg.imaging.volume import AnyArray, FloatArray

if TYPE_CHECKING:
    from pydicom import Dataset

KEYWORDS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PlanarConfiguration"),
    *("PhotometricInterpretation", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
"""All that a decoder asks of a header."""
PADDING_BYTES = 1 << 20
"""How much longer than the images pixels may be; some writers fill up blocks."""
COMPRESSED_GROWTH = 2
IMAGE_OVERHEAD_BYTES = 4096
"""How much larger compressed pixels may be than plain ones, by factor and for each image; noise
does not shrink, and each image has a header and tables of its own."""
RLE = "1.2.840.10008.1.2.5"
INSTALL_DECODER = "install one with pip install python-gdcm"
MAX_MARKERS = 256  # markers before the size of a JPEG image; some ten are usual
_ITEM = b"\xfe\xff\x00\xe0"
_AGAIN = "export the series again"
_JPEG_2000_START = b"\xff\x4f\xff\x51"
# frame headers of JPEG (C4, C8 and CC are others) and of JPEG-LS (F7)
_JPEG_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}


def check_decoder(header: Header, name: str) -> None:
    """Refuse pixels that what is installed cannot decode."""
    pydicom = optional("pydicom", "dicom")
    syntax = header.transfer_syntax
    if syntax in UNCOMPRESSED:
        return
    with refused(name, "looking for a decoder"):
        told = pydicom.uid.UID(syntax).name
        try:
            available = pydicom.pixels.get_decoder(syntax).is_available
        except NotImplementedError as error:
            raise ScanError(
                f"{name}: transfer syntax {told}, which cannot be read; "
                "send the series uncompressed, or convert it with dcm2niix"
            ) from error
    if not available:
        raise ScanError(
            f"{name}: compressed as {told}, and no decoder for it is there; {INSTALL_DECODER}"
        )


def read_pixels(frames: Sequence[Frame], headers: Sequence[Header], name: str) -> FloatArray:
    """Return intensities with axes i (along a row), j (down a column), k (``frames``).

    Pixels that are absent, cut off, damaged or of another size than the header says are refused.
    """
    of_path = {header.path: header for header in headers}
    first = headers[0]
    volume = np.empty((first.columns, first.rows, len(frames)), dtype=np.float32, order="F")
    wanted: dict[Any, list[int]] = {}
    for place, frame in enumerate(frames):
        wanted.setdefault(frame.path, []).append(place)
    for path, places in wanted.items():
        images = _decode(of_path[path], name)
        for place in places:
            frame = frames[place]
            stored = images[frame.index].T
            volume[:, :, place] = stored * np.float32(frame.slope) + np.float32(frame.intercept)
    return volume


def check_lengths(headers: Sequence[Header], name: str) -> None:
    """Refuse pixels that are absent, cut off or too many, by the lengths that the files give."""
    for header in headers:
        stored, told = header.pixels, _shown(header, name)
        if stored.length is not None:
            _check_amount(header, stored.length, told)
            if not stored.ended:
                raise _cut_off(told)


def check_stored(headers: Sequence[Header], name: str) -> None:
    """Check what lengths do not tell: pixels compressed in any way are read, and not decoded."""
    for header in headers:
        if header.pixels.length is None or header.transfer_syntax not in UNCOMPRESSED:
            _stored_image(header, name)


def images_digest(header: Header) -> str | None:
    """Return a hash of the images of a file, bit by bit as they are stored, and their scaling.

    None when they cannot be read: then no two files are believed to hold the same.
    """
    scales = [(frame.slope, frame.intercept) for frame in header.frames]
    told = _shown(header, "")
    try:
        dataset = _read(header, told)
        with refused(told, "comparing its images"):
            known = [str(dataset.get(keyword)) for keyword in KEYWORDS]
            pixels = bytes(dataset.get("PixelData") or b"")
    except ScanError:
        return None
    digest = hashlib.sha256(repr((header.transfer_syntax, scales, known)).encode())
    digest.update(pixels)
    return digest.hexdigest()


def _shown(header: Header, name: str) -> str:
    """What a file is called: by number, for names of exported files are often patients'."""
    instance = header.frames[0].instance if header.frames else None
    return name if instance is None else f"{name}, image {instance}"


def _cut_off(told: str) -> ScanError:
    return ScanError(f"{told}: the pixels are cut off; {_AGAIN}")


def _promised(header: Header) -> tuple[int, int]:
    """Bytes of the pixels of a file, and the most that they may take as they are stored."""
    promised = header.frame_count * header.rows * header.columns * header.bits // 8
    most = promised + PADDING_BYTES
    if header.transfer_syntax not in UNCOMPRESSED:
        most += (COMPRESSED_GROWTH - 1) * promised + IMAGE_OVERHEAD_BYTES * header.frame_count
    return promised, most


def _check_amount(header: Header, stored: int, told: str) -> None:
    promised, most = _promised(header)
    if not stored:
        raise ScanError(f"{told}: holds no pixels, or is cut off before them; {_AGAIN}")
    if header.transfer_syntax in UNCOMPRESSED and stored < promised:
        raise ScanError(
            f"{told}: {stored} bytes of pixels where the header promises {promised}; "
            f"the file is cut off; {_AGAIN}"
        )
    if stored > most:
        raise too_many_pixels(told, most)


def _read(header: Header, told: str) -> Dataset:
    most = _promised(header)[1]
    return read_header_elements(header.path, KEYWORDS, told=told, most=most)[0]


def _stored_image(header: Header, name: str) -> Dataset:
    """The pixels of a file as they are stored, checked for what a decoder would believe."""
    told = _shown(header, name)
    dataset = _read(header, told)
    _check_amount(header, len(getattr(dataset, "PixelData", None) or b""), told)
    if header.transfer_syntax not in UNCOMPRESSED:
        _check_compressed(dataset, header, told)
    return dataset


def _decode(header: Header, name: str) -> AnyArray:
    """All images of a file, stored values, axes frame row column."""
    dataset = _stored_image(header, name)
    with refused(_shown(header, name), "decoding its pixels", f"{_AGAIN}, or {INSTALL_DECODER}"):
        # the decoder shall believe the sizes that were checked, whatever they are stored as
        for keyword, size in (
            *(("Rows", header.rows), ("Columns", header.columns), ("BitsAllocated", header.bits)),
            *(("SamplesPerPixel", header.samples), ("NumberOfFrames", header.frame_count)),
            *((k, whole(dataset, k)) for k in ("BitsStored", "HighBit", "PixelRepresentation")),
        ):
            if size is not None:
                dataset.add_new(keyword, "UL", size)
        return np.asarray(dataset.pixel_array).reshape(
            header.frame_count, header.rows, header.columns
        )


def _check_compressed(dataset: Dataset, header: Header, told: str) -> None:
    """Check that every compressed image has the size that the header says."""
    from pydicom.encaps import generate_frames

    if dataset.PixelData.count(_ITEM) > MAX_FRAGMENTS:
        raise ScanError(
            f"{told}: compressed pixels in more than {MAX_FRAGMENTS} pieces; the file is damaged "
            f"or hostile; {_AGAIN}"
        )
    end = fragments_end(BytesIO(dataset.PixelData), 0)
    if end is None or end > len(dataset.PixelData):
        raise _cut_off(told)
    try:
        images = list(generate_frames(dataset.PixelData, number_of_frames=header.frame_count))
    except (ValueError, IndexError, EOFError, struct.error) as error:
        raise ScanError(
            f"{told}: the compressed pixels are damaged or cut off; {_AGAIN}"
        ) from error
    if len(images) != header.frame_count:
        raise ScanError(
            f"{told}: {len(images)} compressed images where the header promises "
            f"{header.frame_count}; the file is cut off; {_AGAIN}"
        )
    for image in images:
        size = (header.rows, header.columns)
        rle = header.transfer_syntax == RLE
        if not (_rle_fits(image, header) if rle else codestream_size(image) == size):
            raise ScanError(
                f"{told}: the compressed image is not the {header.columns} x {header.rows} pixels "
                f"that the header promises; the file is damaged or hostile; {_AGAIN}"
            )


def codestream_size(image: bytes) -> tuple[int, int] | None:
    """Return rows and columns that a JPEG, JPEG-LS or JPEG 2000 image says it has, or None."""
    start = image.find(_JPEG_2000_START, 0, 4096)
    if start >= 0:
        if len(image) < start + 24:
            return None
        right, lower, left, upper = struct.unpack_from(">4I", image, start + 8)
        return lower - upper, right - left
    at = 2
    if image[:2] != b"\xff\xd8":
        return None
    for _ in range(MAX_MARKERS):
        if at + 9 > len(image) or image[at] != 0xFF:
            return None
        marker, length = image[at + 1], int.from_bytes(image[at + 2 : at + 4], "big")
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
        elif marker in _JPEG_FRAMES:
            rows, columns = struct.unpack_from(">2H", image, at + 5)
            return rows, columns
        else:
            at += 2 + length
    return None


def _rle_fits(image: bytes, header: Header) -> bool:
    """Whether the segments of an RLE image hold as many bytes as the image, or little more."""
    if len(image) < 64:
        return False
    count, *offsets = struct.unpack_from("<16I", image)
    if count != header.bits // 8:
        return False
    ends = [*offsets[1:count], len(image)]
    least = header.rows * header.columns
    # a segment may end in a few bytes of padding, and pydicom drops them
    return all(
        64 <= start <= end and least <= rle_length(image[start:end], 2 * least) < 2 * least
        for start, end in zip(offsets[:count], ends, strict=True)
    )


def rle_length(segment: bytes, most: int) -> int:
    """Return the bytes that an RLE segment expands to; counting stops at ``most``.

    Source: DICOM PS3.5, G.3.2.

    >>> rle_length(bytes([2, 7, 8, 9, 254, 5]), 100)
    6
    """
    at = length = 0
    while at < len(segment) and length < most:
        control = segment[at]
        if control < 128:
            length += min(control + 1, len(segment) - at - 1)
            at += control + 2
        else:
            length += 257 - control if control > 128 and at + 1 < len(segment) else 0
            at += 2 if control > 128 else 1
    return length
