"""Streams that inflate as far as they are read."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.bounds import CHUNK_BYTES, InflatedStream, inflated


def deflated(data: bytes) -> bytes:
    squeezer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeezer.compress(data) + squeezer.flush()


def counted(pieces: list[bytes], taken: list[int]) -> Iterator[bytes]:
    for number, piece in enumerate(pieces):
        taken.append(number)
        yield piece


@given(
    pieces=st.lists(st.binary(max_size=9), max_size=9),
    reads=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 30)), max_size=9),
)
def test_it_reads_as_a_file_does(pieces: list[bytes], reads: list[tuple[int, int]]) -> None:
    stream, file = InflatedStream(iter(pieces), 1000, "it"), io.BytesIO(b"".join(pieces))
    for at, size in reads:
        assert stream.seek(at) == file.seek(at)
        assert stream.read(size) == file.read(size)
        assert stream.read(size) == file.read(size)


def test_no_more_is_taken_than_is_read() -> None:
    taken: list[int] = []
    stream = InflatedStream(counted([b"abc"] * 9, taken), 1000, "it")
    assert stream.read(4) == b"abca"
    stream.seek(20)
    assert taken == [0, 1]
    assert stream.read(1) == b"c"
    assert taken == list(range(7))


def test_the_limit_can_be_raised() -> None:
    stream = InflatedStream(iter([b"abcde"] * 9), 9, "it")
    assert len(stream.read(10)) == 10
    with pytest.raises(ScanError, match="it: inflates to more than 9 bytes where no more are"):
        stream.read(1)
    stream.limit = 100
    stream.seek(0)
    assert len(stream.read(99)) == 45


@given(data=st.binary(max_size=999), behind=st.binary(max_size=9))
def test_deflated_content_comes_back_and_what_is_behind_stays(data: bytes, behind: bytes) -> None:
    assert b"".join(inflated(io.BytesIO(deflated(data) + behind), "it")) == data


def test_pieces_are_small_and_the_ratio_is_limited() -> None:
    sizes = []
    with pytest.raises(ScanError, match="it: inflates to more than 50 times its size"):  # noqa: PT012
        for piece in inflated(io.BytesIO(deflated(bytes(80 << 20))), "it"):
            sizes.append(len(piece))
    assert max(sizes) <= CHUNK_BYTES
    assert sum(sizes) <= 64 << 20


def test_damage_is_told() -> None:
    raw = deflated(bytes(range(256)) * 9)
    with pytest.raises(ScanError, match="it: the deflated content is cut off"):
        list(inflated(io.BytesIO(raw[:-9]), "it"))
    with pytest.raises(ScanError, match="it: the deflated content is damaged"):
        list(inflated(io.BytesIO(b"\xff" + raw), "it"))
