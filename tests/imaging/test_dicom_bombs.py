"""Files and archives made to exhaust the reader: refused at once and within 300 MB.

One process that has imported all that the command needs for a refusal, which is no torch,
makes a child for each file. The child runs ``ddmseg segment`` and tells its processor time
and the most memory that it ever had.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info

from ddmseg.imaging.dicom.file import DEFLATED
from dicom_files import MR, PATIENT, affine_of, base_dataset, slice_datasets

# Of the processor. Each takes well under a second; a busy machine may need several times as much,
# while a reader without the guard would take minutes, or the memory that is bounded below.
MOST_SECONDS = 5.0
MOST_KILOBYTES = 300_000
MEGABYTE = 1 << 20
PLAIN, IMPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"
AFFINE = affine_of(np.eye(3))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux tells it")

REFEREE = """
import contextlib, io, json, os, resource, sys
import pydicom.filereader, pydicom.encaps, pydicom.pixels
import ddmseg.imaging.dicom.series_selection
import ddmseg.cli.commands.segment
from ddmseg.cli.main import main

def refusal(path):
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        code = main(["segment", path, "-o", path + " results"])
    errors = [line for line in told.getvalue().splitlines() if line.startswith("error: ")]
    return errors[0] if code == 1 and len(errors) == 1 and "torch" not in sys.modules else None

def seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

for line in sys.stdin:
    if (child := os.fork()) == 0:
        start = seconds()
        told = refusal(json.loads(line))
        spent = seconds() - start
        with open("/proc/self/status") as status:
            peak = status.read().split("VmHWM:")[1].split()[0]
        print(json.dumps([told, spent, int(peak)]), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        print(json.dumps(["the child died", 99.0, 1 << 40]), flush=True)
"""


@dataclass(frozen=True)
class Verdict:
    """What a file was refused with, and what that cost."""

    told: str | None
    seconds: float
    kilobytes: int


@pytest.fixture(scope="module")
def judged() -> Iterator[Callable[[Path], Verdict]]:
    with subprocess.Popen(
        [sys.executable, "-c", REFEREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as referee:
        assert referee.stdin is not None
        assert referee.stdout is not None

        def judge(path: Path) -> Verdict:
            print(json.dumps(str(path)), file=referee.stdin, flush=True)
            return Verdict(*json.loads(referee.stdout.readline()))

        yield judge
        referee.stdin.close()


# --- parts ------------------------------------------------------------------


def meta(syntax: str = PLAIN) -> bytes:
    """All that stands before a data set."""
    info = base_dataset(Path("x"), MR, "1.2").file_meta
    info.TransferSyntaxUID = syntax
    stream = io.BytesIO(b"\0" * 128 + b"DICM")
    stream.seek(0, io.SEEK_END)
    write_file_meta_info(stream, info)
    return stream.getvalue()


def element(group: int, number: int, kind: bytes, length: int) -> bytes:
    """The head of an element of a kind that has 32 bits for its length."""
    return struct.pack("<HH2sHL", group, number, kind, 0, length)


def item(length: int = 0) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, length)


def image(rows: int = 4, columns: int = 5, *, place: int = 0, pixels: bool = False) -> bytes:
    """A data set of a series of two slices."""
    datasets = slice_datasets(Path("x"), np.ones((5, 4, 2), np.uint16), AFFINE, series="1.2.3")
    dataset = datasets[place]
    dataset.Rows, dataset.Columns = rows, columns
    if not pixels:
        del dataset.PixelData
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, dataset)
    return stream.getvalue()


def deflated(start: bytes, zeros_megabytes: int, end: bytes = b"") -> bytes:
    """Something, many zeros and something, deflated; a flush makes blocks that can be repeated."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [squeezer.compress(start), squeezer.flush(zlib.Z_FULL_FLUSH)]
    block = squeezer.compress(bytes(MEGABYTE)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    parts += [block] * zeros_megabytes
    return b"".join((*parts, squeezer.compress(end), squeezer.flush()))


def deflated_file(folder: Path, start: bytes, zeros_megabytes: int) -> Path:
    path = folder / "a.dcm"
    path.write_bytes(meta(DEFLATED) + deflated(start, zeros_megabytes))
    return path


def plain(folder: Path, *content: bytes, size: int = 0, syntax: str = PLAIN) -> Path:
    """A file, and a hole behind its content up to a size."""
    path = folder / "a.dcm"
    path.write_bytes(meta(syntax) + b"".join(content))
    if size:
        os.truncate(path, size)
    return path


def with_another(path: Path, rows: int = 4, columns: int = 5, syntax: str = PLAIN) -> Path:
    """The folder of a bad slice and of the next: one alone is refused before it is read."""
    second = path.parent / "b.dcm"
    if (rows, columns) == (4, 5) or syntax != PLAIN:
        second.write_bytes(meta(syntax) + image(rows, columns, place=1, pixels=True))
    else:
        size = 2 * rows * columns
        start = meta(syntax) + image(rows, columns, place=1) + element(*PIXELS, size)
        second.write_bytes(start)
        os.truncate(second, len(start) + size)
    return path.parent


def packed(path: Path, members: list[tuple[bytes, int]], *, padding: int = 0) -> Path:
    """A zip of members of zeros behind a start, each deflated once and written as often as wanted.

    Zeros are repeated as :func:`deflated` does; ``padding`` bytes that do not shrink go in first.
    """
    body, directory = [], []
    at = 0

    def add(name: bytes, raw: bytes, checksum: int, size: int, method: int) -> None:
        nonlocal at
        fields = (20, 0, method, 0, 0, checksum, len(raw), size, len(name))
        body.append(struct.pack("<4s5H3L2H", b"PK\3\4", *fields, 0) + name + raw)
        directory.append(
            struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, *fields, 0, 0, 0, 0, 0, at) + name
        )
        at += len(body[-1])

    noise = np.random.default_rng(0).bytes(padding)
    add(b"noise", noise, zlib.crc32(noise), padding, 0)
    made: dict[tuple[bytes, int], tuple[bytes, int, int]] = {}
    for number, (start, zeros) in enumerate(members):
        if (start, zeros) not in made:
            checksum = zlib.crc32(start)
            for _ in range(zeros):
                checksum = zlib.crc32(bytes(MEGABYTE), checksum)
            size = len(start) + zeros * MEGABYTE
            made[start, zeros] = (deflated(start, zeros), checksum, size)
        add(b"%d" % number, *made[start, zeros], 8)
    entries = b"".join(directory)
    count = len(directory)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(entries), at, 0)
    path.write_bytes(b"".join((*body, entries, end)))
    return path


