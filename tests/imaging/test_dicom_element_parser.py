"""Where elements lie, against pydicom, whatever the encoding and nesting."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom import element_parser as dicom_walk
from ddmseg.imaging.dicom.element_parser import UNDEFINED, Element, ElementParser

VALUES = {
    "SeriesDescription": st.text("abc ", max_size=9),
    "Rows": st.integers(0, 65535),
    "EchoTime": st.integers(0, 999).map(str),
    "ImageType": st.lists(st.sampled_from(["A", "BC"]), max_size=3),
    "EffectiveEchoTime": st.floats(0, 9),
    "RedPaletteColorLookupTableData": st.binary(max_size=4).map(lambda b: b + b[: len(b) % 2]),
}
SEQUENCES = ("ReferencedImageSequence", "MREchoSequence", "PlanePositionSequence")
Encoding = tuple[bool, bool]  # implicit, little endian
ENCODINGS: list[Encoding] = [(True, True), (False, True), (False, False)]


@st.composite
def datasets(draw: st.DrawFn, depth: int = 2) -> Dataset:
    dataset = Dataset()
    for keyword, value in draw(st.fixed_dictionaries({}, optional=VALUES)).items():
        setattr(dataset, keyword, value)
    for keyword in draw(st.sets(st.sampled_from(SEQUENCES))) if depth else ():
        items = draw(st.lists(datasets(depth - 1), max_size=3))
        for one in items:
            one.is_undefined_length_sequence_item = draw(st.booleans())
        setattr(dataset, keyword, items)
        dataset[keyword].is_undefined_length = draw(st.booleans())
    return dataset


def stored(dataset: Dataset, encoding: Encoding) -> bytes:
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = encoding
    write_dataset(stream, dataset)
    return stream.getvalue()


def walked(raw: bytes, encoding: Encoding = (False, True)) -> list[Element]:
    walker = ElementParser(
        io.BytesIO(raw), "it", explicit=not encoding[0], big_endian=not encoding[1]
    )
    found = list(walker.elements(0))
    for element in found:
        walker.look_into(element)
    return found


@settings(max_examples=40)
@given(dataset=datasets(), encoding=st.sampled_from(ENCODINGS))
def test_elements_lie_where_pydicom_finds_them(dataset: Dataset, encoding: Encoding) -> None:
    raw = stored(dataset, encoding)
    found = walked(raw, encoding)
    theirs = read_dataset(io.BytesIO(raw), *encoding)
    assert [element.tag for element in found] == [element.tag for element in theirs]
    ends = [element.end for element in found]
    assert ends == [*[element.start for element in found[1:]], len(raw)][: len(ends)]
    for element in found:  # each, cut out, is read as it is in its place
        alone = read_dataset(io.BytesIO(raw[element.start : element.end]), *encoding)
        assert alone[element.tag] == theirs[element.tag]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_known_element_is_no_sequence_whatever_its_value_begins_with(encoding: Encoding) -> None:
    """As pydicom has it: the dictionary says what it is where the file does not."""
    dataset = Dataset()
    dataset.add_new(0x00281201, "OW", b"\xfe\xff\x00\xe0\xfe\xff\x00\xe0" * 2)
    raw = stored(dataset, encoding)
    (element,) = walked(raw, encoding)
    assert element.tag == 0x00281201
    assert element.end == len(raw)


@settings(max_examples=40)
@given(dataset=datasets(), encoding=st.sampled_from(ENCODINGS), limit=st.integers(1, 60))
def test_every_element_counts(dataset: Dataset, encoding: Encoding, limit: int) -> None:
    raw = stored(dataset, encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dicom_walk, "MAX_ELEMENTS", limit)
        if _count(read_dataset(io.BytesIO(raw), *encoding)) > limit:
            with pytest.raises(ScanError, match=f"it: too many elements for a scan, above {limit}"):
                walked(raw, encoding)


def _count(dataset: Dataset) -> int:
    total = 0
    for element in dataset:
        total += 1
        if element.VR == "SQ":
            total += sum(dicom_walk.ITEM_COST + _count(one) for one in element.value)
    return total


def head(tag: int, kind: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, kind, 0, length)


def item(length: int = 0, number: int = 0xE000) -> bytes:
    return struct.pack("<HHL", 0xFFFE, number, length)


def test_pixels_end_the_walk() -> None:
    raw = head(0x7FE00010, b"OB", UNDEFINED) + item(4) + b"abcd"
    (element,) = walked(raw)
    assert element == Element(0x7FE00010, b"OB", 0, 12, UNDEFINED, 12)
    assert walked(head(0x7FE00010, b"OW", 2) + b"ab" + b"junk" * 9)[0].end == 14


def test_fragments_of_an_icon_are_not_taken_for_elements() -> None:
    icon = head(0x7FE00010, b"OB", UNDEFINED) + item(8) + item(UNDEFINED) + item(0, 0xE0DD)
    raw = head(0x00880200, b"SQ", UNDEFINED) + item(len(icon)) + icon + item(0, 0xE0DD)
    assert [element.end for element in walked(raw)] == [len(raw)]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (head(0x00081140, b"SQ", UNDEFINED) + item(UNDEFINED), "cut off in a sequence"),
        (head(0x00081140, b"SQ", UNDEFINED) + b"\x08\0\x05\0CS\0\0", "no item in a sequence"),
        (
            (head(0x00081140, b"SQ", UNDEFINED) + item(UNDEFINED)) * 30,
            "sequences are nested too deep, above 24",
        ),
    ],
)
def test_damage(raw: bytes, told: str) -> None:
    with pytest.raises(ScanError, match=f"^it: .*{told}"):
        walked(raw)


def test_a_group_can_be_the_last() -> None:
    raw = b"\x02\0\x10\0UI\x02\x001\0" + b"\x08\0\x05\0CS\0\0"
    walker: Any = ElementParser(io.BytesIO(raw), "it", explicit=True)
    assert [element.tag for element in walker.elements(0, group=2)] == [0x00020010]
