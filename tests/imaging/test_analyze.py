"""Analyze pairs: voxels, directions of axes, and what is refused."""

from __future__ import annotations

import gzip
import itertools
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes

from ddmseg.errors import ScanError
from ddmseg.imaging.analyze import centred_affine, pair_paths, read_analyze

CODES = ["".join(letters) for order in itertools.permutations(("LR", "PA", "IS"))
         for letters in itertools.product(*order)]  # fmt: skip
DATA = np.random.default_rng(0).integers(0, 900, (4, 5, 6)).astype(np.int16)


def write_pair(
    folder: Path,
    data: np.ndarray = DATA,
    *,
    stem: str = "S01.native.mri",
    spacing: tuple[float, ...] = (0.5, 1.5, 2.0),
    order: str = "<",
    packed: bool = True,
) -> Path:
    """Write a pair as LONI does: four axes, the last of length 1, and a gzipped image."""
    header = nib.AnalyzeHeader(endianness=order)
    header.set_data_dtype(data.dtype)
    header.set_data_shape((*data.shape, 1))
    header.set_zooms((*spacing, 1.0))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.hdr"
    path.write_bytes(header.binaryblock)
    voxels = data.astype(data.dtype.newbyteorder(order)).tobytes(order="F")
    image = folder / f"{stem}.img{'.gz' if packed else ''}"
    image.write_bytes(gzip.compress(voxels) if packed else voxels)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_a_pair_gives_its_voxels(tmp_path: Path, order: str, packed: bool, dtype: type) -> None:
    data = (DATA % 250).astype(dtype)
    image = read_analyze(write_pair(tmp_path, data, order=order, packed=packed))
    np.testing.assert_array_equal(image.data, data)
    assert image.spacing_mm == (0.5, 1.5, 2.0)
    assert image.name == "S01.native.mri"


def test_voxels_agree_with_nibabel(tmp_path: Path) -> None:
    path = write_pair(tmp_path, packed=False)
    theirs = nib.AnalyzeImage.from_filename(path)
    image = read_analyze(path)
    np.testing.assert_array_equal(image.data, np.asarray(theirs.dataobj)[..., 0])
    np.testing.assert_allclose(image.volume("LAS").affine, theirs.affine)  # its own rule


def test_either_file_may_be_named(tmp_path: Path) -> None:
    header = write_pair(tmp_path)
    image = tmp_path / "S01.native.mri.img.gz"
    assert pair_paths(image) == pair_paths(header) == (header, image)


@pytest.mark.parametrize("orientation", CODES)
def test_axes_point_where_they_are_said_to(orientation: str) -> None:
    affine = centred_affine((4, 5, 6), (0.5, 1.5, 2.0), orientation)
    assert "".join(aff2axcodes(affine)) == orientation
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), (0.5, 1.5, 2.0))
    np.testing.assert_allclose(affine @ (1.5, 2.0, 2.5, 1.0), (0, 0, 0, 1))


@pytest.mark.parametrize("wrong", ["", "RA", "RAX", "RLS", "RASI"])
def test_other_letters_are_refused(wrong: str) -> None:
    with pytest.raises(ScanError, match=f"orientation: got '{wrong}'; it must be three letters"):
        centred_affine((2, 2, 2), (1, 1, 1), wrong)


def test_labels_must_be_whole(tmp_path: Path) -> None:
    whole = read_analyze(write_pair(tmp_path / "a", (DATA % 3).astype(np.float32)))
    assert whole.label_map("RAS").data.dtype.kind == "i"
    parts = read_analyze(write_pair(tmp_path / "b", DATA.astype(np.float32) / 7))
    with pytest.raises(ScanError, match="values that are no whole numbers"):
        parts.label_map("RAS")


def patched(folder: Path, at: int, raw: bytes) -> Path:
    path = write_pair(folder)
    content = bytearray(path.read_bytes())
    content[at : at + len(raw)] = raw
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("at", "raw", "told"),
    [
        (0, b"\0\0\0\0", "not an Analyze 7.5 header of 348 bytes"),
        (344, b"ni1\0", "a NIfTI pair, not Analyze; convert it to .nii.gz first"),
        (40, struct.pack("<h", 2), "the image must have 3 axes"),
        (42, struct.pack("<h", -4), "the image must have 3 axes"),
        (48, struct.pack("<h", 3), "the image must have 3 axes"),
        (70, struct.pack("<h", 32), "voxel type code 32; allowed are"),
        (56, b"cm\0\0", "voxel edges in 'cm'; they must be in mm"),
        (80, struct.pack("<f", 0.0), "mend the header"),
        (80, struct.pack("<f", float("nan")), "mend the header"),
        (42, struct.pack("<3h", 9000, 9000, 9000), "voxels; at most 134217728 are allowed"),
        (42, struct.pack("<h", 5), "promises 300 bytes and the file holds 240"),
        (42, struct.pack("<h", 3), "promises 180 bytes and the file holds more"),
    ],
)
def test_wrong_headers(tmp_path: Path, at: int, raw: bytes, told: str) -> None:
    with pytest.raises(ScanError) as caught:
        read_analyze(patched(tmp_path, at, raw))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_absent_or_damaged(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    image = tmp_path / "S01.native.mri.img.gz"
    image.write_bytes(image.read_bytes()[:-9])
    with pytest.raises(ScanError, match="the gzip data stop early, the file is cut off"):
        read_analyze(path)
    image.write_bytes(b"no gzip at all")
    with pytest.raises(ScanError, match="damaged gzip file"):
        read_analyze(path)
    image.unlink()
    with pytest.raises(ScanError, match=r"no S01\.native\.mri\.img or .*an Analyze image is two"):
        read_analyze(path)
    with pytest.raises(ScanError, match="not named like an Analyze pair"):
        read_analyze(tmp_path / "scan.nii")
    path.write_bytes(path.read_bytes()[:100])
    write_pair(tmp_path / "b")
    image.write_bytes(b"")
    with pytest.raises(ScanError, match=r"not an Analyze 7\.5 header"):
        read_analyze(path)
