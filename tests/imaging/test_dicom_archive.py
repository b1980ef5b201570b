"""Zip archives as input: read in memory, and refused before they can do harm."""

from __future__ import annotations

import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom import archive as dicom_archive
from ddmseg.imaging.dicom.archive import archive_members
from ddmseg.imaging.dicom.pixels import read_pixels
from ddmseg.imaging.dicom.series import list_series, read_series
from dicom_files import affine_of, assert_same_world, enhanced_dataset, save, scan, write_series

AFFINE = affine_of(np.eye(3))
ZEROS = bytes(1 << 20)


def zipped(path: Path, folder: Path, *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def refused(path: Path) -> str:
    """The line with which an archive is refused, at once and unwritten."""
    beside = sorted(path.parent.rglob("*"))
    start = time.process_time()
    with pytest.raises(ScanError) as caught:
        list_series(path)
    assert time.process_time() - start < 5  # some tenths; a busy machine needs more
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
    path = bomb(tmp_path / "a.zip", 1, start=bytes(128) + b"DICM")
    edited(path, {24: struct.pack("<L", 300 << 20)})
    assert "inflates to 314572800 bytes; at most 301989888 are allowed" in refused(path)


def test_many_members_that_inflate_far_are_refused(tmp_path: Path) -> None:
    told = refused(bomb(tmp_path / "a.zip", 24, members=4, start=bytes(128) + b"DICM"))
    assert "it inflates to more than 50 times its size" in told
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


def test_a_list_of_more_members_than_allowed_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    entries = (b"PK\x01\x02" + bytes(42)) * 60_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entries), 0, 0)
    path.write_bytes(entries + end)
    assert "more than 50000 files; zip one examination at a time" in refused(path)


def test_headers_have_one_allowance_and_pixels_take_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_archive, "HEADER_BYTES", 4000)
    monkeypatch.setattr(dicom_archive, "HEADER_BYTES_OF_EACH", 0)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.dcm", bytes(1500))
    first, second, third = archive_members(path, max_files=9)
    for _ in range(3):
        assert sum(map(len, first.chunks())) == 1500
    assert sum(map(len, first.chunks(header=True))) == 1500
    assert sum(map(len, second.chunks(header=True))) == 1500
    with pytest.raises(ScanError, match="the headers of its files are too large; the archive"):
        list(third.chunks(header=True))


def test_a_large_frame_file_in_an_archive_is_read(tmp_path: Path) -> None:
    data = scan((256, 256, 100))  # 13 MB, of which a list inflates the first 64 kB
    save([enhanced_dataset(tmp_path / "in" / "a.dcm", data, AFFINE)])
    (series,) = list_series(zipped(tmp_path / "a.zip", tmp_path / "in"))
    np.testing.assert_array_equal(
        read_pixels(series.frames, series.headers, series.name), data.astype(np.float32)
    )


def test_members_are_known_by_number_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Doe^Jane/", b"")
        archive.writestr("Doe^Jane/IM1", b"abc")
    (member,) = archive_members(path, max_files=9)
    assert "Doe" not in repr(member) + str(member)
    assert list(member.chunks(2)) == [b"ab", b"c"]
    assert (member.number, member.size, member.start(2)) == (2, 3, b"ab")
    assert member == archive_members(path, max_files=9)[0]
