"""DICOM files changed at random: each is read, or refused in one line that names nobody.

Seeds are fixed. ``DDMSEG_FUZZ=20000`` tries so many in place of 360.
"""

from __future__ import annotations

import io
import os
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import RLELossless

from ddmseg.errors import DdmsegError, ScanError
from ddmseg.imaging.dicom.file import DEFLATED
from ddmseg.imaging.dicom.reference import check_reference
from ddmseg.imaging.dicom.series import list_series, read_series
from ddmseg.imaging.dicom.series_selection import choose_series, describe_series
from dicom_files import PATIENT, affine_of, enhanced_dataset, scan, slice_datasets

SEEDS = 4
CASES = int(os.environ.get("DDMSEG_FUZZ", "360")) // (3 * SEEDS)
AFFINE = affine_of(np.eye(3))
KINDS = b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC".split()
KINDS += [*b"UI UL UN UR US UT UV ZZ zz".split(), b"\0\0", b"\xff\xff"]
VALUES = (
    *(b"", b"\\", b"-1", b"0", b"1e309", b"nan", b"-inf", b"1\\1", b"1\\2\\3\\4\\5\\6", b"\x1b[2J"),
    *(b"\0" * 8, b"\xff" * 8, b"\x80\0", b"9" * 40, b"1.2\\1.3", b"\\" * 70, b"\xfe\xff\x00\xe0"),
)


def written(dataset: object) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)  # type: ignore[attr-defined]
    return stream.getvalue()


def classic(*, rle: bool = False) -> list[bytes]:
    datasets = slice_datasets(Path("x"), scan(), AFFINE, series="1.2.3")
    for dataset in datasets:
        dataset.RescaleSlope = "1"
        dataset.EchoTime = "5"
        if rle:
            dataset.compress(RLELossless, encoding_plugin="pydicom")
    return [written(dataset) for dataset in datasets]


def enhanced() -> list[bytes]:
    return [written(enhanced_dataset(Path("x/a.dcm"), scan(), AFFINE))]


def deflated(raw: bytes) -> bytes:
    """The data set of a file, deflated after whatever has been changed in it."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = 144 + int.from_bytes(raw[140:144], "little")
    meta = raw[:start].replace(b"1.2.840.10008.1.2.1\0", DEFLATED.encode())
    meta = meta[:140] + (len(meta) - 144).to_bytes(4, "little") + meta[144:]
    at = meta.find(DEFLATED.encode())
    if at < 0:
        return raw
    meta = meta[: at - 2] + len(DEFLATED).to_bytes(2, "little") + meta[at:]
    return meta + squeezer.compress(raw[start:]) + squeezer.flush()


SOURCES: dict[str, Callable[[], list[bytes]]] = {
    "classic": classic,
    "compressed": lambda: classic(rle=True),
    "enhanced": enhanced,
}


def elements(raw: bytes) -> list[int]:
    """Where elements of text, numbers and sequences may begin, at any depth."""
    return [at for at in range(132, len(raw) - 8) if raw[at + 4 : at + 6] in _KNOWN]


_KNOWN = frozenset(KINDS[:-4])


def changed(raw: bytes, chance: random.Random) -> bytes:
    """One file with one to three changes."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        raw = chance.choice(CHANGES)(raw, chance)
    return raw


