"""Zip archives as input: read in memory, and refused before they can do harm."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom import list_series, read_series
from ddmseg.imaging.dicom_archive import archive_members
from dicom_files import affine_of, assert_same_world, scan, write_series

AFFINE = affine_of(np.eye(3))
ZEROS = bytes(1 << 20)


def zipped(path: Path, folder: Path, *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def refused(path: Path) -> str:
    """The line with which an archive is refused, within a second and unwritten."""
    beside = sorted(path.parent.rglob("*"))
    start = time.process_time()
    with pytest.raises(ScanError) as caught:
        list_series(path)
    assert time.process_time() - start < 1
    assert sorted(path.parent.rglob("*")) == beside
    told = str(caught.value)
    assert "\n" not in told
    return told


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_series_in_an_archive_is_the_series_in_its_folder(tmp_path: Path, method: int) -> None:
    data = scan((12, 9, 5))
    write_series(tmp_path / "in" / "deep" / "er", data, AFFINE)
    (tmp_path / "in" / "readme.txt").write_text("no DICOM")
    (tmp_path / "in" / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + b"damaged")
    path = zipped(tmp_path / "export.zip", tmp_path / "in", method=method)
    (series,) = list_series(path)
    assert_same_world(read_series(series), data, AFFINE)
    assert len(series.paths) == 5
    assert str(series.paths[0]) == f"{path}, member {series.paths[0].number}"


def test_an_archive_in_an_archive_is_passed_over(tmp_path: Path) -> None:
    data = scan()
    write_series(tmp_path / "in", data, AFFINE)
    zipped(tmp_path / "in" / "inner.zip", tmp_path / "in")
    (series,) = list_series(zipped(tmp_path / "outer.zip", tmp_path / "in"))
    assert_same_world(read_series(series), data, AFFINE)


def test_an_archive_without_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert "no DICOM file here; give a folder with DICOM or NIfTI files" in refused(path)


@pytest.mark.parametrize(
    "name", ["../evil.dcm", "a/../../evil.dcm", "/tmp/evil.dcm", r"a\..\..\evil.dcm", "C:evil.dcm"]
)
def test_paths_that_lead_out_are_refused_and_not_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.dcm", b"x")
        archive.writestr(name, bytes(128) + b"DICM")
    told = refused(path)
    assert f"{path}, member 2: its path leads out of the archive" in told
    assert "evil" not in told


def test_links_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link.dcm")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    assert "member 1: a link, not a file; zip the files themselves" in refused(path)


def bomb(path: Path, megabytes: int, *, members: int = 1, start: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(members):
            with archive.open(f"{number}.dcm", "w") as stream:
                stream.write(start)
                for _ in range(megabytes):
                    stream.write(ZEROS)
    return path


def test_a_member_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.zip", 200, start=bytes(128) + b"DICM")
    assert path.stat().st_size < 1 << 20
    assert "inflates to 209715332 bytes; at most 201326592 are allowed" in refused(path)


def test_many_members_that_inflate_far_are_refused(tmp_path: Path) -> None:
    told = refused(bomb(tmp_path / "a.zip", 24, members=4, start=bytes(128) + b"DICM"))
    assert "it inflates to more than 200 times its size" in told
    assert told.endswith("the archive is damaged or hostile; unpack it and give the folder")


def edited(path: Path, change: dict[int, bytes]) -> Path:
    """Change the only entry of the central directory at the offsets given."""
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    for offset, value in change.items():
        raw[at + offset : at + offset + len(value)] = value
    path.write_bytes(bytes(raw))
    return path


def test_an_archive_that_promises_more_than_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(40):
            archive.writestr(f"{number}.dcm", b"x")
    raw = path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x02")
    parts = raw.split(b"PK\x01\x02")
    size = struct.pack("<L", 150 << 20)
    parts[1:] = [part[:20] + size + part[24:] for part in parts[1:]]
    path.write_bytes(b"PK\x01\x02".join(parts))
    assert "it inflates to 6291456000 bytes and 4294967296 are allowed" in refused(path)


def test_a_member_larger_than_it_promises_is_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.zip", 30, start=bytes(128) + b"DICM")
    told = refused(edited(path, {24: struct.pack("<L", 1000)}))
    assert "member 1: damaged or cut off; copy the archive again" in told


def test_passwords_and_rare_methods_are_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.zip", 1)
    assert "protected by a password" in refused(edited(path, {8: b"\x01\0"}))
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.dcm", b"x" * 100)
    assert "compressed in a way that is not read here" in refused(path)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "in", scan(), AFFINE)
    path = zipped(tmp_path / "a.zip", tmp_path / "in")
    raw = bytearray(path.read_bytes())
    middle = raw.index(b"PK\x03\x04") + 60
    raw[middle : middle + 40] = bytes(40)
    path.write_bytes(bytes(raw))
    assert "damaged or cut off; copy the archive again" in refused(path)
    path.write_bytes(b"PK\x05\x06" + bytes(18))
    assert "no DICOM file here" in refused(path)


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "in", scan(), AFFINE)
    path = zipped(tmp_path / "a.zip", tmp_path / "in")
    with pytest.raises(ScanError, match="more than 2 files; zip one examination at a time"):
        archive_members(path, max_files=2)


def test_an_endless_list_of_members_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    entry = b"PK\x01\x02" + bytes(42)
    entries = entry * 400_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entries), 0, 0)
    path.write_bytes(entries + end)
    assert "its list of members is above 16777216 bytes" in refused(path)


def test_an_endless_list_told_in_zip64_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    length = 400_000 * 46
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, length, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, length, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes((b"PK\x01\x02" + bytes(42)) * 400_000 + wide + locator + end)
    assert "its list of members is above 16777216 bytes" in refused(path)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux tells it")
def test_bombs_are_refused_in_300_megabytes(tmp_path: Path) -> None:
    bombs = [
        bomb(tmp_path / "one.zip", 200, start=bytes(128) + b"DICM"),
        bomb(tmp_path / "many.zip", 24, members=4, start=bytes(128) + b"DICM"),
    ]
    code = (
        "import sys\n"
        "from ddmseg.imaging.dicom import list_series\n"
        "for path in sys.argv[1:]:\n"
        "    try: list_series(path)\n"
        "    except Exception as error: print(type(error).__name__)\n"
        "status = open('/proc/self/status').read()\n"
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, *map(str, bombs)], capture_output=True, text=True, check=True
    )
    *kinds, peak = told.stdout.split()
    assert kinds == ["ScanError", "ScanError"]
    assert int(peak) < 300_000


def test_members_are_known_by_number_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Doe^Jane/", b"")
        archive.writestr("Doe^Jane/IM1", b"abc")
    (member,) = archive_members(path, max_files=9)
    assert "Doe" not in repr(member) + str(member)
    assert isinstance(member.open(), io.BytesIO)
    assert (member.number, member.size, member.start(2)) == (2, 3, b"ab")
    assert member == archive_members(path, max_files=9)[0]
