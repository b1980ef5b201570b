"""DICOM files that are damaged, cut off, compressed or made to exhaust the reader."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.rle import _rle_decode_segment
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.file import DEFLATED
from ddmseg.imaging.dicom.pixels import codestream_size, read_pixels, rle_length
from ddmseg.imaging.dicom.series import Series, list_series, read_series, refusal
from dicom_files import (
    MR,
    affine_of,
    assert_same_world,
    base_dataset,
    enhanced_dataset,
    save,
    scan,
    slice_datasets,
    write_series,
)

AFFINE = affine_of(np.eye(3))


def only(folder: Path) -> Series:
    (series,) = list_series(folder)
    return series


def refused(folder: Path) -> str:
    with pytest.raises(ScanError) as caught:
        read_series(only(folder))
    return str(caught.value)


def header_bytes(syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    meta = base_dataset(Path("x"), MR, "1.2").file_meta
    meta.TransferSyntaxUID = syntax
    stream = io.BytesIO(b"\0" * 128 + b"DICM")
    stream.seek(0, io.SEEK_END)
    pydicom.filewriter.write_file_meta_info(stream, meta)
    return stream.getvalue()


def deflated(path: Path, *, padding: int = 0) -> None:
    """Store a file's data set deflated, with zeros behind it."""
    raw = path.read_bytes()
    body = raw[144 + int.from_bytes(raw[140:144], "little") :]
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = squeezer.compress(body)
    for _ in range(padding >> 20):
        packed += squeezer.compress(b"\0" * (1 << 20))
    path.write_bytes(header_bytes(DEFLATED) + packed + squeezer.flush())


# --- damaged ----------------------------------------------------------------


def test_pixels_cut_off(tmp_path: Path) -> None:
    path = write_series(tmp_path, scan(), AFFINE)[1]
    path.write_bytes(path.read_bytes()[:-11])
    told = (
        "series-004_t1_mprage_sag, image 2: 29 bytes of pixels where the header promises 40; the "
        "file is cut off; export the series again"
    )
    assert refusal(only(tmp_path)) == told  # by lengths, before a pixel is read
    assert refused(tmp_path) == told