def _bits(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(132, len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]


def _cut(raw: bytes, chance: random.Random) -> bytes:
    return raw[: chance.randrange(133, len(raw))]


def _removed(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(132, len(raw))
    return raw[:at] + raw[at + chance.randrange(1, 40) :]


def _repeated(raw: bytes, chance: random.Random) -> bytes:
    at, length = chance.randrange(132, len(raw)), chance.randrange(1, 200)
    return raw[:at] + raw[at : at + length] * chance.choice((2, 3, 50)) + raw[at + length :]


def _kind(raw: bytes, chance: random.Random) -> bytes:
    at = chance.choice(elements(raw) or [132])
    return raw[: at + 4] + chance.choice(KINDS) + raw[at + 6 :]


def _length(raw: bytes, chance: random.Random) -> bytes:
    at = chance.choice(elements(raw) or [132])
    length = chance.choice((0, 1, 7, 0x7FFF, 0xFFFF)).to_bytes(2, "little")
    return raw[: at + 6] + length + raw[at + 8 :]


def _value(raw: bytes, chance: random.Random) -> bytes:
    """Another value, and often another kind, with the length that fits it."""
    at = chance.choice(elements(raw) or [132])
    length = int.from_bytes(raw[at + 6 : at + 8], "little")
    value = chance.choice(VALUES)
    value += b" " * (len(value) % 2)
    kind = chance.choice((raw[at + 4 : at + 6], b"LO", b"US", b"SS", b"ST", b"IS", b"PN", b"ZZ"))
    head = raw[at : at + 4] + kind + len(value).to_bytes(2, "little")
    return raw[:at] + head + value + raw[at + 8 + length :]


def _nested(raw: bytes, chance: random.Random) -> bytes:
    """Sequences in sequences, before some element."""
    at = chance.choice(elements(raw) or [132])
    head = raw[at : at + 4] + b"SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return raw[:at] + head * chance.choice((1, 5, 30, 2000)) + raw[at:]


CHANGES = (_bits, _cut, _removed, _repeated, _kind, _length, _value, _value, _nested)


def outcome(folder: Path) -> Iterator[str]:
    """What is told of an input on its whole way; an exception of ours at its end is told too."""
    try:
        listed = list_series(folder)
        for series in listed:
            yield series.name
            yield describe_series(series)
        choice = choose_series(listed)
        yield choice.why
        read_series(choice.series)
        check_reference(choice.series, placed=True)
    except DdmsegError as error:
        yield str(error).replace(str(folder), "")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_changed_files_are_read_or_refused(tmp_path: Path, source: str, seed: int) -> None:
    chance = random.Random(f"{source} {seed}")
    sound = SOURCES[source]()
    for number, one in enumerate(sound):
        (tmp_path / f"{number}.dcm").write_bytes(one)
    ends = set()
    for case in range(CASES):
        bad = changed(sound[0], chance)
        (tmp_path / "0.dcm").write_bytes(deflated(bad) if case % 5 == 0 else bad)
        for line in outcome(tmp_path):
            assert line.isprintable(), (source, seed, case)
            assert PATIENT not in line, (source, seed, case)
            assert "unexpected" not in line
        ends.add(line)
    assert len(ends) > 3  # changes reach many places


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "no rows": lambda raw: _set(raw, 0x10, b"SS", b"\xfc\xff"),
    "no columns": lambda raw: _set(raw, 0x11, b"SL", b"\xff\xff\xff\xff"),
    "no bits": lambda raw: _set(raw, 0x100, b"SS", b"\xf0\xff"),
    "no samples": lambda raw: _set(raw, 0x02, b"SS", b"\xff\xff"),
}


def _set(raw: bytes, number: int, kind: bytes, value: bytes) -> bytes:
    """Put another value where an element of group 0028 has two bytes."""
    at = raw.index(b"\x28\0" + number.to_bytes(2, "little") + b"US")
    head = raw[at : at + 4] + kind + len(value).to_bytes(2, "little")
    return raw[:at] + head + value + raw[at + 10 :]


@pytest.mark.parametrize("form", FORMS)
def test_sizes_that_no_image_has_are_refused(tmp_path: Path, form: str) -> None:
    for number, raw in enumerate(classic()):
        (tmp_path / f"{number}.dcm").write_bytes(FORMS[form](raw))
    with pytest.raises(ScanError, match=r"damaged DICOM file \(-\d+ [a-z ]+; there must be 1 to"):
        list_series(tmp_path)


@pytest.mark.parametrize("uid", [["1.2", "1.3"], "no UID", "1." * 40 + "1"])
@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID", "SOPClassUID"])
def test_uids_that_are_none_or_several_are_refused_before_the_work(
    tmp_path: Path, keyword: str, uid: object
) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    for dataset in datasets:
        shown = "\\".join(uid) if isinstance(uid, list) else str(uid)
        dataset.add_new(keyword, "UT", shown)
        dataset.save_as(dataset.filename)
    (series,) = list_series(tmp_path)
    with pytest.raises(ScanError, match="its files hold UIDs that are none, or several for one"):
        check_reference(series, placed=True)
    if keyword == "FrameOfReferenceUID":
        check_reference(series, placed=False)  # the page alone does not lie in space


def test_a_patient_of_an_unknown_kind_is_refused_before_the_work(tmp_path: Path) -> None:
    for number, raw in enumerate(classic()):
        (tmp_path / f"{number}.dcm").write_bytes(raw.replace(b"\x10\0\x10\0PN", b"\x10\0\x10\0ZZ"))
    (series,) = list_series(tmp_path)
    with pytest.raises(ScanError) as caught:
        check_reference(series, placed=True)
    assert "while copying its patient and study); give the scanner's own series" in str(
        caught.value
    )
    assert PATIENT not in str(caught.value)