def listed(path: Path, entries: int) -> Path:
    """An archive that is nothing but its list."""
    raw = (b"PK\1\2" + bytes(42)) * entries
    path.write_bytes(raw + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(raw), 0, 0))
    return path


PRIVATE = element(0x0009, 0x1010, b"OB", 0xFFFFFFF0)
"""An element that nobody wants and that pretends to be endless."""
REPORT_CLASS = struct.pack("<HH2sH", 0x0008, 0x0016, b"UI", 30) + b"1.2.840.10008.5.1.4.1.1.88.11\0"
"""What has no image and is none that was cut off: a structured report."""
FRAMES = (0x5200, 0x9230, b"SQ")
NESTED = element(0x0008, 0x1140, b"SQ", 0xFFFFFFFF)
PIXELS = (0x7FE0, 0x0010, b"OW")
HUGE = image(8192, 8192)


def numbers(count: int) -> bytes:
    """An image position of very many numbers, in a file that leaves out the kinds."""
    text = b"1\\" * count
    return struct.pack("<HHL", 0x0020, 0x0032, len(text)) + text


def private(megabytes: int) -> bytes:
    return element(0x0009, 0x1010, b"OB", megabytes * MEGABYTE)


def fragments(count: int) -> bytes:
    return element(0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + item() * count


BOMBS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "deflated zeros": (lambda f: deflated_file(f, b"", 900), "too many elements for a scan"),
    "deflated zeros before the pixels": (
        lambda f: deflated_file(f, private(800), 900),
        "inflates to more than 33554432 bytes",
    ),
    "deflated pixels above the promised": (
        lambda f: with_another(deflated_file(f, image() + element(*PIXELS, 800 << 20), 900)),
        "more than 1048616 bytes of pixels where its header promises fewer",
    ),
    "deflated pixels without end": (
        lambda f: with_another(deflated_file(f, image() + element(*PIXELS, 0xFFFFFFFF), 900)),
        "more than 1048616 bytes of pixels where its header promises fewer",
    ),
    "deflated pixels as promised": (
        lambda f: with_another(
            deflated_file(f, HUGE + element(*PIXELS, 128 << 20), 900), 8192, 8192
        ),
        "inflates to more than 50 times its size",
    ),
    "zeros": (lambda f: plain(f, size=900 * MEGABYTE), "too many elements for a scan"),
    "pixels above the promised": (
        lambda f: with_another(plain(f, image(), element(*PIXELS, 800 << 20), size=900 << 20)),
        "more than 1048616 bytes of pixels where its header promises fewer",
    ),
    "pixels that are not there": (
        lambda f: with_another(plain(f, HUGE, element(*PIXELS, 128 << 20)), 8192, 8192),
        "holds no pixels, or is cut off before them",
    ),
    "frames of 900 MB": (
        lambda f: plain(f, image(), element(*FRAMES, 800 * MEGABYTE), size=900 * MEGABYTE),
        "its header is above 33554432 bytes",
    ),
    "nested empty items": (
        lambda f: plain(f, NESTED, item() * 300_000),
        "too many elements for a scan, above 100000",
    ),
    "empty frames": (
        lambda f: plain(f, element(*FRAMES, 8 * 200_000), item() * 200_000),
        "too many elements for a scan",
    ),
    "as many empty frames as are allowed": (
        lambda f: plain(f, image(), element(*FRAMES, 8 * 33_000), item() * 33_000),
        "1 images and the places of 0",
    ),
    "empty elements in a frame": (
        lambda f: plain(
            f, element(*FRAMES, 8 + 16_000_000), item(16_000_000), b"\x08\0\x05\0CS\0\0" * 2_000_000
        ),
        "too many elements for a scan",
    ),
    "deep sequences": (
        lambda f: plain(f, (NESTED + item(0xFFFFFFFF)) * 5000),
        "sequences are nested too deep, above 24",
    ),
    "very many numbers": (
        lambda f: plain(f, numbers(4_000_000), syntax=IMPLICIT),
        "its header is above 65536 bytes",
    ),
    "very many fragments": (
        lambda f: with_another(plain(f, HUGE, fragments(4_000_000), syntax=RLE), 8192, 8192, RLE),
        "compressed pixels in more than 50000 pieces",
    ),
    "zip of zeros": (
        lambda f: packed(f / "a.zip", [(bytes(128) + b"DICM", 24)] * 4),
        "it inflates to more than 50 times its size",
    ),
    "zip of a member within the ratio": (
        lambda f: packed(f / "a.zip", [(meta() + PRIVATE, 190)], padding=4 << 20),
        "member 2: inflates to more than 33554432 bytes",
    ),
    "zip of twenty members within the ratio": (
        lambda f: packed(f / "a.zip", [(meta() + PRIVATE, 190)] * 20, padding=80 << 20),
        "member 2: inflates to more than 33554432 bytes",
    ),
    "zip of headers below the limit of one": (
        lambda f: packed(
            f / "a.zip", [(meta() + REPORT_CLASS + private(30), 30)] * 20, padding=13 << 20
        ),
        "the headers of its files are too large",
    ),
    "zip of pixels above the promised": (
        lambda f: packed(
            f / "a.zip",
            [
                (meta() + image() + element(*PIXELS, 150 << 20), 150),
                (meta() + image(place=1, pixels=True), 0),
            ],
            padding=6 << 20,
        ),
        "more than 1048616 bytes of pixels where its header promises fewer",
    ),
    "zip of a deflated file": (
        lambda f: packed(f / "a.zip", [(meta(DEFLATED) + deflated(private(800), 900), 0)]),
        "member 2: inflates to more than 33554432 bytes",
    ),
    "zip of an endless list": (
        lambda f: listed(f / "a.zip", 400_000),
        "its list of members is above 16777216 bytes",
    ),
    "zip of a long list": (
        lambda f: listed(f / "a.zip", 300_000),
        "more than 50000 files",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_refused_at_once_and_within_300_megabytes(
    tmp_path: Path, judged: Callable[[Path], Verdict], name: str
) -> None:
    build, told = BOMBS[name]
    folder = tmp_path / PATIENT
    folder.mkdir()
    path = build(folder)
    before = sorted(tmp_path.rglob("*"))
    verdict = judged(path)
    assert verdict.told is not None, "it was taken for a scan, or refused late"
    assert told in verdict.told
    assert "\n" not in verdict.told
    assert verdict.seconds < MOST_SECONDS
    assert verdict.kilobytes < MOST_KILOBYTES
    assert sorted(tmp_path.rglob("*")) == before