def test_pixels_absent(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    del datasets[2].PixelData
    save(datasets)
    assert "image 3: holds no pixels, or is cut off before them" in refused(tmp_path)


def test_fewer_pixels_than_promised(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    datasets[0].PixelData = datasets[0].PixelData[:20]
    save(datasets)
    assert "image 1: 20 bytes of pixels where the header promises 40" in refused(tmp_path)


def test_header_cut_off(tmp_path: Path) -> None:
    path = write_series(tmp_path, scan(), AFFINE)[0]
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ScanError, match=r"damaged DICOM file|none holds an image|no DICOM"):
        list_series(path)


def test_a_file_cut_off_anywhere_never_shortens_the_scan(tmp_path: Path) -> None:
    """The last slice is cut: without it the rest would still be a whole scan."""
    path = write_series(tmp_path, scan(), AFFINE)[-1]
    raw = path.read_bytes()
    taken = []
    for length in range(132, len(raw), 17):
        path.write_bytes(raw[:length])
        try:
            taken += [length] if refusal(only(tmp_path)) is None else []
        except ScanError as error:
            cut_off = "damaged DICOM file" in str(error)
            taken += [] if cut_off else [length]
    assert not taken


@given(junk=st.binary(max_size=300))
def test_junk_after_the_magic_word_is_refused_in_one_line(
    junk: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("junk") / "a.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM" + junk)
    with pytest.raises(ScanError) as caught:
        list_series(path)
    assert "\n" not in str(caught.value)


def test_values_that_are_no_numbers_count_as_absent(tmp_path: Path) -> None:
    paths = write_series(tmp_path, scan(), AFFINE)
    raw = paths[0].read_bytes()
    at = raw.index(struct.pack("<HH2s", 0x20, 0x32, b"DS")) + 8
    paths[0].write_bytes(raw[:at] + b"x" + raw[at + 1 :])
    assert "1 of 3 images say not where they lie" in refused(tmp_path)


# --- compressed -------------------------------------------------------------


def test_rle_is_read(tmp_path: Path) -> None:
    data = scan((16, 12, 3))
    datasets = slice_datasets(tmp_path, data, AFFINE)
    for dataset in datasets:
        dataset.compress(RLELossless, encoding_plugin="pydicom")
    save(datasets)
    assert_same_world(read_series(only(tmp_path)), data, AFFINE)


def test_enhanced_rle_is_read(tmp_path: Path) -> None:
    data = scan((8, 6, 4))
    dataset = enhanced_dataset(tmp_path / "a.dcm", data, AFFINE)
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    save([dataset])
    assert_same_world(read_series(only(tmp_path)), data, AFFINE)


def test_rle_that_expands_without_end(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    bomb = bytes([129, 7]) * 50_000
    image = struct.pack("<16I", 2, 64, 64 + len(bomb), *[0] * 13) + bomb * 2
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = RLELossless
        dataset.PixelData = encapsulate([image])
        dataset["PixelData"].is_undefined_length = True
    save(datasets)
    assert "the compressed image is not the 5 x 4 pixels that the header" in refused(tmp_path)


def test_codestream_of_another_size(tmp_path: Path) -> None:
    size = struct.pack(">HHHIIII", 0xFF51, 47, 0, 40_000, 40_000, 0, 0)
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.PixelData = encapsulate([b"\xff\x4f" + size + bytes(40)])
        dataset["PixelData"].is_undefined_length = True
    save(datasets)
    series = only(tmp_path)
    if (told := refusal(series)) is None:
        told = refused(tmp_path)
        assert "not the 5 x 4 pixels that the header promises" in told
    else:
        assert "no decoder for it is there" in told


def test_a_compression_without_decoder_names_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        dataset.PixelData = encapsulate([b"\xff\xd8"])
        dataset["PixelData"].is_undefined_length = True
    save(datasets)
    monkeypatch.setattr(
        pydicom.pixels, "get_decoder", lambda _: SimpleNamespace(is_available=False)
    )
    told = refused(tmp_path)
    assert "compressed as JPEG-LS Lossless Image Compression, and no decoder" in told
    assert told.endswith("install one with pip install python-gdcm")


def test_a_film_is_no_scan(tmp_path: Path) -> None:
    datasets = slice_datasets(tmp_path, scan(), AFFINE)
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
        dataset.PixelData = encapsulate([b"\0\0"])
        dataset["PixelData"].is_undefined_length = True
    save(datasets)
    told = refused(tmp_path)
    assert "transfer syntax MPEG2" in told
    assert "send the series uncompressed" in told


def test_codestream_sizes_are_read() -> None:
    jpeg = b"\xff\xd8\xff\xff\xe0\x00\x04ab\xff\xc3\x00\x0b\x10" + struct.pack(">2H", 7, 9)
    assert codestream_size(jpeg) == (7, 9)
    assert codestream_size(b"\xff\xd8\xff\xf7\x00\x0b\x10" + struct.pack(">2H", 5, 6)) == (5, 6)
    siz = b"\xff\x4f\xff\x51" + struct.pack(">HHIIII", 47, 0, 30, 20, 10, 5)
    assert codestream_size(siz) == (15, 20)
    endless = b"\xff\xd8" + b"\xff\xe0\x00\x02" * 300 + jpeg[9:]
    fragments = (b"", b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd8\xff\xda\x00\x02", b"abcdef")
    for nothing in (*fragments, endless):
        assert codestream_size(nothing) is None


@given(segment=st.binary(max_size=60))
def test_rle_length_is_that_of_the_decoder(segment: bytes) -> None:
    assert rle_length(segment, 1 << 30) == len(_rle_decode_segment(segment))


# --- bombs ------------------------------------------------------------------


def test_deflated_files_are_read(tmp_path: Path) -> None:
    data = scan()
    for path in write_series(tmp_path, data, AFFINE):
        deflated(path)
    assert_same_world(read_series(only(tmp_path)), data, AFFINE)


def test_zeros_behind_deflated_pixels_are_not_inflated(tmp_path: Path) -> None:
    data = scan()
    paths = write_series(tmp_path, data, AFFINE)
    deflated(paths[1], padding=100 << 20)
    tracemalloc.start()
    series = only(tmp_path)
    pixels = read_pixels(series.frames, series.headers, series.name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(pixels[:, :, [0, 1, 2]], data)
    assert peak < 20 << 20


@pytest.mark.parametrize("change", ["cut", "damaged"])
def test_a_damaged_deflated_file(tmp_path: Path, change: str) -> None:
    (path, *_) = write_series(tmp_path, scan((64, 64, 3)), AFFINE)
    deflated(path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-3000] if change == "cut" else raw[:400] + b"\xff" * 100 + raw[500:])
    assert re.search(
        r"the deflated content is (cut off|damaged); export it again", refused(tmp_path)
    )


def test_a_file_beyond_the_limit_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path, *_) = write_series(tmp_path, scan(), AFFINE)
    monkeypatch.setattr("ddmseg.imaging.dicom.file.MAX_FILE_BYTES", 100)
    with pytest.raises(ScanError, match="a DICOM file may have at most 100; convert it"):
        list_series(path)
