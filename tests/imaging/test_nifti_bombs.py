"""Small files that promise or cost much are refused, and cost little."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.errors import ScanError
from ddmseg.imaging.gzip_stream import FREE_MEMBERS, MAX_PADDING, GzipStream
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.nifti_guard import SCAN_RATIO, open_raw

MOST_MB = 200
NOISE = np.random.default_rng(0).integers(0, 1000, (12, 13, 14)).astype(np.int16)
SCAN = nib.Nifti1Image(NOISE, np.eye(4)).to_bytes()
FEXTRA, FNAME = 4, 8


def header(*dim: int, code: int = 2, bits: int = 8, offset: float = 352.0) -> bytes:
    raw = bytearray(SCAN[:352])
    struct.pack_into("<8h", raw, 40, len(dim), *dim, *[1] * (7 - len(dim)))
    struct.pack_into("<2h", raw, 70, code, bits)
    struct.pack_into("<f", raw, 108, offset)
    return bytes(raw)


def header2(*dim: int) -> bytes:
    image = nib.Nifti2Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    raw = bytearray(image.to_bytes()[:544])
    struct.pack_into("<8q", raw, 16, len(dim), *dim, *[1] * (7 - len(dim)))
    return bytes(raw)


def zeros(head: bytes, megabytes: int) -> bytes:
    """Gzip a header with many zeros behind it, the same packed megabyte again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    # the sum over all of it is wrong, which only who inflates all of it will see
    end = packer.flush() + bytes(8)
    return b"\x1f\x8b\x08" + bytes(7) + first + again * megabytes + end


def members(count: int, data: bytes = b"") -> bytes:
    return gzip.compress(data, mtime=0) * count


def named(length: int) -> bytes:
    """Gzip with a file name of so many bytes in its own header."""
    plain = gzip.compress(SCAN, mtime=0)
    return plain[:3] + bytes([FNAME]) + plain[4:10] + b"x" * length + b"\0" + plain[10:] + b"!"


BOMBS: dict[str, Callable[[], bytes]] = {
    "zeros": lambda: zeros(header(500, 500, 500), 120),
    "zeros as 64-bit numbers": lambda: zeros(header(300, 300, 300, code=64, bits=64), 207),
    "many volumes": lambda: zeros(header(64, 64, 64, 4000), 1000),
    "many axes": lambda: zeros(header(16, 16, 16, 30, 30, 30, 30), 1000),
    "zeros behind the voxels": lambda: zeros(SCAN, 2000),
    "zeros before the voxels": lambda: zeros(header(12, 13, 14, offset=2.0e8), 200),
    "zeros behind the gzip": lambda: gzip.compress(SCAN) + bytes(MAX_PADDING + 10),
    "empty members": lambda: gzip.compress(SCAN) + members(15_000),
    "members of a byte": lambda: gzip.compress(SCAN) + members(15_000, b"\0"),
    "a long name in the gzip": lambda: named(1 << 20),
    "sizes beyond all numbers": lambda: gzip.compress(header2(2**62, 2**62, 2**62)),
    "volumes beyond all numbers": lambda: gzip.compress(header2(9, 9, 9, 2**62)),
    "a promise of 512 cubed": lambda: gzip.compress(header(512, 512, 512)),
    "a gzip in a gzip": lambda: gzip.compress(zeros(header(500, 500, 500), 120)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_and_costs_little(tmp_path: Path, bomb: str) -> None:
    content = BOMBS[bomb]()
    assert len(content) < 3 << 20
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ScanError) as caught:
            read_volume(path, volume=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert peak < MOST_MB << 20


def test_a_hole_on_disk_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(header(512, 512, 512, code=64, bits=64))
    os.truncate(path, 352 + 512**3 * 8)
    tracemalloc.start()
    try:
        with pytest.raises(ScanError, match="voxels all over the image are 0; give a scan with"):
            read_volume(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


def test_a_plain_file_that_goes_on_is_refused_by_its_length(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(SCAN)
    os.truncate(path, 1 << 40)
    with pytest.raises(ScanError, match="goes on after the"):
        read_volume(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.nii.gz")
    with pytest.raises(ScanError, match="a pipe, not a file; give"):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(path: str) -> None:
    with pytest.raises(ScanError, match="a device, not a file"):
        read_volume(path)


# what honest files do


@pytest.mark.parametrize("block", [100, 4096, 1 << 20])
def test_blocks_padding_and_trailers_of_honest_tools_are_read(tmp_path: Path, block: int) -> None:
    """What bgzip writes: a member of each block, an empty one at the end; tapes add zeros."""
    parts = [gzip.compress(SCAN[at : at + block]) for at in range(0, len(SCAN), block)]
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(parts) + members(1) + bytes(512))
    assert np.array_equal(read_volume(path).data, NOISE)


def test_a_brain_alone_in_a_large_box_is_no_bomb(tmp_path: Path) -> None:
    data = np.zeros((210, 210, 210))
    data[60:120, 60:120, 60:120] = np.random.default_rng(1).integers(1, 200, (60, 60, 60))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nib.Nifti1Image(data, np.eye(4)).to_bytes(), 1))
    assert open_raw(path, most_ratio=SCAN_RATIO).layout.shape == (210, 210, 210)


@pytest.mark.parametrize("size", [1, 1000, 1 << 16, 1 << 20])
def test_the_stream_gives_what_python_gives(size: int) -> None:
    rng = np.random.default_rng(size)
    plain = rng.integers(0, 4, 60_000).astype(np.uint8).tobytes()
    content = gzip.compress(plain[:20_000]) + bytes(99) + gzip.compress(plain[20_000:])
    stream, found = GzipStream(io.BytesIO(content)), bytearray()
    while len(found) < 5000 or size > 1:
        piece = stream.read(size)
        if not piece:
            break
        assert len(piece) <= size
        found += piece
    assert bytes(found) == plain[: len(found)]
    assert size == 1 or len(found) == len(plain)


def test_members_are_counted_against_what_they_hold() -> None:
    stream = GzipStream(io.BytesIO(members(FREE_MEMBERS, b"x") + members(2, b"y")))
    with pytest.raises(gzip.BadGzipFile, match="members"):
        b"".join(iter(lambda: stream.read(1 << 20), b""))
